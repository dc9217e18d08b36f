// A callable bound to an executor: calling it returns a std::future at once.
//
//   at::Tensor softmax(at::Tensor input);
//   auto executor = std::make_shared<corestream::TaskExecutor>(std::vector<int32_t>{0, 1});
//   corestream::Task<at::Tensor (*)(at::Tensor), at::Tensor> task(softmax, executor);
//   std::future<at::Tensor> future = task(std::move(input));
//
// or, with the types deduced,  corestream::Task task(softmax, executor);
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "corestream/task_executor.h"

namespace corestream {

// F: a function pointer, a std::function or any callable, capturing lambdas included.
// Args: only kept so that Task<F, Args...> may name them; calls accept whatever F accepts.
//
// Arguments: an lvalue stays a reference, so it must outlive the task; an rvalue is stored.
// A task may be called from several threads and may be destroyed while its calls run.
template <typename F, typename... Args>
class Task {
 public:
  Task(F function, std::shared_ptr<TaskExecutor> executor)
      : function_(std::make_shared<std::decay_t<F>>(std::move(function))),
        executor_(std::move(executor)) {}

  template <typename... CallArgs>
  auto operator()(CallArgs&&... args) const {
    using Result = std::invoke_result_t<std::decay_t<F>&, CallArgs...>;
    // std::tuple<T&> holds lvalues by reference and std::tuple<T> rvalues by value.
    auto call = std::make_shared<std::packaged_task<Result()>>(
        [function = function_,
         stored = std::tuple<CallArgs...>(std::forward<CallArgs>(args)...)]() mutable -> Result {
          return std::apply(
              [&](auto&... values) -> Result {
                return std::invoke(*function, std::forward<CallArgs>(values)...);
              },
              stored);
        });
    std::future<Result> future = call->get_future();
    executor_->post([call = std::move(call)] { (*call)(); });
    return future;
  }

 private:
  std::shared_ptr<std::decay_t<F>> function_;
  std::shared_ptr<TaskExecutor> executor_;
};

template <typename F>
Task(F, std::shared_ptr<TaskExecutor>) -> Task<F>;

}  // namespace corestream
