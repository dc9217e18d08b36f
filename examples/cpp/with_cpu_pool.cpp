// Pins the calling thread's OpenMP team to a pool while a scope lives.
#include <ATen/ATen.h>
#include <corestream/corestream.h>

#include <iostream>

int main() {
  const at::Tensor input_tensor = at::rand({100, 8276});
  const corestream::CPUPool cpu_pool({corestream::allowed_cpus().front()});
  at::Tensor res;
  {
    const corestream::WithCPUPool with_cpu_pool(cpu_pool);
    res = at::softmax(input_tensor, -1);
  }
  std::cout << "pinned to CPUs " << to_string(cpu_pool) << "\n";
  std::cout << "sum of " << res.size(0) << " rows: " << res.sum().item<double>() << "\n";
}
