#include "team_size.h"

#include <atomic>

#include "openmp.h"

namespace corestream {
namespace {

std::atomic<void (*)()> initialise_hook{nullptr};
std::atomic<int (*)(int)> exchange_library_threads{nullptr};

}  // namespace

void set_team_size_hooks(TeamSizeHooks hooks) {
  initialise_hook = hooks.initialise_thread;
  exchange_library_threads = hooks.exchange_library_threads;
}

void initialise_thread() {
  if (auto* hook = initialise_hook.load()) hook();
}

ScopedTeamSize::ScopedTeamSize(int size) {
  initialise_thread();
  const auto& runtime = openmp();
  if (runtime.kind != OpenMPKind::none) {
    openmp_before_ = runtime.get_max_threads();
    runtime.set_num_threads(size);
  }
  if (auto* exchange = exchange_library_threads.load()) library_before_ = exchange(size);
}

ScopedTeamSize::~ScopedTeamSize() {
  if (openmp_before_ > 0) openmp().set_num_threads(openmp_before_);
  if (auto* exchange = exchange_library_threads.load()) exchange(library_before_);
}

}  // namespace corestream
