#include "openmp.h"

#include <dlfcn.h>

#include <atomic>

namespace corestream {
namespace {

OpenMPKind kind_of(const std::string& path) {
  const std::string name = path.substr(path.find_last_of('/') + 1);
  if (name.find("iomp") != std::string::npos) return OpenMPKind::libiomp5;
  if (name.find("gomp") != std::string::npos) return OpenMPKind::libgomp;
  if (name.find("omp") != std::string::npos) return OpenMPKind::libomp;
  return OpenMPKind::none;
}

// The dynamic linker's own search order: what a preload puts first is what torch's calls reach.
// libgomp alone is also looked up by name, because a wheel may load it without RTLD_GLOBAL.
void* find(const char* symbol) {
  if (void* address = dlsym(RTLD_DEFAULT, symbol)) return address;
  void* library = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return nullptr;
  void* address = dlsym(library, symbol);
  dlclose(library);
  return address;
}

template <typename Function>
void resolve(Function*& slot, const char* symbol) {
  slot = reinterpret_cast<Function*>(find(symbol));
}

OpenMPRuntime look_up() {
  OpenMPRuntime runtime;
  resolve(runtime.parallel, "GOMP_parallel");
  resolve(runtime.set_num_threads, "omp_set_num_threads");
  resolve(runtime.get_max_threads, "omp_get_max_threads");
  resolve(runtime.get_thread_num, "omp_get_thread_num");
  resolve(runtime.get_num_threads, "omp_get_num_threads");
  resolve(runtime.in_parallel, "omp_in_parallel");
  resolve(runtime.pause_resource_all, "omp_pause_resource_all");
  const bool complete = runtime.parallel && runtime.set_num_threads && runtime.get_max_threads &&
                        runtime.get_thread_num && runtime.get_num_threads && runtime.in_parallel;
  if (!complete) return {};
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(runtime.parallel), &info) != 0) {
    runtime.path = info.dli_fname;
    runtime.kind = kind_of(runtime.path);
  }
  return runtime;
}

struct TeamCall {
  const std::function<void(int, int)>& body;
  const OpenMPRuntime& runtime;
  std::atomic<int> ran{0};
};

void run_member(void* data) {
  auto& call = *static_cast<TeamCall*>(data);
  call.body(call.runtime.get_thread_num(), call.runtime.get_num_threads());
  call.ran.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

const OpenMPRuntime& openmp() {
  static const OpenMPRuntime none;
  static std::atomic<const OpenMPRuntime*> found{nullptr};
  if (const auto* runtime = found.load(std::memory_order_acquire)) return *runtime;
  // Two threads may both look it up; both find the same, and one copy stays for good.
  auto runtime = look_up();
  if (runtime.kind == OpenMPKind::none) return none;
  const OpenMPRuntime* expected = nullptr;
  auto* fresh = new OpenMPRuntime(std::move(runtime));
  if (!found.compare_exchange_strong(expected, fresh)) {
    delete fresh;
    return *expected;
  }
  return *fresh;
}

const char* to_string(OpenMPKind kind) {
  switch (kind) {
    case OpenMPKind::libgomp:
      return "libgomp";
    case OpenMPKind::libiomp5:
      return "libiomp5";
    case OpenMPKind::libomp:
      return "libomp";
    case OpenMPKind::none:
      break;
  }
  return "none";
}

int run_on_team(int size, const std::function<void(int, int)>& body) {
  const auto& runtime = openmp();
  if (runtime.kind == OpenMPKind::none || size == 1 || runtime.in_parallel()) {
    body(0, 1);
    return 1;
  }
  TeamCall call{body, runtime};
  runtime.parallel(&run_member, &call, static_cast<unsigned>(size), 0);
  return call.ran.load(std::memory_order_relaxed);
}

int run_on_team(int size, const std::function<void(int)>& body) {
  const std::function<void(int, int)> alone = [&](int member, int) { body(member); };
  return run_on_team(size, alone);
}

bool release_idle_team() {
  const auto& runtime = openmp();
  if (runtime.kind != OpenMPKind::libgomp || runtime.pause_resource_all == nullptr) return false;
  if (runtime.in_parallel()) return false;
  constexpr int kPauseSoft = 1;  // omp_pause_soft, OpenMP 5.0 section 3.2.42
  return runtime.pause_resource_all(kPauseSoft) == 0;
}

}  // namespace corestream
