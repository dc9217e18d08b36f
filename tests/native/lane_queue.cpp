#include "lane_queue.h"

#include "support.h"

namespace corestream {
namespace {

using Jobs = std::vector<std::shared_ptr<Job>>;

Jobs make_jobs(size_t count) {
  Jobs jobs(count);
  for (auto& job : jobs) job = make_job();
  return jobs;
}

TEST(an_empty_queue_has_nothing) {
  LaneQueue queue(2);
  CHECK(queue.pop(0) == nullptr);
  CHECK_EQ(queue.size(), 0u);
}

TEST(a_stream_takes_the_older_of_its_own_and_the_common_lane) {
  LaneQueue queue(2);
  const Jobs jobs = make_jobs(4);
  queue.push(jobs[0], {});
  queue.push(jobs[1], {Lane::preferred, 0});
  queue.push(jobs[2], {Lane::exclusive, 0});
  queue.push(jobs[3], {});
  for (const auto& job : jobs) CHECK(queue.pop(0) == job);
  CHECK_EQ(queue.size(), 0u);
}

TEST(an_idle_stream_takes_the_oldest_that_another_was_preferred_for) {
  LaneQueue queue(3);
  const Jobs jobs = make_jobs(3);
  queue.push(jobs[0], {Lane::preferred, 1});
  queue.push(jobs[1], {Lane::preferred, 0});
  queue.push(jobs[2], {Lane::preferred, 1});
  CHECK(queue.pop(2) == jobs[0]);
  CHECK(queue.pop(2) == jobs[1]);
  CHECK(queue.pop(2) == jobs[2]);
}

TEST(common_work_goes_before_stolen_work) {
  LaneQueue queue(2);
  const Jobs jobs = make_jobs(2);
  queue.push(jobs[0], {Lane::preferred, 0});
  queue.push(jobs[1], {});
  CHECK(queue.pop(1) == jobs[1]);
  CHECK(queue.pop(1) == jobs[0]);
}

TEST(exclusive_work_is_never_stolen) {
  LaneQueue queue(2);
  const Jobs jobs = make_jobs(3);
  queue.push(jobs[0], {Lane::exclusive, 0});
  queue.push(jobs[1], {Lane::preferred, 0});
  queue.push(jobs[2], {Lane::exclusive, 0});
  CHECK(queue.pop(1) == jobs[1]);
  CHECK(queue.pop(1) == nullptr);
  CHECK_EQ(queue.size(), 2u);
  CHECK(queue.pop(0) == jobs[0]);
  CHECK(queue.pop(0) == jobs[2]);
}

TEST(a_removed_job_is_gone) {
  LaneQueue queue(2);
  const Jobs jobs = make_jobs(3);
  queue.push(jobs[0], {});
  queue.push(jobs[1], {Lane::exclusive, 1});
  CHECK(queue.contains(jobs[1].get()));
  CHECK(!queue.contains(jobs[2].get()));
  CHECK(queue.remove(jobs[1].get()));
  CHECK(!queue.remove(jobs[1].get()));
  CHECK(!queue.contains(jobs[1].get()));
  CHECK_EQ(queue.size(), 1u);
  CHECK(queue.pop(1) == jobs[0]);
}

TEST(drain_empties_every_lane) {
  LaneQueue queue(2);
  const Jobs jobs = make_jobs(3);
  queue.push(jobs[0], {});
  queue.push(jobs[1], {Lane::exclusive, 1});
  queue.push(jobs[2], {Lane::preferred, 0});
  CHECK_EQ(queue.drain().size(), 3u);
  CHECK_EQ(queue.size(), 0u);
  CHECK(queue.pop(0) == nullptr && queue.pop(1) == nullptr);
}

}  // namespace
}  // namespace corestream
