#include "team_pin.h"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>

#include "corestream/errors.h"
#include "fork.h"
#include "openmp.h"

namespace corestream {
namespace {

thread_local TeamPin* innermost_pin = nullptr;

CpuList ascending(CpuList cpus) {
  std::sort(cpus.begin(), cpus.end());
  return cpus;
}

}  // namespace

TeamPin* TeamPin::innermost() { return innermost_pin; }

TeamPin::TeamPin(CpuList cpus, CpuList home)
    : cpus_(std::move(cpus)),
      home_(std::move(home)),
      generation_(process_generation()),
      outer_(innermost_pin) {
  register_fork_handlers();
  const auto& runtime = openmp();
  if (runtime.kind != OpenMPKind::none && runtime.in_parallel()) {
    throw std::runtime_error(
        "pin must be entered outside an OpenMP parallel region; got a call from inside one; "
        "move it around the region");
  }
  size_ = std::make_unique<ScopedTeamSize>(static_cast<int>(cpus_.size()));
  saved_.resize(cpus_.size());
  tids_.resize(cpus_.size());
  try {
    pin_members(/*save=*/true);
  } catch (...) {
    unpin_members();
    size_.reset();
    make_outer_whole();
    throw;
  }
  if (home_.empty()) home_ = saved_[0].mask;
  innermost_pin = this;
}

void TeamPin::pin_members(bool save) {
  const int size = static_cast<int>(cpus_.size());
  const bool lone = size == 1 || openmp().kind == OpenMPKind::none;
  std::vector<std::exception_ptr> errors(cpus_.size());
  const int ran = run_on_team(size, [&](int member) {
    try {
      const pid_t tid = current_tid();
      tids_[member] = tid;
      if (save) saved_[member] = {tid, affinity().get(tid)};
      affinity().set(tid, lone ? ascending(cpus_) : CpuList{cpus_[member]});
    } catch (...) {
      errors[member] = std::current_exception();
    }
  });
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  if (lone) {
    tids_.resize(1);
  } else if (ran != size) {
    throw std::runtime_error("the team must have " + std::to_string(size) + " threads; got " +
                             std::to_string(ran) + "; unset OMP_THREAD_LIMIT and OMP_DYNAMIC");
  }
}

void TeamPin::unpin_members() noexcept {
  run_on_team(static_cast<int>(cpus_.size()), [&](int member) {
    const pid_t tid = current_tid();
    // A thread that the runtime made inside the scope inherited a pinned mask: it gets the
    // master's, which is what it would have inherited outside.
    const Saved& own = saved_[member].tid == tid ? saved_[member] : saved_[0];
    if (own.mask.empty()) return;  // never pinned: this member failed in the constructor
    try {
      affinity().set(tid, own.mask);
    } catch (const AffinityError&) {
      // The cpuset shrank meanwhile; the kernel has already moved the thread inside it.
    }
  });
}

void TeamPin::repin() {
  pin_members(/*save=*/false);
  if (listener_) listener_();
}

TeamPin::~TeamPin() {
  if (generation_ != process_generation()) return;  // restored by restore_after_fork
  innermost_pin = outer_;
  unpin_members();
  size_.reset();
  make_outer_whole();
}

void TeamPin::make_outer_whole() noexcept {
  if (outer_ == nullptr || outer_->cpus_.size() == cpus_.size()) return;
  // A smaller team ended threads of the outer scope's, a larger one left threads that the next
  // region ends; either way the outer team is made whole and pinned before its code goes on.
  try {
    outer_->repin();
  } catch (const std::exception&) {
    // As above: a mask that the kernel no longer grants leaves the thread inside its cpuset.
  }
}

void TeamPin::restore_after_fork() {
  TeamPin* outermost = innermost_pin;
  if (outermost == nullptr) return;
  while (outermost->outer_ != nullptr) outermost = outermost->outer_;
  innermost_pin = nullptr;
  try {
    affinity().set(current_tid(), outermost->home_);
  } catch (const AffinityError&) {
    // The child keeps the pinned mask, which is inside its cpuset.
  }
}

}  // namespace corestream
