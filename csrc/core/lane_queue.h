// Jobs that wait for a stream: one lane per stream and one for whoever comes first.
// Not thread-safe: its owner locks.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "job.h"

namespace corestream {

enum class Lane { any, preferred, exclusive };

// Where a job may run: on any stream, best on `stream`, or only on `stream`.
struct Placement {
  Lane lane = Lane::any;
  int stream = 0;
};

class LaneQueue {
 public:
  explicit LaneQueue(int num_streams) : lanes_(num_streams + 1) {}

  void push(std::shared_ptr<Job> job, Placement placement);

  // The oldest job of the stream's own lane and the common one; failing that, the oldest that
  // another stream was preferred for. nullptr when there is none.
  std::shared_ptr<Job> pop(int stream);

  // The oldest continuation, or nullptr.
  std::shared_ptr<Job> pop_continuation();

  bool contains(const Job* job) const;
  bool remove(const Job* job);
  // Takes everything but continuations: the jobs that they belong to have begun, and end.
  std::vector<std::shared_ptr<Job>> drain();
  size_t size() const { return size_; }

 private:
  struct Entry {
    uint64_t age;
    bool exclusive;
    std::shared_ptr<Job> job;
  };
  using Entries = std::deque<Entry>;

  Entries& common() { return lanes_.back(); }
  std::shared_ptr<Job> take(Entries& lane, size_t position);
  std::shared_ptr<Job> steal(int thief);

  std::vector<Entries> lanes_;
  uint64_t next_age_ = 0;
  size_t size_ = 0;
};

}  // namespace corestream
