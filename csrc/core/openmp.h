// The OpenMP runtime that this process already has. corestream links none of its own: a second
// runtime in one process means two thread pools on the same cores (docs/openmp.md).
#pragma once

#include <functional>
#include <string>

namespace corestream {

enum class OpenMPKind { none, libgomp, libiomp5, libomp };

struct OpenMPRuntime {
  OpenMPKind kind = OpenMPKind::none;
  std::string path;
  // libgomp's entry point for `#pragma omp parallel`; Intel's and LLVM's runtimes export it too.
  void (*parallel)(void (*body)(void*), void* data, unsigned num_threads, unsigned flags) = nullptr;
  void (*set_num_threads)(int) = nullptr;
  int (*get_max_threads)() = nullptr;
  int (*get_thread_num)() = nullptr;
  int (*get_num_threads)() = nullptr;
  int (*in_parallel)() = nullptr;
  int (*pause_resource_all)(int kind) = nullptr;
};

// The runtime torch (or the C++ program) uses; looked up again while there is none.
const OpenMPRuntime& openmp();

const char* to_string(OpenMPKind kind);

// Runs body(0..size-1) on a team of the calling thread, the caller as member 0. Without a
// runtime, or inside a parallel region, only member 0 runs. Returns the number that ran.
// The body must not throw. A region that is smaller than the one before ends threads, so that they
// must be made anew for a larger one.
int run_on_team(int size, const std::function<void(int member)>& body);

// The same, for a body that must know how many run: fewer than asked for, where the runtime has
// no more (OMP_THREAD_LIMIT).
int run_on_team(int size, const std::function<void(int member, int members)>& body);

// Ends the calling thread's idle libgomp team, whose threads would count against every other
// team's right to spin. Does nothing under other runtimes, where a pause stops the whole
// runtime and no such count exists. Returns true if a team may have been ended.
bool release_idle_team();

}  // namespace corestream
