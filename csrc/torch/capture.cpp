#include "capture.h"

#include <c10/core/MemoryFormat.h>
#include <c10/util/strides.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace corestream {
namespace {

thread_local Capture* innermost = nullptr;

constexpr std::string_view kOurs = "corestream::";

// Those that may copy call others then, which are seen as well.
constexpr std::array kViews = std::to_array<std::string_view>({"aten::_reshape_alias",
                                                               "aten::alias",
                                                               "aten::as_strided",
                                                               "aten::atleast_2d",
                                                               "aten::chunk",
                                                               "aten::detach",
                                                               "aten::expand",
                                                               "aten::flatten",
                                                               "aten::narrow",
                                                               "aten::permute",
                                                               "aten::reshape",
                                                               "aten::select",
                                                               "aten::size",
                                                               "aten::slice",
                                                               "aten::split",
                                                               "aten::squeeze",
                                                               "aten::t",
                                                               "aten::transpose",
                                                               "aten::unbind",
                                                               "aten::unflatten",
                                                               "aten::unsqueeze",
                                                               "aten::view"});

}  // namespace

bool Capture::is_view(std::string_view name) {
  return std::find(kViews.begin(), kViews.end(), name) != kViews.end();
}

Capture* Capture::current() noexcept { return innermost; }

std::unique_ptr<at::ObserverContext> Capture::see(const at::RecordFunction& function) {
  const std::string_view name = function.name();
  const bool is_free = name.substr(0, kOurs.size()) == kOurs || is_view(name);
  if (innermost != nullptr && !is_free) innermost->calls_torch_ = true;
  return nullptr;
}

Capture::Capture()
    : memory_(std::make_shared<ReusedMemory>()),
      outer_(std::exchange(innermost, this)),
      callback_(at::addThreadLocalCallback(
          at::RecordFunctionCallback(&Capture::see).scopes({at::RecordScope::FUNCTION}))) {}

Capture::~Capture() {
  at::removeCallback(callback_);
  innermost = outer_;
}

at::Tensor Capture::new_tensor(at::IntArrayRef sizes, const at::TensorOptions& options,
                               at::MemoryFormat format) {
  if (format == at::MemoryFormat::ChannelsLast) {
    return memory_->new_tensor(sizes, c10::get_channels_last_strides_2d(sizes), options);
  }
  return memory_->new_tensor(sizes, c10::contiguous_strides(sizes), options);
}

void Capture::begin_call() {
  works_.clear();
  calls_torch_ = false;
}

Capture::Seen Capture::end_call() { return {std::exchange(works_, {}), calls_torch_}; }

}  // namespace corestream
