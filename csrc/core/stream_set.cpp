#include "stream_set.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <optional>
#include <set>

#include "corestream/errors.h"
#include "openmp.h"
#include "team_pin.h"

namespace corestream {
namespace {

thread_local const StreamContext* this_stream = nullptr;

std::atomic<int> creations_left{-1};

void check_thread_creation() {
  if (creations_left.load() < 0) return;
  if (creations_left.fetch_sub(1) > 0) return;
  creations_left = -1;
  throw std::system_error(EAGAIN, std::generic_category(), "cannot start a stream's thread");
}

// Linux keeps 15 characters of a thread's name.
void name_this_thread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

// Collects one report per stream while its set starts.
class StartReports {
 public:
  void add(const std::exception_ptr& error) {
    const std::lock_guard lock(mutex_);
    if (error && !first_error_) first_error_ = error;
    ++arrived_;
    changed_.notify_all();
  }

  std::exception_ptr wait_for(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ == count; });
    return first_error_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  std::exception_ptr first_error_;
};

class FunctionJob final : public Job {
 public:
  explicit FunctionJob(std::function<void(const StreamContext&)> body) : body_(std::move(body)) {}

  void run(const StreamContext& stream) noexcept override {
    try {
      body_(stream);
    } catch (...) {
      error = std::current_exception();
    }
    body_ = nullptr;
    finish();
  }

  void drop() noexcept override { body_ = nullptr; }

  std::exception_ptr error;

 private:
  std::function<void(const StreamContext&)> body_;
};

// Whether a caller has a CPU to run on that is no stream's. If not, a worker that spins beside
// its team, whose members spin too, keeps the caller from its result (MobileNetV2, bf16, batch 1,
// two cores of two: 2.16 ms a call, against 2.09 without the spin).
bool leaves_a_cpu(const std::vector<CpuList>& streams) {
  std::set<int> taken;
  for (const CpuList& cpus : streams) taken.insert(cpus.begin(), cpus.end());
  const CpuList& allowed = startup_affinity();
  return std::any_of(allowed.begin(), allowed.end(),
                     [&](int cpu) { return taken.count(cpu) == 0; });
}

// Intel's and LLVM's runtimes hand a finished master's threads to the next one that asks for some.
void give_back_team(int size) {
  run_on_team(size, [](int) {
    try {
      affinity().set(current_tid(), startup_affinity());
    } catch (const AffinityError&) {
      // The cpuset shrank since start-up; the thread stays inside it.
    }
  });
}

}  // namespace

const StreamContext* current_stream() noexcept {
  // In a child that a task forked, the stream is the parent's.
  const bool is_here =
      this_stream != nullptr && this_stream->streams->generation() == process_generation();
  return is_here ? this_stream : nullptr;
}

void fail_thread_creation_after(int count) { creations_left = count; }

StreamSet::StreamSet(StreamOptions options)
    : options_(std::move(options)), queue_(static_cast<int>(options_.cpus.size())) {
  for (const CpuList& cpus : options_.cpus) {
    auto worker = std::make_unique<Worker>();
    worker->context = {static_cast<int>(workers_.size()), cpus, static_cast<int>(cpus.size()),
                       this};
    has_teams_ = has_teams_ || cpus.size() > 1;
    workers_.push_back(std::move(worker));
  }
  if (has_teams_ && !leaves_a_cpu(options_.cpus)) options_.idle_spin = {};
}

std::shared_ptr<StreamSet> StreamSet::start(StreamOptions options) {
  register_fork_handlers();
  std::shared_ptr<StreamSet> streams(new StreamSet(std::move(options)));
  streams->release_submitters_team();
  streams->create_threads();
  return streams;
}

void StreamSet::create_threads() {
  StartReports reports;
  const std::function<void(std::exception_ptr)> started = [&](std::exception_ptr error) {
    reports.add(error);
  };
  int created = 0;
  std::exception_ptr failure;
  try {
    for (auto& worker : workers_) {
      check_thread_creation();
      worker->thread = std::thread(
          [self = shared_from_this(), &worker = *worker, &started] { self->run(worker, started); });
      ++created;
    }
  } catch (...) {
    failure = std::current_exception();
  }
  const auto start_error = reports.wait_for(created);
  if (!failure) failure = start_error;
  if (!failure) return;
  shutdown(/*wait=*/true, /*cancel_pending=*/true);
  std::rethrow_exception(failure);
}

StreamSet::~StreamSet() {
  for (auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.detach();
  }
}

void StreamSet::run(Worker& worker, const std::function<void(std::exception_ptr)>& started) {
  const auto& context = worker.context;
  std::optional<TeamPin> pin;
  try {
    initialise_thread();
    name_this_thread(worker_name(worker));
    // The runtime makes the team's threads with this thread's mask: first the whole slice.
    CpuList slice = context.cpus;
    std::sort(slice.begin(), slice.end());
    affinity().set(current_tid(), slice);
    pin.emplace(context.cpus, startup_affinity());
    adopt_team(worker, *pin);
    pin->on_repin([&] { adopt_team(worker, *pin); });
  } catch (...) {
    started(std::current_exception());
    return;
  }
  this_stream = &worker.context;
  started(nullptr);
  serve(worker);
  this_stream = nullptr;
  // A task forked and returned in the child: its process ends with it, as it would with the
  // last thread, even if the child has started streams of its own meanwhile.
  if (generation_ != process_generation()) _exit(EXIT_SUCCESS);
  if (openmp().kind != OpenMPKind::libgomp) give_back_team(context.team_size);
}

std::string StreamSet::worker_name(const Worker& worker) const {
  return options_.name + "s" + std::to_string(worker.context.index);
}

void StreamSet::adopt_team(Worker& worker, const TeamPin& pin) {
  {
    const std::lock_guard lock(mutex_);
    worker.thread_ids = pin.member_tids();
  }
  const std::string name = worker_name(worker);
  run_on_team(worker.context.team_size, [&](int member) {
    if (member > 0) name_this_thread(name + "t" + std::to_string(member));
  });
}

void StreamSet::serve(Worker& worker) {
  while (auto job = next(worker)) {
    if (!job->try_start()) continue;
    job->run(worker.context);
    if (generation_ != process_generation()) return;
  }
}

std::shared_ptr<Job> StreamSet::next(Worker& worker) {
  {
    const std::lock_guard lock(mutex_);
    if (auto job = queue_.pop(worker.context.index)) return job;
    if (is_stopping_) return nullptr;
    worker.is_idle = true;
  }
  worker.signal.wait(options_.idle_spin);
  return std::move(worker.mailbox);
}

StreamSet::Worker* StreamSet::idle_worker(Placement placement) {
  Worker* own = placement.lane == Lane::any ? nullptr : workers_[placement.stream].get();
  if (own != nullptr && own->is_idle) return own;
  if (placement.lane == Lane::exclusive) return nullptr;
  Worker* asleep = nullptr;
  for (auto& worker : workers_) {
    if (!worker->is_idle) continue;
    if (!worker->signal.is_asleep()) return worker.get();
    if (asleep == nullptr) asleep = worker.get();
  }
  return asleep;
}

void StreamSet::check_open(size_t arriving, bool bounded) const {
  if (is_stopping_) {
    throw ShutDown("the executor must be running; got a task after shutdown(); make a new one");
  }
  if (!bounded || options_.queue_capacity == 0) return;
  size_t idle = 0;
  for (const auto& worker : workers_) idle += worker->is_idle ? 1 : 0;
  const size_t waiting = queue_.size() + (arriving > idle ? arriving - idle : 0);
  if (waiting <= options_.queue_capacity) return;
  throw QueueFull("the queue must have room; got " + std::to_string(arriving) + " task(s) with " +
                  std::to_string(queue_.size()) + " of " + std::to_string(options_.queue_capacity) +
                  " waiting; wait for a result, or raise queue_capacity");
}

StreamSet::Worker* StreamSet::place(const std::shared_ptr<Job>& job, Placement placement) {
  Worker* worker = idle_worker(placement);
  if (worker == nullptr) {
    queue_.push(job, placement);
  } else {
    worker->is_idle = false;
    worker->mailbox = job;
  }
  return worker;
}

void StreamSet::release_submitters_team() const {
  // A stream of one CPU has no barriers to be slow at. A stream's own team, and that of a pinned
  // thread, are theirs to keep; anyone else's is idle while its thread waits for a task.
  if (has_teams_ && this_stream == nullptr && TeamPin::innermost() == nullptr) release_idle_team();
}

void StreamSet::post(const std::shared_ptr<Job>& job, Placement placement, bool bounded) {
  release_submitters_team();
  Worker* chosen = nullptr;
  {
    const std::lock_guard lock(mutex_);
    // What a running task brings forth must still run while the set drains.
    if (bounded || !is_stopping_) check_open(1, bounded);
    chosen = place(job, placement);
  }
  if (chosen != nullptr) chosen->signal.notify();
}

void StreamSet::post_group(const std::vector<std::shared_ptr<Job>>& jobs) {
  release_submitters_team();
  std::vector<Worker*> chosen;
  chosen.reserve(jobs.size());
  {
    const std::lock_guard lock(mutex_);
    check_open(jobs.size(), /*bounded=*/true);
    for (size_t part = 0; part < jobs.size(); ++part) {
      const int stream = static_cast<int>(part % workers_.size());
      if (Worker* worker = place(jobs[part], {Lane::preferred, stream})) chosen.push_back(worker);
    }
  }
  for (Worker* worker : chosen) worker->signal.notify();
}

bool StreamSet::cancel(Job& job) {
  if (!job.try_cancel()) return false;
  if (generation_ == process_generation()) {
    const std::lock_guard lock(mutex_);
    queue_.remove(&job);
  }
  job.drop();
  return true;
}

bool StreamSet::cancel_group(const std::vector<std::shared_ptr<Job>>& jobs) {
  if (generation_ != process_generation()) return false;
  {
    // Parts are handed out under this lock: if the queue holds every part, no stream has one,
    // and none will get one once they are out.
    const std::lock_guard lock(mutex_);
    const auto is_waiting = [&](const auto& job) { return queue_.contains(job.get()); };
    if (!std::all_of(jobs.begin(), jobs.end(), is_waiting)) return false;
    for (const auto& job : jobs) queue_.remove(job.get());
  }
  for (const auto& job : jobs) {
    if (job->try_cancel()) job->drop();
  }
  return true;
}

bool StreamSet::run_inline(Job& job) {
  const StreamContext* stream = current_stream();
  if (stream == nullptr || stream->streams != this) return false;
  {
    // Begun and taken out in one step: cancel_group() counts what the queue holds as not begun.
    const std::lock_guard lock(mutex_);
    if (!job.try_start()) return false;
    queue_.remove(&job);
  }
  job.run(*stream);
  return true;
}

bool StreamSet::wait_on_stream(const Completion& work, const Deadline& deadline) {
  // A continuation that arrives meanwhile wakes nobody who is here: look for one now and then.
  constexpr auto kLook = std::chrono::milliseconds(1);
  while (!work.is_over()) {
    std::shared_ptr<Job> job;
    {
      const std::lock_guard lock(mutex_);
      job = queue_.pop_continuation();
    }
    if (job != nullptr) {
      if (job->try_start()) job->run(*this_stream);
      continue;
    }
    auto until = Clock::now() + kLook;
    if (deadline && *deadline < until) until = *deadline;
    if (work.wait(until, std::chrono::nanoseconds(0))) return true;
    if (deadline && Clock::now() >= *deadline) return work.is_over();
  }
  return true;
}

void StreamSet::shutdown(bool wait, bool cancel_pending) {
  if (generation_ != process_generation()) return;
  std::vector<std::shared_ptr<Job>> dropped;
  std::vector<Worker*> idle;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    if (cancel_pending) dropped = queue_.drain();
    for (auto& worker : workers_) {
      if (!worker->is_idle) continue;
      worker->is_idle = false;
      idle.push_back(worker.get());
    }
  }
  for (Worker* worker : idle) worker->signal.notify();
  for (const auto& job : dropped) {
    if (job->try_cancel()) job->drop();
  }
  const bool is_own_stream = this_stream != nullptr && this_stream->streams == this;
  if (wait && !is_own_stream) join();
}

void StreamSet::join() noexcept {
  const std::lock_guard lock(join_mutex_);
  for (auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
}

void StreamSet::on_every_stream(const std::function<void(const StreamContext&)>& body) {
  if (this_stream != nullptr && this_stream->streams == this) {
    // Two streams that each waited for the other's turn would wait for ever.
    throw std::logic_error("what runs on every stream must be asked for outside them; got a call " +
                           ("from stream " + std::to_string(this_stream->index)) +
                           "; make it from the thread that submits");
  }
  std::vector<std::shared_ptr<FunctionJob>> jobs;
  std::vector<Worker*> chosen;
  {
    const std::lock_guard lock(mutex_);
    check_open(workers_.size(), /*bounded=*/false);
    for (int stream = 0; stream < size(); ++stream) {
      jobs.push_back(std::make_shared<FunctionJob>(body));
      if (Worker* worker = place(jobs.back(), {Lane::exclusive, stream})) chosen.push_back(worker);
    }
  }
  for (Worker* worker : chosen) worker->signal.notify();
  for (const auto& job : jobs) job->wait(std::nullopt, std::chrono::nanoseconds(0));
  for (const auto& job : jobs) {
    if (job->error) std::rethrow_exception(job->error);
    if (job->state() == Completion::State::cancelled) {
      throw Cancelled("the executor was shut down before every stream had its turn");
    }
  }
}

void StreamSet::repin() {
  on_every_stream([](const StreamContext&) { TeamPin::innermost()->repin(); });
}

std::chrono::nanoseconds StreamSet::caller_spin() const {
  // A caller that spins on a CPU of a team holds up its barriers; one that shares a CPU with a
  // lone worker hands over to it by yielding.
  constexpr auto kSpin = std::chrono::microseconds(20);
  if (!has_teams_) return kSpin;
  const int cpu = sched_getcpu();
  for (const CpuList& cpus : options_.cpus) {
    if (std::find(cpus.begin(), cpus.end(), cpu) != cpus.end()) return {};
  }
  return kSpin;
}

std::vector<StreamInfo> StreamSet::infos() const {
  const std::lock_guard lock(mutex_);
  std::vector<StreamInfo> infos;
  for (const auto& worker : workers_) {
    infos.push_back({worker->context.cpus, worker->context.team_size, worker->thread_ids});
  }
  return infos;
}

size_t StreamSet::pending() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

}  // namespace corestream
