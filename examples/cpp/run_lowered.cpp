// Loads a lowered model's file and runs it on two streams at once: one copy of the weights.
//   run_lowered MODEL.pt2    the model takes a tensor of 8 columns and returns a tensor; it was
//                            lowered by the AOTInductor backend, for a team size of 1
#include <ATen/ATen.h>
#include <corestream/corestream.h>
#include <corestream/torch/torch_task.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: run_lowered MODEL.pt2\n";
    return 2;
  }
  auto core_ids = corestream::allowed_cpus();
  const auto num_streams = std::min<std::size_t>(2, core_ids.size());
  core_ids.resize(num_streams);  // streams of one core each
  const auto executor =
      std::make_shared<corestream::TaskExecutor>(corestream::CPUPool(core_ids), num_streams);

  // An instance for each stream; with fewer, streams would wait for one another.
  torch::inductor::AOTIModelPackageLoader model(argv[1], "model", /*run_single_threaded=*/false,
                                                num_streams);
  // The compiled code reads the memory as the example's was laid out, and does not check.
  const corestream::TorchTask task(
      [&model](const at::Tensor& part) { return model.run({part.contiguous()}).front(); },
      executor);

  const at::Tensor batch = at::ones({16, 8});
  const auto parts = batch.chunk(2);
  auto first = task(parts[0]);
  auto second = task(parts[1]);
  const at::Tensor result = at::cat({first.get(), second.get()});

  std::cout << "rows: " << result.size(0) << "\nfirst row:";
  for (const at::Tensor& value : result[0].unbind()) std::cout << ' ' << value.item<float>();
  std::cout << "\nrows are equal: " << std::boolalpha
            << at::allclose(result, result[0].expand_as(result)) << "\n";
}
