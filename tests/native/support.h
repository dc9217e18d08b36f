// What several suites need: jobs with a body, pretended machines, children.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <latch>
#include <memory>

#include "affinity.h"
#include "stream_set.h"
#include "testing.h"

namespace corestream {

using namespace std::chrono_literals;

class SimulatedCpus {
 public:
  explicit SimulatedCpus(int num_cpus) {
    replace_affinity_layer(make_simulated_affinity(num_cpus));
  }
  ~SimulatedCpus() { replace_affinity_layer(nullptr); }
  SimulatedCpus(const SimulatedCpus&) = delete;
  SimulatedCpus& operator=(const SimulatedCpus&) = delete;
};

class TestJob final : public Job {
 public:
  using Body = std::function<void(const StreamContext&)>;
  explicit TestJob(Body body) : body_(std::move(body)) {}

  void run(const StreamContext& stream) noexcept override {
    if (body_) body_(stream);
    body_ = nullptr;
    stream_index = stream.index;
    finish();
  }

  void drop() noexcept override { is_dropped = true; }

  std::atomic<int> stream_index{-1};
  std::atomic<bool> is_dropped{false};

 private:
  Body body_;
};

inline std::shared_ptr<TestJob> make_job(TestJob::Body body = nullptr) {
  return std::make_shared<TestJob>(std::move(body));
}

inline void wait_for(const Completion& completion) { completion.wait(std::nullopt, 0ns); }

// `num_streams` streams of one CPU each, on a machine that SimulatedCpus pretends.
inline StreamOptions one_cpu_each(int num_streams) {
  StreamOptions options;
  for (int stream = 0; stream < num_streams; ++stream) options.cpus.push_back({stream});
  options.idle_spin = 0ns;
  return options;
}

// Streams for a test's life.
class Streams {
 public:
  explicit Streams(StreamOptions options) : set_(StreamSet::start(std::move(options))) {}
  ~Streams() { set_->shutdown(/*wait=*/true, /*cancel_pending=*/false); }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  StreamSet* operator->() const { return set_.get(); }
  StreamSet& operator*() const { return *set_; }

 private:
  std::shared_ptr<StreamSet> set_;
};

// Holds a stream until released; made after the streams, so that it lets go of them first.
class Blocker {
 public:
  Blocker(StreamSet& streams, int stream) {
    job_ = make_job([gate = gate_, busy = busy_](const StreamContext&) {
      busy->count_down();
      gate->wait();
    });
    streams.post(job_, {Lane::exclusive, stream}, /*bounded=*/false);
    busy_->wait();
  }
  ~Blocker() { release(); }
  Blocker(const Blocker&) = delete;
  Blocker& operator=(const Blocker&) = delete;

  void release() {
    if (!is_released_) gate_->count_down();
    is_released_ = true;
  }

  const std::shared_ptr<TestJob>& job() const { return job_; }

 private:
  std::shared_ptr<std::latch> gate_ = std::make_shared<std::latch>(1);
  std::shared_ptr<std::latch> busy_ = std::make_shared<std::latch>(1);
  std::shared_ptr<TestJob> job_;
  bool is_released_ = false;
};

// ThreadSanitizer knows the parent's threads in the child too, and ends a child that starts a
// thread where one of them was ("dup thread with used id"): there, only the address sanitizer
// and the plain build run such children.
#ifdef __SANITIZE_THREAD__
constexpr bool kChildrenMayStartThreads = false;
#else
constexpr bool kChildrenMayStartThreads = true;
#endif

// Runs `body` in a forked child; true if it came to its end. A child that hangs is ended.
inline bool succeeds_in_child(const std::function<bool()>& body) {
  std::cout.flush();
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    bool succeeded = false;
    try {
      succeeded = body();
    } catch (const std::exception& error) {
      testing::fail(__FILE__, __LINE__, std::string("in the child: ") + error.what());
    }
    _exit(succeeded ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace corestream
