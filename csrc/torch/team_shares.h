// Work divided among the calling thread's team. at::parallel_for is a template that divides nothing
// in a library that is compiled without OpenMP, as this one is.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "capture.h"
#include "openmp.h"
#include "team_barrier.h"

namespace corestream {

// Multiplications that are worth another thread: about what waking a team takes.
constexpr int64_t kLeastProducts = 200'000;
// Multiplications of a step that are worth another thread: what meeting it takes.
constexpr int64_t kLeastStepProducts = 20'000;
// Bytes to copy that are.
constexpr int64_t kBytesPerThread = 64 * 1024;

// Members that there are, of whom each gets a piece at least, and as much work as waking it takes.
inline int team_size_for(int64_t pieces, int64_t work, int64_t least_work) {
  const int available = at::in_parallel_region() ? 1 : at::get_num_threads();
  return static_cast<int>(std::clamp<int64_t>(std::min(pieces, work / least_work), 1, available));
}

// The share of their time that members are busy with so many pieces.
inline double evenness(int64_t pieces, int64_t members) {
  const int64_t most = (pieces + members - 1) / members;
  return static_cast<double>(pieces) / static_cast<double>(most * members);
}

inline std::pair<int64_t, int64_t> share(int64_t count, int64_t member, int64_t members) {
  return {count * member / members, count * (member + 1) / members};
}

// Runs body(work, 0) to body(work, size - 1), each once; it must not throw. A runtime may give a
// smaller team than it was asked for (OMP_THREAD_LIMIT): the caller does what is left.
//
// All of the team wake, also for less: libgomp ends the threads that a smaller region leaves out,
// and makes new ones for the next. A stream's would then share its first CPU, since they inherit
// their maker's mask: a model of some dozen layers took minutes on 16 cores.
//
// check() is called once it has run, and throws what the body could not.
//
// A graph that is captured keeps the work and runs it again, so all that the body needs is in it,
// by value, with pointers to nothing but tensors: operands, or what new_tensor made.
template <typename Work, typename Body>
void run_shares(int size, const Work& work, const Body& body,
                const std::function<void()>& check = nullptr) {
  static_assert(std::is_empty_v<Body>, "what the body needs must be a part of the work");
  if (Capture* capture = Capture::current()) {
    capture->add({size, [work, body](int member) { body(work, member); }, check});
  }
  int ran = 1;
  if (size == 1) {
    body(work, 0);
  } else {
    const auto run = [&](int member) {
      if (member < size) body(work, member);
    };
    ran = run_on_team(at::get_num_threads(), run);
  }
  for (int member = ran; member < size; ++member) body(work, member);
  if (check) check();
}

// Runs body(work, step, 0) to body(work, step, size - 1) for each step, when all of the one before
// have run: one region for all steps, as a team takes as long to begin as a short step. Else as
// run_shares.
template <typename Work, typename Body>
void run_steps(int size, int64_t steps, const Work& work, const Body& body) {
  static_assert(std::is_empty_v<Body>, "what the body needs must be a part of the work");
  if (Capture* capture = Capture::current()) {
    for (int64_t step = 0; step < steps; ++step) {
      capture->add({size, [work, body, step](int member) { body(work, step, member); }, nullptr,
                    /*is_further_step=*/step > 0});
    }
  }
  TeamBarrier barrier;
  const std::function<void(int, int)> run = [&](int member, int members) {
    const int met = std::min(size, members);
    if (member >= met) return;
    for (int64_t step = 0; step < steps; ++step) {
      for (int part = member; part < size; part += met) body(work, step, part);
      if (met > 1 && step + 1 < steps) barrier.wait(met);
    }
  };
  run_on_team(size == 1 ? 1 : at::get_num_threads(), run);
}

}  // namespace corestream
