// The streams of one pool in one process: their threads, their teams, their queue.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "fork.h"
#include "lane_queue.h"
#include "parker.h"

namespace corestream {

class TeamPin;

struct StreamOptions {
  std::vector<CpuList> cpus;  // one list per stream, in the pool's order
  size_t queue_capacity = 0;  // jobs that may wait; 0: no limit
  std::string name = "cs";    // threads are called <name>s<stream>[t<member>]
  // How long an idle stream looks for work before it sleeps. 100 us covers a caller that
  // prepares its next call, and costs 2.5 % of a core at 250 calls a second.
  std::chrono::nanoseconds idle_spin = std::chrono::microseconds(100);
};

struct StreamInfo {
  CpuList cpus;
  int team_size = 1;
  std::vector<pid_t> thread_ids;  // the worker first, then its team
};

// The threads share ownership: a set lives until shutdown() was called and its last thread ended.
class StreamSet : public std::enable_shared_from_this<StreamSet> {
 public:
  // Starts and pins every stream. On failure none is left, and the first error is thrown.
  static std::shared_ptr<StreamSet> start(StreamOptions options);

  ~StreamSet();
  StreamSet(const StreamSet&) = delete;
  StreamSet& operator=(const StreamSet&) = delete;

  // Throws QueueFull or ShutDown; then nothing was queued. Jobs that a running job brings forth
  // are not bounded: their parent waits for them.
  void post(const std::shared_ptr<Job>& job, Placement placement, bool bounded = true);

  // All or none. Job k prefers stream k modulo the number of streams.
  void post_group(const std::vector<std::shared_ptr<Job>>& jobs);

  // True if the job had not started; it never will.
  bool cancel(Job& job);

  // All or none.
  bool cancel_group(const std::vector<std::shared_ptr<Job>>& jobs);

  // On one of these streams: runs the job here if no stream has begun it, so that a task which
  // waits for another never waits for itself.
  bool run_inline(Job& job);

  // On one of these streams: waits for `work`, and meanwhile runs continuations, since what it
  // waits for may have suspended itself and need a stream to go on. False if the wait timed out.
  bool wait_on_stream(const Completion& work, const Deadline& deadline);

  // Refuses further work; waits for what runs, and for what is queued unless it is cancelled.
  // On one of these streams it does not wait, since it would wait for itself.
  void shutdown(bool wait, bool cancel_pending);

  // Runs `body` on every stream, each on its own, and waits. The first error is thrown.
  // Throws ShutDown; Cancelled if a shutdown came before a stream's turn; std::logic_error on
  // one of these streams.
  void on_every_stream(const std::function<void(const StreamContext&)>& body);

  // Makes every team whole again after something may have replaced its threads.
  void repin();

  // How long a thread that waits for a result should look for it before it sleeps; a wake-up
  // costs as much.
  std::chrono::nanoseconds caller_spin() const;

  // The CPUs of a stream; needs no lock, so that a forked child may ask too.
  const CpuList& cpus_of(int stream) const {
    return workers_[static_cast<size_t>(stream)]->context.cpus;
  }

  std::vector<StreamInfo> infos() const;
  int size() const { return static_cast<int>(workers_.size()); }
  size_t pending() const;
  uint64_t generation() const { return generation_; }

 private:
  explicit StreamSet(StreamOptions options);

  struct Worker {
    StreamContext context;
    Parker signal;
    std::shared_ptr<Job> mailbox;   // written before the signal, read after it
    bool is_idle = false;           // guarded by mutex_
    std::vector<pid_t> thread_ids;  // guarded by mutex_ once started
    std::thread thread;
  };

  void create_threads();
  void run(Worker& worker, const std::function<void(std::exception_ptr)>& started);
  void serve(Worker& worker);
  void adopt_team(Worker& worker, const TeamPin& pin);
  std::string worker_name(const Worker& worker) const;
  std::shared_ptr<Job> next(Worker& worker);
  void join() noexcept;

  // Called on the submitting thread; see release_idle_team in openmp.h.
  void release_submitters_team() const;

  // Requires: mutex_ held.
  Worker* idle_worker(Placement placement);
  Worker* place(const std::shared_ptr<Job>& job, Placement placement);
  void check_open(size_t arriving, bool bounded) const;

  StreamOptions options_;
  bool has_teams_ = false;
  uint64_t generation_ = process_generation();
  mutable std::mutex mutex_;
  LaneQueue queue_;
  bool is_stopping_ = false;
  std::mutex join_mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Tests: the next `count` thread creations succeed, the one after fails with EAGAIN; -1: never.
void fail_thread_creation_after(int count);

}  // namespace corestream
