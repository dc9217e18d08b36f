// The calling thread's OpenMP team size, and what other libraries must hear about it.
#pragma once

namespace corestream {

// Libraries that keep a thread count of their own per thread (ATen's lazy one, MKL's) register
// here, so that the core needs to know neither.
struct TeamSizeHooks {
  // Called before this thread's first change, so that no lazy initialisation undoes it later.
  void (*initialise_thread)() = nullptr;
  // Sets the calling thread's count; returns what it was (0: followed OpenMP's).
  int (*exchange_library_threads)(int count) = nullptr;
};

void set_team_size_hooks(TeamSizeHooks hooks);

// Lets the libraries' lazy per-thread initialisation happen now. ATen's may start threads for
// the whole process (QNNPACK's), which take over the caller's name and mask.
void initialise_thread();

// Sets the team size of the calling thread for the scope's life.
class ScopedTeamSize {
 public:
  explicit ScopedTeamSize(int size);
  ~ScopedTeamSize();
  ScopedTeamSize(const ScopedTeamSize&) = delete;
  ScopedTeamSize& operator=(const ScopedTeamSize&) = delete;

 private:
  int openmp_before_ = 0;
  int library_before_ = 0;
};

}  // namespace corestream
