// What operators of ours leave behind while a graph is captured: the work that they did, to be done
// again without them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "reused_memory.h"

namespace corestream {

// Whether what is in memory is what the tensor says, so that a copy of it serves a capture.
inline bool is_plain(const at::Tensor& tensor) {
  return tensor.defined() && tensor.layout() == at::kStrided && tensor.device().is_cpu() &&
         !tensor.is_conj() && !tensor.is_neg() && !tensor.requires_grad();
}

// Work divided among members of a team.
struct TeamWork {
  int members;
  std::function<void(int member)> run;  // must not throw
  // What to throw of, once all members have run; may be empty.
  std::function<void()> check;
  // Whether it belongs to the work before it, which a team does in the same region anyhow.
  bool is_further_step = false;
};

// The calling thread's, for its life. Operators of ours run as usual and put their work and
// their outputs into it; it sees whatever else is called.
class Capture {
 public:
  Capture();
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Null where nothing is captured.
  static Capture* current() noexcept;

  void add(TeamWork work) { works_.push_back(std::move(work)); }
  at::Tensor new_tensor(at::IntArrayRef sizes, const at::TensorOptions& options,
                        at::MemoryFormat format);

  // Around each call of an operator: the work that it put in, and whether there is more to it,
  // which only torch can do again.
  struct Seen {
    std::vector<TeamWork> works;
    bool calls_torch;
  };
  void begin_call();
  Seen end_call();

  const std::shared_ptr<ReusedMemory>& memory() const { return memory_; }

  // Whether an operator of torch, or of its interpreter, gives nothing but a look at a tensor,
  // which depends on its shape alone.
  static bool is_view(std::string_view name);

 private:
  static std::unique_ptr<at::ObserverContext> see(const at::RecordFunction& function);

  const std::shared_ptr<ReusedMemory> memory_;
  std::vector<TeamWork> works_;
  bool calls_torch_ = false;
  Capture* const outer_;
  const at::RecordFunctionGuard seeing_{/*is_enabled=*/true};
  const at::CallbackHandle callback_;
};

}  // namespace corestream
