// A task for libtorch: its calls see the caller's grad mode, inference mode and autocast.
//
//   const c10::InferenceMode inference;
//   corestream::TorchTask task(softmax, executor);
//   std::future<at::Tensor> future = task(input);  // runs in inference mode too
#pragma once

#include <ATen/ThreadLocalState.h>

#include "corestream/task.h"

namespace corestream {

// As Task (task.h), and the state that torch keeps per thread (at::ThreadLocalState: grad and
// inference mode, autocast, profiler) is taken at each call and holds while it runs.
template <typename F, typename... Args>
class TorchTask {
 public:
  TorchTask(F function, std::shared_ptr<TaskExecutor> executor)
      : task_(UnderCallerState{std::move(function)}, std::move(executor)) {}

  template <typename... CallArgs>
  auto operator()(CallArgs&&... args) const {
    return task_(at::ThreadLocalState(), std::forward<CallArgs>(args)...);
  }

 private:
  struct UnderCallerState {
    template <typename... CallArgs>
    std::invoke_result_t<std::decay_t<F>&, CallArgs...> operator()(
        const at::ThreadLocalState& state, CallArgs&&... args) {
      const at::ThreadLocalStateGuard guard(state);
      return std::invoke(function, std::forward<CallArgs>(args)...);
    }

    std::decay_t<F> function;
  };

  Task<UnderCallerState> task_;
};

template <typename F>
TorchTask(F, std::shared_ptr<TaskExecutor>) -> TorchTask<F>;

}  // namespace corestream
