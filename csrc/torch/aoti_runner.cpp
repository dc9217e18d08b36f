#include "aoti_runner.h"

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include "corestream/errors.h"

namespace corestream {
namespace {

using torch::inductor::AOTIModelPackageLoader;

AOTInductorRunner::Loader load(const std::string& path, int num_runners) {
  // Two loaders made at once race (Triton's pytorch_backend#205 serialises them too).
  static ProcessMutex one_at_a_time;
  const auto turn = one_at_a_time.lock();
  return std::make_shared<AOTIModelPackageLoader>(path, "model", /*run_single_threaded=*/false,
                                                  static_cast<size_t>(num_runners));
}

}  // namespace

AOTInductorRunner::AOTInductorRunner(std::string path, int num_runners)
    : path_(std::move(path)),
      num_runners_(num_runners),
      loader_(load(path_, num_runners)),
      generation_(process_generation()) {}

AOTInductorRunner::AOTInductorRunner(Loader loaded)
    : num_runners_(0), loader_(std::move(loaded)), generation_(process_generation()) {}

AOTInductorRunner::Loader AOTInductorRunner::loader() {
  const auto lock = mutex_.lock();
  if (generation_ == process_generation()) return loader_;
  // The parent's instances may be lent to threads that do not exist here; the old loader is
  // left alone, because its end would wait for them.
  if (path_.empty()) {
    throw ForkedFuture(
        "the package must be loaded in this process; got one loaded before a fork; give its "
        "path to Task instead of the loaded object");
  }
  new Loader(std::move(loader_));
  loader_ = load(path_, num_runners_);
  generation_ = process_generation();
  return loader_;
}

std::vector<std::string> AOTInductorRunner::call_spec() { return loader()->get_call_spec(); }

c10::IValue AOTInductorRunner::run(torch::jit::Stack inputs, const StreamContext&) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(inputs.size());
  for (auto& input : inputs) tensors.push_back(std::move(input).toTensor());
  inputs.clear();
  return loader()->boxed_run(std::move(tensors));
}

}  // namespace corestream
