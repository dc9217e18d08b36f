#include "interleave.h"

#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "operands.h"
#include "team_shares.h"

namespace corestream {
namespace {

// There is at least one: without a tensor the dispatcher finds no kernel.
void check_parts(at::TensorList parts) {
  for (const at::Tensor& part : parts) {
    TORCH_CHECK(part.dim() >= 2, "parts must have a batch and channels; got ", part.dim(),
                " dims; pass (batch, channels, ...)");
    TORCH_CHECK(part.scalar_type() == parts[0].scalar_type(), "parts must have one dtype; got ",
                parts[0].scalar_type(), " and ", part.scalar_type(), "; cast them");
    TORCH_CHECK(part.dim() == parts[0].dim(), "parts must have one shape; got ",
                parts[0].sym_sizes(), " and ", part.sym_sizes(), "; split into equal groups");
    for (int64_t dim = 0; dim < part.dim(); ++dim) {
      TORCH_SYM_CHECK(part.sym_size(dim).sym_eq(parts[0].sym_size(dim)),
                      "parts must have one shape; got ", parts[0].sym_sizes(), " and ",
                      part.sym_sizes(), "; split into equal groups");
    }
  }
}

bool are_channels_last(at::TensorList parts) {
  return std::all_of(parts.begin(), parts.end(), [](const at::Tensor& part) {
    return part.dim() == 4 && part.sym_stride(1).maybe_as_int() == 1;
  });
}

at::Tensor empty_channels_last(at::TensorList parts) {
  c10::SymDimVector sizes(parts[0].sym_sizes());
  sizes[1] = sizes[1] * static_cast<int64_t>(parts.size());
  return new_tensor_symint(sizes, parts[0].options(), at::MemoryFormat::ChannelsLast);
}

at::Tensor interleave_by_torch(at::TensorList parts) { return at::stack(parts, 2).flatten(1, 2); }

// A group of channels of all pixels.
template <typename T>
struct Group {
  const T* start;
  int64_t pixel_stride;
};

template <typename T>
struct InterleaveWork {
  std::vector<Group<T>> groups;
  T* output;
  int64_t channels, pixels;
  int members;
};

template <typename T>
void interleave_two(const T* left, const T* right, T* output, int64_t channels) {
  for (int64_t i = 0; i < channels; ++i) {
    output[2 * i] = left[i];
    output[2 * i + 1] = right[i];
  }
}

template <typename T>
void interleave_pixels(const std::vector<Group<T>>& groups, T* output, int64_t channels,
                       int64_t begin, int64_t end) {
  const auto count = static_cast<int64_t>(groups.size());
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    T* row = output + pixel * channels * count;
    if (count == 2) {
      interleave_two(groups[0].start + pixel * groups[0].pixel_stride,
                     groups[1].start + pixel * groups[1].pixel_stride, row, channels);
      continue;
    }
    for (int64_t g = 0; g < count; ++g) {
      const T* source = groups[g].start + pixel * groups[g].pixel_stride;
      for (int64_t i = 0; i < channels; ++i) row[i * count + g] = source[i];
    }
  }
}

template <typename T>
void interleave_into(const at::Tensor& output, const std::vector<at::Tensor>& parts) {
  InterleaveWork<T> work{};
  work.groups.reserve(parts.size());
  for (const at::Tensor& part : parts) {
    work.groups.push_back({static_cast<const T*>(part.const_data_ptr()), part.stride(3)});
  }
  work.output = static_cast<T*>(output.data_ptr());
  work.channels = parts[0].size(1);
  work.pixels = parts[0].numel() / work.channels;
  const auto bytes = static_cast<int64_t>(output.nbytes());
  work.members = team_size_for(work.pixels, bytes, kBytesPerThread);
  run_shares(work.members, work, [](const InterleaveWork<T>& all, int member) {
    const auto [begin, end] = share(all.pixels, member, all.members);
    interleave_pixels(all.groups, all.output, all.channels, begin, end);
  });
}

at::Tensor interleave_meta(at::TensorList parts) {
  check_parts(parts);
  return are_channels_last(parts) ? empty_channels_last(parts) : interleave_by_torch(parts);
}

at::Tensor interleave_autograd(at::TensorList parts) {
  static const auto op =
      operator_named<decltype(interleave_channels)>("corestream::interleave_channels");
  const bool has_gradient = std::any_of(
      parts.begin(), parts.end(), [](const at::Tensor& part) { return needs_gradient({part}); });
  if (has_gradient) {
    check_parts(parts);
    return interleave_by_torch(parts);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(parts);
}

}  // namespace

at::Tensor interleave_channels(at::TensorList parts) {
  check_parts(parts);
  if (!are_channels_last(parts)) return interleave_by_torch(parts);
  at::Tensor output = empty_channels_last(parts);
  if (output.numel() == 0) return output;
  std::vector<at::Tensor> plain;
  plain.reserve(parts.size());
  for (const at::Tensor& part : parts) plain.push_back(with_plain_pixels(part));
  switch (output.element_size()) {
    case 1:
      interleave_into<uint8_t>(output, plain);
      return output;
    case 2:
      interleave_into<uint16_t>(output, plain);
      return output;
    case 4:
      interleave_into<uint32_t>(output, plain);
      return output;
    case 8:
      interleave_into<uint64_t>(output, plain);
      return output;
    default:
      return interleave_by_torch(parts);
  }
}

}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def("interleave_channels(Tensor[] parts) -> Tensor", {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("interleave_channels", TORCH_FN(corestream::interleave_channels));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("interleave_channels", TORCH_FN(corestream::interleave_meta));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("interleave_channels", TORCH_FN(corestream::interleave_autograd));
}
