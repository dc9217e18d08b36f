#include "task_group.h"

#include <algorithm>

namespace corestream {

void TaskGroup::post_to(StreamSet& streams) {
  unfinished_ = parts_.size();
  for (const auto& part : parts_) {
    part->add_callback([self = shared_from_this()] { self->part_is_over(); });
  }
  try {
    streams.post_group(parts_);
  } catch (...) {
    for (const auto& part : parts_) {
      if (part->try_cancel()) part->drop();
    }
    throw;
  }
}

void TaskGroup::part_is_over() noexcept {
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const bool is_cancelled = std::all_of(parts_.begin(), parts_.end(), [](const auto& part) {
    return part->state() == State::cancelled;
  });
  if (is_cancelled) {
    try_cancel();
  } else if (try_start()) {
    finish();
  }
}

bool TaskGroup::cancel(StreamSet& streams) { return streams.cancel_group(parts_); }

}  // namespace corestream
