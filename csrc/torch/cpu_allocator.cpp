#include "cpu_allocator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

namespace corestream {
namespace {

// Below, malloc's own lists serve without page faults.
constexpr size_t kSmallest = size_t{64} << 10;
// Sizes are rounded up to 4 significant bits, so that other batch sizes find a block too; at most
// an eighth is wasted.
constexpr size_t kSteps = 8;

size_t step_of(size_t size) {
  size_t step = 4096;
  while (step * kSteps * 2 <= size) step *= 2;
  return step;
}

size_t rounded_up(size_t size) {
  const size_t step = step_of(size);
  return (size + step - 1) / step * step;
}

size_t rounded_down(size_t size) { return size / step_of(size) * step_of(size); }

std::atomic<size_t> limit{0};

struct Block {
  void* data;
  size_t size;
};

// What one thread keeps, the latest last: that one is still in the core's caches.
class Keeper {
 public:
  void* take(size_t size) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(blocks_.rbegin(), blocks_.rend(),
                                    [size](const Block& block) { return block.size == size; });
    if (found == blocks_.rend()) {
      ++made_;
      return nullptr;
    }
    void* data = found->data;
    bytes_ -= size;
    blocks_.erase(std::next(found).base());
    ++reused_;
    return data;
  }

  void keep(Block block) {
    const std::lock_guard lock(mutex_);
    blocks_.push_back(block);
    bytes_ += block.size;
    // Read under the lock: after the limit was lowered, release() is still to come or has been.
    shrink_to(limit.load());
  }

  size_t release() {
    const std::lock_guard lock(mutex_);
    const size_t before = bytes_;
    shrink_to(0);
    return before;
  }

  void add_to(TensorMemory& sum) {
    const std::lock_guard lock(mutex_);
    sum.kept_bytes += bytes_;
    sum.reused += reused_;
    sum.made += made_;
  }

 private:
  void shrink_to(size_t limit_bytes) {
    while (bytes_ > limit_bytes) {
      bytes_ -= blocks_.front().size;
      std::free(blocks_.front().data);
      blocks_.pop_front();
    }
  }

  std::mutex mutex_;
  std::deque<Block> blocks_;
  size_t bytes_ = 0;
  uint64_t reused_ = 0;
  uint64_t made_ = 0;
};

struct Registry {
  std::mutex mutex;
  std::vector<Keeper*> keepers;
  TensorMemory ended;  // counts of threads that are gone
};

// Never destroyed: tensors may be freed after the static objects are.
Registry& registry() {
  static Registry* const instance = new Registry;
  return *instance;
}

enum class Stage : unsigned char { unused, alive, ended };
thread_local Stage stage = Stage::unused;

class ThreadKeeper {
 public:
  ThreadKeeper() {
    const std::lock_guard lock(registry().mutex);
    registry().keepers.push_back(&keeper);
    stage = Stage::alive;
  }
  ~ThreadKeeper() {
    // Tensors in other thread-local objects may be freed after this one.
    stage = Stage::ended;
    const std::lock_guard lock(registry().mutex);
    keeper.release();
    keeper.add_to(registry().ended);
    std::erase(registry().keepers, &keeper);
  }
  ThreadKeeper(const ThreadKeeper&) = delete;
  ThreadKeeper& operator=(const ThreadKeeper&) = delete;

  Keeper keeper;
};

Keeper* thread_keeper() {
  if (stage == Stage::ended) return nullptr;
  static thread_local ThreadKeeper instance;
  return &instance.keeper;
}

void* make(size_t size) {
  try {
    return c10::alloc_cpu(size);
  } catch (const c10::Error&) {
    if (release_tensor_memory() == 0) throw;
    return c10::alloc_cpu(size);
  }
}

void* obtain(size_t size) {
  if (size < kSmallest || limit.load(std::memory_order_relaxed) == 0) return make(size);
  const size_t rounded = rounded_up(size);
  Keeper* const keeper = thread_keeper();
  void* const data = keeper == nullptr ? nullptr : keeper->take(rounded);
  return data == nullptr ? make(rounded) : data;
}

void let_go(void* data) {
  if (data == nullptr) return;
  c10::profiledCPUMemoryReporter().Delete(data);
  const bool is_on = limit.load(std::memory_order_relaxed) != 0;
  // malloc knows the size, also of what another allocator made before this one was installed.
  const size_t size = is_on ? malloc_usable_size(data) : 0;
  Keeper* const keeper = size < kSmallest ? nullptr : thread_keeper();
  if (keeper == nullptr) {
    c10::free_cpu(data);
  } else {
    keeper->keep({data, rounded_down(size)});
  }
}

class CPUAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    void* const data = obtain(size);
    c10::profiledCPUMemoryReporter().New(data, size);
    return {data, data, &let_go, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &let_go; }
  void copy_data(void* target, const void* source, size_t size) const override {
    default_copy_data(target, source, size);
  }
};

// Other threads look into a keeper only while they hold the registry: a fork that waits for it
// finds the forking thread's keeper whole. The keepers of threads that the child does not have
// are left alone there, with what they hold. Keepers are not locked before a fork: the core's own
// handler, which may run after this one, waits for streams to leave native code.
void before_fork() { registry().mutex.lock(); }

void after_fork_in_parent() { registry().mutex.unlock(); }

void after_fork_in_child() {
  registry().keepers.clear();
  if (stage == Stage::alive) registry().keepers.push_back(thread_keeper());
  registry().mutex.unlock();
}

void install() {
  static CPUAllocator* const instance = new CPUAllocator;
  c10::Allocator* const current = c10::GetCPUAllocator();
  if (current == instance) return;
  if (current != c10::GetDefaultCPUAllocator()) {
    throw std::runtime_error(
        "torch must use its own CPU allocator for tensor memory to be kept; got another one, "
        "which this one cannot stand beside; do not install it");
  }
  if (pthread_atfork(&before_fork, &after_fork_in_parent, &after_fork_in_child) != 0)
    throw std::bad_alloc();
  c10::SetCPUAllocator(instance);
}

}  // namespace

void keep_tensor_memory(size_t limit_bytes) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  if (limit_bytes > 0) install();
  const size_t before = limit.exchange(limit_bytes);
  if (limit_bytes < before) release_tensor_memory();
}

size_t release_tensor_memory() {
  const std::lock_guard lock(registry().mutex);
  size_t released = 0;
  for (Keeper* keeper : registry().keepers) released += keeper->release();
  return released;
}

TensorMemory tensor_memory() {
  const std::lock_guard lock(registry().mutex);
  TensorMemory sum = registry().ended;
  sum.limit_bytes = limit.load();
  for (Keeper* keeper : registry().keepers) keeper->add_to(sum);
  return sum;
}

}  // namespace corestream
