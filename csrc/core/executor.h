// An executor: one StreamSet per process. After a fork the child's first use makes a new one.
#pragma once

#include "stream_set.h"

namespace corestream {

class Executor {
 public:
  explicit Executor(StreamOptions options);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Whether the streams are those of this process; false in a child that has not used them yet.
  bool has_streams() const noexcept;

  // The streams of this process. Throws what StreamSet's constructor throws.
  std::shared_ptr<StreamSet> streams();

  // As StreamSet's, and for good: a child of this process does not start streams again.
  void shutdown(bool wait, bool cancel_pending);
  bool is_shut_down() const { return is_shut_down_.load(); }

 private:
  StreamOptions options_;
  std::shared_ptr<StreamSet> streams_;
  std::mutex mutex_;
  std::atomic<StreamSet*> current_{nullptr};
  std::atomic<bool> is_shut_down_{false};
};

}  // namespace corestream
