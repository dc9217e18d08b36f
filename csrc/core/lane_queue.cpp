#include "lane_queue.h"

namespace corestream {

void LaneQueue::push(std::shared_ptr<Job> job, Placement placement) {
  Entries& lane = placement.lane == Lane::any ? common() : lanes_[placement.stream];
  lane.push_back({next_age_++, placement.lane == Lane::exclusive, std::move(job)});
  ++size_;
}

std::shared_ptr<Job> LaneQueue::take(Entries& lane, size_t position) {
  auto job = std::move(lane[position].job);
  lane.erase(lane.begin() + static_cast<std::ptrdiff_t>(position));
  --size_;
  return job;
}

std::shared_ptr<Job> LaneQueue::pop(int stream) {
  if (size_ == 0) return nullptr;
  Entries& own = lanes_[stream];
  if (own.empty() && common().empty()) return steal(stream);
  const bool own_first =
      common().empty() || (!own.empty() && own.front().age < common().front().age);
  return take(own_first ? own : common(), 0);
}

std::shared_ptr<Job> LaneQueue::steal(int thief) {
  Entries* victim = nullptr;
  size_t position = 0;
  for (size_t stream = 0; stream + 1 < lanes_.size(); ++stream) {
    if (static_cast<int>(stream) == thief) continue;
    Entries& lane = lanes_[stream];
    size_t first = 0;
    while (first < lane.size() && lane[first].exclusive) ++first;
    if (first == lane.size()) continue;
    if (victim == nullptr || lane[first].age < (*victim)[position].age) {
      victim = &lane;
      position = first;
    }
  }
  return victim == nullptr ? nullptr : take(*victim, position);
}

std::shared_ptr<Job> LaneQueue::pop_continuation() {
  for (size_t position = 0; position < common().size(); ++position) {
    if (common()[position].job->is_continuation()) return take(common(), position);
  }
  return nullptr;
}

bool LaneQueue::contains(const Job* job) const {
  for (const Entries& lane : lanes_) {
    for (const Entry& entry : lane) {
      if (entry.job.get() == job) return true;
    }
  }
  return false;
}

bool LaneQueue::remove(const Job* job) {
  for (Entries& lane : lanes_) {
    for (size_t position = 0; position < lane.size(); ++position) {
      if (lane[position].job.get() != job) continue;
      take(lane, position);
      return true;
    }
  }
  return false;
}

std::vector<std::shared_ptr<Job>> LaneQueue::drain() {
  std::vector<std::shared_ptr<Job>> jobs;
  for (Entries& lane : lanes_) {
    Entries kept;
    for (Entry& entry : lane) {
      if (entry.job->is_continuation()) {
        kept.push_back(std::move(entry));
      } else {
        jobs.push_back(std::move(entry.job));
      }
    }
    lane = std::move(kept);
  }
  size_ -= jobs.size();
  return jobs;
}

}  // namespace corestream
