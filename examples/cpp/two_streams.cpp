// Loads a TorchScript file and runs it on two streams at once: one copy of the weights.
//   two_streams MODEL.pt     the model takes a tensor of 8 columns and returns a tensor
#include <corestream/corestream.h>
#include <corestream/torch/torch_task.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: two_streams MODEL.pt\n";
    return 2;
  }
  torch::jit::Module module = torch::jit::load(argv[1]);
  module.eval();
  const c10::InferenceMode inference;

  const corestream::CPUPool pool(corestream::allowed_cpus());
  const auto num_streams = std::min<std::size_t>(2, pool.size());
  const auto executor = std::make_shared<corestream::TaskExecutor>(pool, num_streams);
  // A TorchTask: the streams run in the caller's inference mode.
  const corestream::TorchTask task(
      [&module](const at::Tensor& part) { return module.forward({part}).toTensor(); }, executor);

  const at::Tensor batch = at::rand({16, 8});
  const auto parts = batch.chunk(2);
  auto first = task(parts[0]);
  auto second = task(parts[1]);
  const at::Tensor result = at::cat({first.get(), second.get()});

  const at::Tensor expected = module.forward({batch}).toTensor();
  std::cout << std::boolalpha << "rows: " << result.size(0)
            << "\nequal to one call: " << at::allclose(result, expected)
            << "\ninference mode: " << result.is_inference() << "\n";
}
