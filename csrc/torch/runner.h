// How a stream calls a model.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>

#include "job.h"

namespace corestream {

class Runner {
 public:
  virtual ~Runner() = default;

  // On a stream's thread, without the GIL, from several streams at once. `inputs` is what
  // the runner's own front end made of the caller's arguments. The answer is a value, or a
  // torch future (c10::ivalue::Future) where the model suspended itself.
  virtual c10::IValue run(torch::jit::Stack inputs, const StreamContext& stream) = 0;
};

}  // namespace corestream
