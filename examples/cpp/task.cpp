// A function as an asynchronous task on a pinned stream.
#include <ATen/ATen.h>
#include <corestream/corestream.h>

#include <iostream>

// Encapsulate your application into a task function.
at::Tensor taskfunction(at::Tensor input) { return at::softmax(input, -1); }

int main() {
  // One stream with a team of a thread on each CPU.
  const auto task_executor = std::make_shared<corestream::TaskExecutor>(corestream::allowed_cpus());
  const corestream::Task<at::Tensor (*)(at::Tensor), at::Tensor> task(taskfunction, task_executor);

  at::Tensor input_tensor = at::rand({100, 8276});
  const at::Tensor expected = at::softmax(input_tensor, -1);

  // Submit the task; block until it has run and get the result.
  auto res_future = task(std::move(input_tensor));
  const at::Tensor res = res_future.get();
  std::cout << "equal to softmax: " << std::boolalpha << at::allclose(res, expected) << "\n";
}
