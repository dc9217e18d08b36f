#include "corestream/task_executor.h"

#include "executor.h"

namespace corestream {
namespace {

StreamOptions options_for(const CPUPool& pool, std::size_t num_streams) {
  StreamOptions options;
  for (const CPUPool& part : pool.split(num_streams)) options.cpus.push_back(part.core_ids());
  return options;
}

}  // namespace

TaskExecutor::TaskExecutor(const CPUPool& pool, std::size_t num_streams)
    : executor_(std::make_unique<Executor>(options_for(pool, num_streams))) {}

TaskExecutor::TaskExecutor(const std::vector<std::int32_t>& core_ids)
    : TaskExecutor(CPUPool(core_ids)) {}

TaskExecutor::~TaskExecutor() = default;

void TaskExecutor::post(std::function<void()> work) {
  auto guarded = [work = std::move(work)] {
    const NativeSection section;
    work();
  };
  executor_->streams()->post(std::make_shared<WorkJob<decltype(guarded)>>(std::move(guarded)), {});
}

std::size_t TaskExecutor::num_streams() const {
  return static_cast<std::size_t>(executor_->streams()->size());
}

std::vector<std::int32_t> TaskExecutor::current_stream_cpus() {
  const StreamContext* stream = current_stream();
  return stream == nullptr ? std::vector<std::int32_t>{} : stream->cpus;
}

}  // namespace corestream
