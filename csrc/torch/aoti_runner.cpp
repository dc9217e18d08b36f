#include "aoti_runner.h"

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include "corestream/errors.h"

namespace corestream {
namespace {

using torch::inductor::AOTIModelPackageLoader;

// Of the batch that all tensors share.
int64_t batch_size(const std::vector<at::Tensor>& tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (tensor.dim() > 0) return tensor.size(0);
  }
  return -1;
}

}  // namespace

AOTInductorRunner::AOTInductorRunner(std::string path, int num_runners,
                                     std::vector<int64_t> batch_sizes)
    : path_(std::move(path)),
      num_runners_(num_runners),
      batch_sizes_(std::move(batch_sizes)),
      models_(load()),
      generation_(process_generation()) {}

AOTInductorRunner::AOTInductorRunner(Loader loaded)
    : num_runners_(0),
      models_(std::make_shared<Models>(Models{.any = std::move(loaded), .by_batch = {}})),
      generation_(process_generation()) {}

AOTInductorRunner::SharedModels AOTInductorRunner::load() const {
  // Two loaders made at once race (Triton's pytorch_backend#205 serialises them too).
  static ProcessMutex one_at_a_time;
  const auto turn = one_at_a_time.lock();
  const auto load_one = [this](const std::string& name) {
    return std::make_shared<AOTIModelPackageLoader>(path_, name, /*run_single_threaded=*/false,
                                                    static_cast<size_t>(num_runners_));
  };
  Models models{.any = load_one("model"), .by_batch = {}};
  for (const int64_t size : batch_sizes_) {
    models.by_batch.emplace(size, load_one("batch_" + std::to_string(size)));
  }
  return std::make_shared<const Models>(std::move(models));
}

AOTInductorRunner::SharedModels AOTInductorRunner::models() {
  const auto lock = mutex_.lock();
  if (generation_ == process_generation()) return models_;
  // The parent's instances may be lent to threads that do not exist here; the old loaders are
  // left alone, because their end would wait for them.
  if (path_.empty()) {
    throw ForkedFuture(
        "the package must be loaded in this process; got one loaded before a fork; give its "
        "path to Task instead of the loaded object");
  }
  new SharedModels(std::move(models_));
  models_ = load();
  generation_ = process_generation();
  return models_;
}

std::vector<std::string> AOTInductorRunner::call_spec() { return loader()->get_call_spec(); }

c10::IValue AOTInductorRunner::run(torch::jit::Stack inputs, const StreamContext&) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(inputs.size());
  for (auto& input : inputs) tensors.push_back(std::move(input).toTensor());
  inputs.clear();
  const SharedModels loaded = models();
  const auto own = loaded->by_batch.find(batch_size(tensors));
  const Loader& model = own == loaded->by_batch.end() ? loaded->any : own->second;
  return model->boxed_run(std::move(tensors));
}

}  // namespace corestream
