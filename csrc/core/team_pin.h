// Pins the calling thread's OpenMP team, member i to cpus[i], and puts every mask and the team
// size back. Scopes nest; each belongs to the thread that made it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "affinity.h"
#include "team_size.h"

namespace corestream {

class TeamPin {
 public:
  // `cpus`: one per member, in the pool's order; must not be empty.
  // `home`: the mask of this thread's copy in a forked child; empty: the mask found here.
  // Throws AffinityError (nothing stays pinned) or std::runtime_error.
  explicit TeamPin(CpuList cpus, CpuList home = {});
  ~TeamPin();
  TeamPin(const TeamPin&) = delete;
  TeamPin& operator=(const TeamPin&) = delete;

  // Pins the team again after the runtime may have replaced threads.
  void repin();

  // Called by repin(), on the pinned thread: member_tids() may have changed.
  void on_repin(std::function<void()> listener) { listener_ = std::move(listener); }

  const CpuList& cpus() const { return cpus_; }
  // Thread ids of the members; shorter than cpus() where no OpenMP runtime is loaded.
  const std::vector<pid_t>& member_tids() const { return tids_; }

  // The scope the calling thread is in, or nullptr.
  static TeamPin* innermost();

  // In a forked child: the calling thread gets back the mask it had outside all scopes.
  static void restore_after_fork();

 private:
  struct Saved {
    pid_t tid = 0;
    CpuList mask;
  };

  void pin_members(bool save);
  void unpin_members() noexcept;
  void make_outer_whole() noexcept;

  CpuList cpus_;
  CpuList home_;
  std::function<void()> listener_;
  uint64_t generation_;
  TeamPin* outer_;
  std::unique_ptr<ScopedTeamSize> size_;
  std::vector<Saved> saved_;
  std::vector<pid_t> tids_;
};

}  // namespace corestream
