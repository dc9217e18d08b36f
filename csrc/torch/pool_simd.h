// Pooling of channels-last images, rows first: what a row of windows has in each column, then what
// each window has of these, so that overlapping windows share their columns. Included by one file
// for each kind of element and instruction set.
#pragma once

#include "elements_simd.h"
#include "pool_kernel.h"

namespace corestream {
namespace {

// Of numbers and NaN: the NaN, as in torch.
inline Floats largest_or_nan(Floats left, Floats right) {
  return choose(are_nan(left), left, larger(left, right));
}

// Of no taps.
template <bool IsAverage>
Floats none() {
  return IsAverage ? zero() : each(-__builtin_inff());
}

template <bool IsAverage>
Floats joined(Floats left, Floats right) {
  if constexpr (IsAverage) return add(left, right);
  return largest_or_nan(left, right);
}

// The part of a window's taps, along one dim, that lies within the image.
struct Taps {
  int64_t first;  // where the first tap lies, which may be outside
  int64_t begin, end;
  int64_t counted;  // with those in the padding, but not those beyond it

  Taps(int64_t start, int64_t kernel, int64_t dilation, int64_t pad, int64_t size)
      : first(start), begin(0), end(kernel), counted(0) {
    while (begin < end && first + begin * dilation < 0) ++begin;
    while (end > begin && first + (end - 1) * dilation >= size) --end;
    counted = smaller(first + kernel, size + pad) - first;
  }
};

template <typename Kind, bool IsAverage>
class Pooling {
 public:
  using Element = typename Kind::Element;

  Pooling(const Pool& pool, float* columns) : pool_(pool), columns_(columns) {}

  void run_row(int64_t row) {
    const Pool& p = pool_;
    const int64_t image = row / p.out_height;
    const Taps taps(row % p.out_height * p.stride_height - p.pad_height, p.kernel_height,
                    p.dilation_height, p.pad_height, p.height);
    join_rows(image, taps);
    for (int64_t x = 0; x < p.out_width; ++x) join_columns(row * p.out_width + x, x, taps);
  }

 private:
  // Pixels without a gap are one long row of channels.
  void join_rows(int64_t image, const Taps& taps) {
    const Pool& p = pool_;
    const bool has_gaps = p.input_pixel != p.channels;
    const int64_t runs = has_gaps ? p.width : 1;
    const int64_t length = has_gaps ? p.channels : p.width * p.channels;
    const int64_t line = p.width * p.input_pixel;
    const auto* start = static_cast<const Element*>(p.input) +
                        (image * p.height + taps.first + taps.begin * p.dilation_height) * line;
    const int64_t count = taps.end - taps.begin, step = p.dilation_height * line;
    for (int64_t run = 0; run < runs; ++run) {
      join<Kind, FP32, false>(start + run * p.input_pixel, count, step, length,
                              columns_ + run * p.channels, zero());
    }
  }

  void join_columns(int64_t pixel, int64_t x, const Taps& rows) {
    const Pool& p = pool_;
    const Taps taps(x * p.stride_width - p.pad_width, p.kernel_width, p.dilation_width, p.pad_width,
                    p.width);
    const int64_t count = taps.end - taps.begin;
    const int64_t present = count * (rows.end - rows.begin);
    const int64_t counted = p.counts_pad ? taps.counted * rows.counted : larger(present, 1);
    const float* start = columns_ + (taps.first + taps.begin * p.dilation_width) * p.channels;
    join<FP32, Kind, IsAverage>(start, count, p.dilation_width * p.channels, p.channels,
                                static_cast<Element*>(p.output) + pixel * p.output_pixel,
                                each(static_cast<float>(counted)));
  }

  // `count` rows of `length` elements, `step` apart, become one.
  template <typename From, typename To, bool Divides>
  static void join(const typename From::Element* from, int64_t count, int64_t step, int64_t length,
                   typename To::Element* to, Floats divisor) {
    constexpr int64_t kWide = 4 * kLanes;
    int64_t at = 0;
    for (; at + kWide <= length; at += kWide) {
      Floats values[4];
      for (auto& value : values) value = none<IsAverage>();
      for (int64_t tap = 0; tap < count; ++tap) {
        for (int v = 0; v < 4; ++v) {
          const Floats next = From::widen(from + tap * step + at + v * kLanes);
          values[v] = joined<IsAverage>(values[v], next);
        }
      }
      for (int v = 0; v < 4; ++v) {
        if constexpr (Divides) values[v] = divide(values[v], divisor);
        To::narrow(to + at + v * kLanes, values[v]);
      }
    }
    for (; at < length; at += kLanes) {
      const Which which = first_lanes(length - at);
      Floats value = none<IsAverage>();
      for (int64_t tap = 0; tap < count; ++tap) {
        value = joined<IsAverage>(value, From::widen(from + tap * step + at, which));
      }
      if constexpr (Divides) value = divide(value, divisor);
      To::narrow(to + at, value, which);
    }
  }

  const Pool& pool_;
  float* const columns_;
};

template <typename Kind, bool IsAverage>
void pool_rows(const Pool& pool, int64_t begin, int64_t end, float* workspace) {
  Pooling<Kind, IsAverage> pooling(pool, workspace);
  for (int64_t row = begin; row < end; ++row) pooling.run_row(row);
}

template <typename Kind>
void pool_images(const Pool& pool, int64_t begin, int64_t end, float* workspace) {
  if (pool.is_average) return pool_rows<Kind, true>(pool, begin, end, workspace);
  pool_rows<Kind, false>(pool, begin, end, workspace);
}

}  // namespace
}  // namespace corestream
