// A callable bound to an executor: calling it returns a std::future at once.
//
//   at::Tensor softmax(at::Tensor input);
//   auto executor = std::make_shared<corestream::TaskExecutor>(std::vector<int32_t>{0, 1});
//   corestream::Task<at::Tensor (*)(at::Tensor), at::Tensor> task(softmax, executor);
//   std::future<at::Tensor> future = task(std::move(input));
//
// or, with the types deduced,  corestream::Task task(softmax, executor);
#pragma once

#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "corestream/task_executor.h"

namespace corestream {
namespace detail {

// One call of a task. It lets go of the function and the arguments before the future is ready,
// which std::packaged_task keeps as long as the future.
template <typename Result, typename F, typename... Args>
class TaskCall {
 public:
  TaskCall(std::shared_ptr<F> function, Args&&... args)
      : function_(std::move(function)), args_(std::in_place, std::forward<Args>(args)...) {}

  std::future<Result> future() { return promise_.get_future(); }

  void run() noexcept {
    try {
      if constexpr (std::is_void_v<Result>) {
        invoke();
        release();
        promise_.set_value();
      } else {
        Result result = invoke();
        release();
        promise_.set_value(std::forward<Result>(result));
      }
    } catch (...) {
      release();
      promise_.set_exception(std::current_exception());
    }
  }

 private:
  Result invoke() {
    return std::apply(
        [this](auto&... values) -> Result {
          return std::invoke(*function_, std::forward<Args>(values)...);
        },
        *args_);
  }

  void release() noexcept {
    args_.reset();
    function_.reset();
  }

  std::shared_ptr<F> function_;
  // std::tuple<T&> holds lvalues by reference and std::tuple<T> rvalues by value.
  std::optional<std::tuple<Args...>> args_;
  std::promise<Result> promise_;
};

}  // namespace detail

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

  // The future carries the result or what the function threw. Throws ShutDown.
  template <typename... CallArgs>
  auto operator()(CallArgs&&... args) const {
    using Function = std::decay_t<F>;
    using Result = std::invoke_result_t<Function&, CallArgs...>;
    auto call = std::make_shared<detail::TaskCall<Result, Function, CallArgs...>>(
        function_, std::forward<CallArgs>(args)...);
    std::future<Result> future = call->future();
    executor_->post([call = std::move(call)] { call->run(); });
    return future;
  }

 private:
  std::shared_ptr<std::decay_t<F>> function_;
  std::shared_ptr<TaskExecutor> executor_;
};

template <typename F>
Task(F, std::shared_ptr<TaskExecutor>) -> Task<F>;

}  // namespace corestream
