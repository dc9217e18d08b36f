// Runs the models of an AOTInductor package: an instance of each per stream, one set of weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fork.h"
#include "runner.h"

namespace torch::inductor {
class AOTIModelPackageLoader;
}

namespace corestream {

class AOTInductorRunner final : public Runner {
 public:
  using Loader = std::shared_ptr<torch::inductor::AOTIModelPackageLoader>;

  // Loads "model" of the package at `path`, and "batch_N" for each N of `batch_sizes`, which runs
  // where dim 0 of the first tensor that has one is N. `num_runners` instances of each.
  AOTInductorRunner(std::string path, int num_runners, std::vector<int64_t> batch_sizes = {});

  // Runs a package that somebody else loaded, with the instances it has.
  explicit AOTInductorRunner(Loader loaded);

  // Inputs: the tensors of the package's input spec, flat. Returns a list of tensors.
  c10::IValue run(torch::jit::Stack inputs, const StreamContext& stream) override;

  // The package's input and output specs, as torch.utils._pytree serialises them.
  std::vector<std::string> call_spec();

  Loader loader() { return models()->any; }

 private:
  struct Models {
    Loader any;
    std::map<int64_t, Loader> by_batch;
  };
  using SharedModels = std::shared_ptr<const Models>;

  SharedModels load() const;
  SharedModels models();

  std::string path_;
  int num_runners_;
  std::vector<int64_t> batch_sizes_;
  ProcessMutex mutex_;
  SharedModels models_;
  uint64_t generation_;
};

}  // namespace corestream
