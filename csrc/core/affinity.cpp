#include "affinity.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <map>
#include <mutex>

#include "corestream/errors.h"

namespace corestream {
namespace {

constexpr int kBitsPerWord = 8 * sizeof(unsigned long);

class KernelAffinity final : public AffinityLayer {
 public:
  const CpuList& allowed() const override { return startup_affinity(); }

  CpuList get(pid_t tid) override {
    // The kernel refuses buffers smaller than its own mask (EINVAL): grow until it fits, which
    // is how machines beyond glibc's fixed 1024-CPU cpu_set_t are read.
    for (size_t words = 16;; words *= 2) {
      std::vector<unsigned long> mask(words);
      const size_t size = words * sizeof(unsigned long);
      const long bytes = syscall(SYS_sched_getaffinity, tid, size, mask.data());
      if (bytes >= 0) return list_of(mask, bytes);
      if (errno != EINVAL || words > 4096) {
        throw AffinityError(errno, "cannot read the affinity of thread " + std::to_string(tid));
      }
    }
  }

  void set(pid_t tid, const CpuList& cpus) override {
    std::vector<unsigned long> mask(16);
    for (const int cpu : cpus) {
      const size_t word = cpu / kBitsPerWord;
      if (word >= mask.size()) mask.resize(word + 1);
      mask[word] |= 1UL << (cpu % kBitsPerWord);
    }
    const size_t size = mask.size() * sizeof(unsigned long);
    if (syscall(SYS_sched_setaffinity, tid, size, mask.data()) != 0) {
      throw AffinityError(errno, "cannot pin thread " + std::to_string(tid) + " to CPUs " +
                                     to_string(cpus) + " (outside the process's cpuset?)");
    }
  }

 private:
  static CpuList list_of(const std::vector<unsigned long>& mask, long bytes) {
    CpuList cpus;
    const auto words = static_cast<size_t>(bytes) / sizeof(unsigned long);
    for (size_t word = 0; word < words; ++word) {
      for (unsigned long left = mask[word]; left != 0; left &= left - 1) {
        cpus.push_back(static_cast<int>(word) * kBitsPerWord + std::countr_zero(left));
      }
    }
    return cpus;
  }
};

class SimulatedAffinity final : public AffinityLayer {
 public:
  explicit SimulatedAffinity(int num_cpus) {
    for (int cpu = 0; cpu < num_cpus; ++cpu) all_.push_back(cpu);
  }

  const CpuList& allowed() const override { return all_; }

  bool is_simulated() const override { return true; }

  CpuList get(pid_t tid) override {
    const std::lock_guard lock(mutex_);
    const auto found = masks_.find(key(tid));
    return found == masks_.end() ? all_ : found->second;
  }

  void set(pid_t tid, const CpuList& cpus) override {
    CpuList kept;
    for (const int cpu : cpus) {
      if (cpu >= 0 && cpu < static_cast<int>(all_.size())) kept.push_back(cpu);
    }
    if (kept.empty()) throw AffinityError(EINVAL, "no such simulated CPUs: " + to_string(cpus));
    const std::lock_guard lock(mutex_);
    masks_[key(tid)] = kept;
  }

 private:
  static pid_t key(pid_t tid) { return tid == 0 ? current_tid() : tid; }

  CpuList all_;
  std::mutex mutex_;
  std::map<pid_t, CpuList> masks_;
};

std::unique_ptr<AffinityLayer>& layer() {
  static std::unique_ptr<AffinityLayer> instance = std::make_unique<KernelAffinity>();
  return instance;
}

// Read while the library loads, before anything of ours can pin a thread.
const CpuList kStartupAffinity = [] {
  try {
    return KernelAffinity().get(getpid());
  } catch (const AffinityError&) {
    return CpuList{};
  }
}();

}  // namespace

AffinityLayer& affinity() { return *layer(); }

void replace_affinity_layer(std::unique_ptr<AffinityLayer> replacement) {
  layer() = replacement ? std::move(replacement) : std::make_unique<KernelAffinity>();
}

std::unique_ptr<AffinityLayer> make_simulated_affinity(int num_cpus) {
  return std::make_unique<SimulatedAffinity>(num_cpus);
}

pid_t current_tid() { return static_cast<pid_t>(syscall(SYS_gettid)); }

const CpuList& startup_affinity() { return kStartupAffinity; }

}  // namespace corestream
