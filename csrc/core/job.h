// What a stream runs.
#pragma once

#include <optional>
#include <utility>

#include "completion.h"
#include "cpu_list.h"

namespace corestream {

class StreamSet;

// The stream that the calling code runs on.
struct StreamContext {
  int index = 0;
  CpuList cpus;
  int team_size = 1;
  StreamSet* streams = nullptr;
};

// nullptr on a thread that is not a stream.
const StreamContext* current_stream() noexcept;

class Job : public Completion {
 public:
  // On a stream's thread, after try_start() succeeded. Lets go of its inputs, then calls
  // finish(), at once or later from another thread. Errors are kept for whoever waits.
  virtual void run(const StreamContext& stream) noexcept = 0;

  // Whether it is a piece of a job that has begun: a stream that waits for that job may run it.
  virtual bool is_continuation() const noexcept { return false; }

  // The job will never run: lets go of its inputs. After try_cancel() succeeded.
  virtual void drop() noexcept = 0;
};

// Runs a function without arguments, which must not throw.
template <typename Work>
class WorkJob final : public Job {
 public:
  explicit WorkJob(Work work, bool is_continuation = false)
      : work_(std::move(work)), is_continuation_(is_continuation) {}

  bool is_continuation() const noexcept override { return is_continuation_; }

  void run(const StreamContext&) noexcept override {
    (*work_)();
    work_.reset();
    finish();
  }

  void drop() noexcept override { work_.reset(); }

 private:
  std::optional<Work> work_;
  const bool is_continuation_;
};

}  // namespace corestream
