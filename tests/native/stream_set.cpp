#include "stream_set.h"

#include <fstream>
#include <set>
#include <thread>

#include "corestream/errors.h"
#include "support.h"

namespace corestream {
namespace {

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string task_file(pid_t tid, const std::string& name) {
  return text_of("/proc/self/task/" + std::to_string(tid) + "/" + name);
}

TEST(each_stream_runs_what_is_for_it) {
  const SimulatedCpus machine(8);
  for (const int num_streams : {1, 2, 3, 8}) {
    const Streams streams(one_cpu_each(num_streams));
    CHECK_EQ(streams->size(), num_streams);
    for (int stream = num_streams - 1; stream >= 0; --stream) {
      const auto job = make_job([&](const StreamContext& context) {
        CHECK_EQ(context.cpus, CpuList{stream});
        CHECK_EQ(context.team_size, 1);
        CHECK(current_stream() == &context);
        CHECK_EQ(affinity().get(0), CpuList{stream});
      });
      streams->post(job, {Lane::exclusive, stream});
      wait_for(*job);
      CHECK_EQ(job->stream_index.load(), stream);
    }
    CHECK(current_stream() == nullptr);
  }
}

TEST(infos_name_cpus_and_threads) {
  const SimulatedCpus machine(4);
  StreamOptions options = one_cpu_each(0);
  options.cpus = {{3}, {1}};
  options.name = "cs-infos";
  const Streams streams(options);
  const auto infos = streams->infos();
  CHECK_EQ(infos.size(), 2u);
  CHECK_EQ(infos[0].cpus, CpuList{3});
  CHECK_EQ(infos[1].thread_ids.size(), 1u);
  CHECK_EQ(task_file(infos[1].thread_ids[0], "comm"), "cs-infoss1\n");
}

TEST(one_stream_keeps_the_order) {
  const SimulatedCpus machine(1);
  const Streams streams(one_cpu_each(1));
  Blocker blocker(*streams, 0);
  std::vector<int> ran;
  std::vector<std::shared_ptr<TestJob>> jobs;
  for (int number = 0; number < 50; ++number) {
    jobs.push_back(make_job([&, number](const StreamContext&) { ran.push_back(number); }));
    const Lane lane = number % 3 == 0   ? Lane::any
                      : number % 3 == 1 ? Lane::preferred
                                        : Lane::exclusive;
    streams->post(jobs.back(), {lane, 0});
  }
  CHECK_EQ(streams->pending(), 50u);
  blocker.release();
  wait_for(*jobs.back());
  CHECK_EQ(ran.size(), 50u);
  CHECK(std::is_sorted(ran.begin(), ran.end()));
}

TEST(an_idle_stream_helps_a_busy_one) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  const Blocker blocker(*streams, 0);
  const auto preferred = make_job(), any = make_job();
  streams->post(preferred, {Lane::preferred, 0});
  streams->post(any, {});
  wait_for(*preferred);
  wait_for(*any);
  CHECK_EQ(preferred->stream_index.load(), 1);
  CHECK_EQ(any->stream_index.load(), 1);
}

TEST(queued_work_is_taken_over_when_a_stream_gets_free) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  const Blocker busy(*streams, 0);
  Blocker free(*streams, 1);
  const auto preferred = make_job();
  streams->post(preferred, {Lane::preferred, 0});
  CHECK_EQ(streams->pending(), 1u);
  free.release();
  wait_for(*preferred);
  CHECK_EQ(preferred->stream_index.load(), 1);
}

TEST(exclusive_work_waits_for_its_stream) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  Blocker blocker(*streams, 0);
  const auto exclusive = make_job(), marker = make_job();
  streams->post(exclusive, {Lane::exclusive, 0});
  streams->post(marker, {Lane::exclusive, 1});
  wait_for(*marker);
  CHECK(exclusive->state() == Completion::State::queued);
  blocker.release();
  wait_for(*exclusive);
  CHECK_EQ(exclusive->stream_index.load(), 0);
}

TEST(many_threads_may_post) {
  constexpr int kPosters = 4, kEach = 500;
  const SimulatedCpus machine(3);
  std::atomic<int> ran{0};
  {
    const Streams streams(one_cpu_each(3));
    std::vector<std::thread> posters;
    for (int poster = 0; poster < kPosters; ++poster) {
      posters.emplace_back([&, poster] {
        for (int number = 0; number < kEach; ++number) {
          const auto job = make_job([&](const StreamContext&) { ++ran; });
          streams->post(job, {number % 2 == 0 ? Lane::any : Lane::preferred, poster % 3});
          if (number % 50 == 0) wait_for(*job);
        }
      });
    }
    for (auto& poster : posters) poster.join();
  }
  CHECK_EQ(ran.load(), kPosters * kEach);
}

TEST(cancel_takes_queued_work_out) {
  const SimulatedCpus machine(1);
  const Streams streams(one_cpu_each(1));
  Blocker blocker(*streams, 0);
  const auto first = make_job(), second = make_job();
  streams->post(first, {});
  streams->post(second, {});
  CHECK(streams->cancel(*first));
  CHECK(!streams->cancel(*first));
  CHECK(!streams->cancel(*blocker.job()));
  CHECK(first->is_dropped.load());
  CHECK_EQ(streams->pending(), 1u);
  blocker.release();
  wait_for(*second);
  CHECK_EQ(first->stream_index.load(), -1);
}

TEST(a_stream_runs_inline_what_it_waits_for) {
  const SimulatedCpus machine(1);
  const Streams streams(one_cpu_each(1));
  const auto inner = make_job();
  const auto outer = make_job([&](const StreamContext&) {
    streams->post(inner, {});
    CHECK(streams->run_inline(*inner));
    CHECK(!streams->run_inline(*inner));
    CHECK(inner->is_over());
  });
  streams->post(outer, {});
  wait_for(*outer);
  CHECK_EQ(inner->stream_index.load(), 0);
  CHECK_EQ(streams->pending(), 0u);
}

TEST(only_an_own_stream_runs_inline) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(1)), others(one_cpu_each(1));
  Blocker blocker(*streams, 0);
  const auto job = make_job();
  streams->post(job, {});
  CHECK(!streams->run_inline(*job));
  const auto elsewhere = make_job([&](const StreamContext&) { CHECK(!streams->run_inline(*job)); });
  others->post(elsewhere, {});
  wait_for(*elsewhere);
  CHECK(job->state() == Completion::State::queued);
  blocker.release();
}

TEST(every_stream_has_its_turn) {
  const SimulatedCpus machine(8);
  for (const int num_streams : {1, 2, 3, 8}) {
    const Streams streams(one_cpu_each(num_streams));
    std::mutex mutex;
    std::multiset<int> seen;
    streams->on_every_stream([&](const StreamContext& stream) {
      const std::lock_guard lock(mutex);
      seen.insert(stream.index);
    });
    for (int stream = 0; stream < num_streams; ++stream) CHECK_EQ(seen.count(stream), 1u);
    streams->repin();
    CHECK_EQ(streams->infos().size(), static_cast<size_t>(num_streams));
  }
}

TEST(errors_on_every_stream_travel) {
  const SimulatedCpus machine(3);
  const Streams streams(one_cpu_each(3));
  std::atomic<int> ran{0};
  CHECK_THROWS(std::runtime_error, "stream 1",
               streams->on_every_stream([&](const StreamContext& stream) {
                 ++ran;
                 if (stream.index == 1) throw std::runtime_error("stream 1");
               }));
  CHECK_EQ(ran.load(), 3);
  const auto after = make_job();
  streams->post(after, {Lane::exclusive, 1});
  wait_for(*after);
}

TEST(a_stream_cannot_ask_for_every_stream) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  const auto job = make_job([&](const StreamContext&) {
    CHECK_THROWS(std::logic_error, "from stream 1",
                 streams->on_every_stream([](const StreamContext&) {}));
  });
  streams->post(job, {Lane::exclusive, 1});
  wait_for(*job);
}

TEST(idle_streams_sleep) {
  const SimulatedCpus machine(3);
  const Streams streams(one_cpu_each(3));
  for (const auto& info : streams->infos()) {
    // "tid (name) S ...": asleep in the kernel, where it uses no CPU.
    const auto is_asleep = [&] {
      const std::string stat = task_file(info.thread_ids[0], "stat");
      return stat.find(") S ") != std::string::npos;
    };
    while (!is_asleep()) std::this_thread::yield();
  }
  const auto job = make_job();
  streams->post(job, {});
  wait_for(*job);
}

}  // namespace
}  // namespace corestream
