// Depthwise convolutions: some columns of a row together, a vector of channels after another, so
// that memory is read and written in order. Included by one file for each kind of element and
// instruction set.
#pragma once

#include "convolution_simd.h"

namespace corestream {
namespace {

// Columns of the output that are computed together.
constexpr int kColumns = 4;
// Vectors of the set that are one of ours: a cache line of float, of which nothing is left for
// later. Pixels are often a power of two apart, and a cache has few places for such lines.
constexpr int kMostHalves = static_cast<int>(kParts);
// So many columns of the output ahead of its turn, memory is asked for: the processor's own
// prefetchers do not follow as many streams as a kernel has rows and columns.
constexpr int kAhead = 2 * kColumns;

// A row of the output.
template <typename Kind>
struct DepthwiseRow {
  using Element = typename Kind::Element;

  const Convolution& convolution;
  const Element* inputs[5] = {};  // the row of the input of each row of taps; null: outside
  int64_t weight_stride = 0;      // from tap to tap
  int64_t first_pixel = 0;
  Finish<Kind> finish{convolution};

  const float* weights() const { return static_cast<const float*>(convolution.weight); }
};

// What is known of some columns and channels where a kernel is compiled.
template <int Columns, bool IsInside, int Halves, bool IsWhole>
struct Known {
  static constexpr int kCount = Columns;
  static constexpr int kHalves = Halves;       // that have a channel
  static constexpr bool kIsInside = IsInside;  // all taps lie within the row
  static constexpr bool kIsWhole = IsWhole;    // there is a channel for each lane
};

// Asks for what columns ahead of these will read and write.
template <typename Kind, int Kernel, int Stride>
[[gnu::always_inline]] inline void expect_columns(const DepthwiseRow<Kind>& row, int64_t x,
                                                  int64_t channel) {
  const Convolution& c = row.convolution;
#pragma GCC unroll 4
  for (int i = 0; i < kColumns; ++i) {
    expect_output<Kind>(c, row.first_pixel + x + kAhead + i, channel);
  }
  const int64_t left = x * Stride - c.pad_width;
  // Rows that the row of the output before this one has not read.
#pragma GCC unroll 2
  for (int ky = Kernel - Stride; ky < Kernel; ++ky) {
    if (row.inputs[ky] == nullptr) continue;
    const auto* ahead = row.inputs[ky] + (left + kAhead * Stride) * c.input_pixel + channel;
#pragma GCC unroll 8
    for (int i = 0; i < kColumns * Stride; ++i) __builtin_prefetch(ahead + i * c.input_pixel);
  }
}

// Columns from `x` on, of which each of the input is widened once for a row of taps.
template <typename Kind, int Kernel, int Stride, typename Columns>
void convolve_columns(const DepthwiseRow<Kind>& row, int64_t x, int64_t channel) {
  const Convolution& c = row.convolution;
  constexpr int kCount = Columns::kCount, kInputs = (kCount - 1) * Stride + Kernel;
  constexpr int kHalves = Columns::kHalves;
  const int64_t left = x * Stride - c.pad_width;
  if constexpr (Columns::kIsInside) expect_columns<Kind, Kernel, Stride>(row, x, channel);
  Floats sums[kHalves][kCount];
#pragma GCC unroll 2
  for (int half = 0; half < kHalves; ++half) {
    const Floats bias = bias_of(c, channel + half * kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) sums[half][i] = bias;
  }
  for (int ky = 0; ky < Kernel; ++ky) {
    if (row.inputs[ky] == nullptr) continue;
    const auto* inputs = row.inputs[ky] + left * c.input_pixel + channel;
    const float* weights = row.weights() + ky * Kernel * row.weight_stride + channel;
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      const Which which = first_lanes(c.channels - channel - half * kLanes);
      Floats values[kInputs];
#pragma GCC unroll 11
      for (int i = 0; i < kInputs; ++i) {
        const auto* from = inputs + i * c.input_pixel + half * kLanes;
        if (!Columns::kIsInside && (left + i < 0 || left + i >= c.width)) {
          values[i] = zero();
        } else {
          values[i] = Columns::kIsWhole ? Kind::widen(from) : Kind::widen(from, which);
        }
      }
#pragma GCC unroll 5
      for (int kx = 0; kx < Kernel; ++kx) {
        const Floats weight = load(weights + kx * row.weight_stride + half * kLanes);
#pragma GCC unroll 4
        for (int i = 0; i < kCount; ++i) {
          sums[half][i] = multiply_add(values[i * Stride + kx], weight, sums[half][i]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      const int64_t first = channel + half * kLanes, pixel = row.first_pixel + x + i;
      if constexpr (Columns::kIsWhole) {
        row.finish.store(sums[half][i], pixel, first);
      } else {
        row.finish.store(sums[half][i], pixel, first, first_lanes(c.channels - first));
      }
    }
  }
}

// So many columns for the channels of a piece.
template <typename Kind, int Kernel, int Stride, int Columns, bool IsInside>
void convolve_channels(const DepthwiseRow<Kind>& row, int64_t x, const Piece& piece) {
  const int64_t channels = row.convolution.channels, last = piece.end_panel * kVector;
  const int64_t whole = smaller(last, channels / kVector * kVector);
  int64_t channel = piece.begin_panel * kVector;
  for (; channel < whole; channel += kVector) {
    using All = Known<Columns, IsInside, kMostHalves, true>;
    convolve_columns<Kind, Kernel, Stride, All>(row, x, channel);
  }
  if (channel >= smaller(last, channels)) return;
  if (channels - channel <= kLanes) {
    convolve_columns<Kind, Kernel, Stride, Known<Columns, IsInside, 1, false>>(row, x, channel);
  } else {
    using Part = Known<Columns, IsInside, kMostHalves, false>;
    convolve_columns<Kind, Kernel, Stride, Part>(row, x, channel);
  }
}

template <typename Kind, int Kernel, int Stride, int Columns = kColumns>
void convolve_outside(const DepthwiseRow<Kind>& row, int64_t x, int64_t columns,
                      const Piece& piece) {
  if constexpr (Columns > 1) {
    if (columns < Columns) {
      return convolve_outside<Kind, Kernel, Stride, Columns - 1>(row, x, columns, piece);
    }
  }
  convolve_channels<Kind, Kernel, Stride, Columns, false>(row, x, piece);
}

template <typename Kind, int Kernel, int Stride>
void convolve_row(const DepthwiseRow<Kind>& row, const Piece& piece) {
  const Convolution& c = row.convolution;
  for (int64_t x = 0; x < c.out_width; x += kColumns) {
    const int64_t columns = smaller(kColumns, c.out_width - x);
    const int64_t left = x * Stride - c.pad_width;
    const bool is_inside = left >= 0 && left + (kColumns - 1) * Stride + Kernel <= c.width;
    if (columns == kColumns && is_inside) {
      convolve_channels<Kind, Kernel, Stride, kColumns, true>(row, x, piece);
    } else {
      convolve_outside<Kind, Kernel, Stride>(row, x, columns, piece);
    }
  }
}

template <typename Kind, int Kernel, int Stride>
void convolve_rows(const Convolution& c, const Piece& piece) {
  const auto* input = static_cast<const typename Kind::Element*>(c.input);
  DepthwiseRow<Kind> row{.convolution = c};
  row.weight_stride = round_up(c.channels, kVector);
  for (int64_t index = piece.begin; index < piece.end; ++index) {
    const int64_t image = index / c.out_height;
    const int64_t top = index % c.out_height * Stride - c.pad_height;
    row.first_pixel = index * c.out_width;
    for (int ky = 0; ky < Kernel; ++ky) {
      const int64_t y = top + ky;
      const int64_t start = (image * c.height + y) * c.width * c.input_pixel;
      row.inputs[ky] = y < 0 || y >= c.height ? nullptr : input + start;
    }
    convolve_row<Kind, Kernel, Stride>(row, piece);
  }
}

template <typename Kind>
void convolve_depthwise(const Convolution& c, const Piece& piece) {
  if (c.kernel_width == 3 && c.stride_width == 1) return convolve_rows<Kind, 3, 1>(c, piece);
  if (c.kernel_width == 3) return convolve_rows<Kind, 3, 2>(c, piece);
  if (c.stride_width == 1) return convolve_rows<Kind, 5, 1>(c, piece);
  return convolve_rows<Kind, 5, 2>(c, piece);
}

}  // namespace
}  // namespace corestream
