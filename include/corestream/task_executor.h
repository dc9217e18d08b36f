// Pinned streams that run tasks.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "corestream/cpu_pool.h"
#include "corestream/errors.h"

namespace corestream {

class Executor;

// One stream (a worker thread and its OpenMP team, pinned) per part of the pool. All methods
// may be called from any thread. The destructor runs what is queued, then ends the threads.
class TaskExecutor {
 public:
  // Throws std::invalid_argument unless 1 <= num_streams <= pool.size(), AffinityError if a CPU
  // cannot be had, std::system_error if a thread cannot be made.
  explicit TaskExecutor(const CPUPool& pool, std::size_t num_streams = 1);
  explicit TaskExecutor(const std::vector<std::int32_t>& core_ids);
  ~TaskExecutor();
  TaskExecutor(const TaskExecutor&) = delete;
  TaskExecutor& operator=(const TaskExecutor&) = delete;

  // Runs `work` on a stream. An exception that leaves it ends the program, as in std::thread:
  // Task (task.h) is what carries results and exceptions back. Throws ShutDown.
  void post(std::function<void()> work);

  std::size_t num_streams() const;

  // The CPUs of the stream that the calling thread is, or an empty list.
  static std::vector<std::int32_t> current_stream_cpus();

 private:
  std::unique_ptr<Executor> executor_;
};

}  // namespace corestream
