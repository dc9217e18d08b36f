// Runs an AOTInductor package with one model instance per stream over one set of weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "fork.h"
#include "runner.h"

namespace torch::inductor {
class AOTIModelPackageLoader;
}

namespace corestream {

class AOTInductorRunner final : public Runner {
 public:
  using Loader = std::shared_ptr<torch::inductor::AOTIModelPackageLoader>;

  // Loads `path` with `num_runners` instances.
  AOTInductorRunner(std::string path, int num_runners);

  // Runs a package that somebody else loaded, with the instances it has.
  explicit AOTInductorRunner(Loader loaded);

  // Inputs: the tensors of the package's input spec, flat. Returns a list of tensors.
  c10::IValue run(torch::jit::Stack inputs, const StreamContext& stream) override;

  // The package's input and output specs, as torch.utils._pytree serialises them.
  std::vector<std::string> call_spec();

  Loader loader();

 private:
  std::string path_;
  int num_runners_;
  ProcessMutex mutex_;
  Loader loader_;
  uint64_t generation_;
};

}  // namespace corestream
