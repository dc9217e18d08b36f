// The parts of one call that run on several streams, waited for as one.
#pragma once

#include "job.h"
#include "stream_set.h"

namespace corestream {

// Over when every part is: a part that fails does not stop the others.
class TaskGroup : public Completion, public std::enable_shared_from_this<TaskGroup> {
 public:
  explicit TaskGroup(std::vector<std::shared_ptr<Job>> parts) : parts_(std::move(parts)) {}

  // Posts the parts to `streams`, part k for stream k. Throws as StreamSet::post_group.
  void post_to(StreamSet& streams);

  // True if no part had started; none ever will.
  bool cancel(StreamSet& streams);

  const std::vector<std::shared_ptr<Job>>& parts() const { return parts_; }

 private:
  void part_is_over() noexcept;

  std::vector<std::shared_ptr<Job>> parts_;
  std::atomic<size_t> unfinished_{0};
};

}  // namespace corestream
