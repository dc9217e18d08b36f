#include "executor.h"

#include <new>

#include "corestream/errors.h"

namespace corestream {
namespace {

// A parent's threads are gone in its child, and with them whoever might hold a lock or a
// reference in the set: it is left as it is, for the kernel to free with the process.
void abandon(std::shared_ptr<StreamSet>& streams) {
  new std::shared_ptr<StreamSet>(std::move(streams));
}

}  // namespace

Executor::Executor(StreamOptions options)
    : options_(std::move(options)), streams_(StreamSet::start(options_)) {
  current_ = streams_.get();
}

Executor::~Executor() {
  if (streams_->generation() != process_generation()) {
    abandon(streams_);
  } else {
    streams_->shutdown(/*wait=*/true, /*cancel_pending=*/false);
  }
}

bool Executor::has_streams() const noexcept {
  return current_.load(std::memory_order_acquire)->generation() == process_generation();
}

std::shared_ptr<StreamSet> Executor::streams() {
  if (has_streams()) return streams_;
  const std::lock_guard lock(mutex_);
  if (has_streams()) return streams_;
  if (is_shut_down_) {
    throw ShutDown(
        "the executor must be running; got one shut down before the fork; make a new one");
  }
  auto fresh = StreamSet::start(options_);
  abandon(streams_);
  streams_ = std::move(fresh);
  current_.store(streams_.get(), std::memory_order_release);
  return streams_;
}

void Executor::shutdown(bool wait, bool cancel_pending) {
  std::shared_ptr<StreamSet> streams;
  {
    const std::lock_guard lock(mutex_);
    is_shut_down_ = true;
    streams = streams_;
  }
  streams->shutdown(wait, cancel_pending);
}

}  // namespace corestream
