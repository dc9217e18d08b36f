// Depthwise convolutions: some columns of a row together, a vector of channels after another, so
// that memory is read and written in order. Included by one file for each kind of element and
// instruction set.
#pragma once

#include "convolution_simd.h"

namespace corestream {
namespace {

constexpr int kColumns = 4;
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

  Floats value(int ky, int64_t column, int64_t channel, Which which) const {
    return Kind::widen(inputs[ky] + column * convolution.input_pixel + channel, which);
  }
  Floats weight(int64_t tap, int64_t channel) const {
    const auto* weights = static_cast<const float*>(convolution.weight);
    return load(weights + tap * weight_stride + channel);
  }
};

// A column for which some taps may lie outside of the row.
template <typename Kind, int Kernel, int Stride>
void convolve_column(const DepthwiseRow<Kind>& row, int64_t x, int64_t channel) {
  const Convolution& c = row.convolution;
  const Which which = first_lanes(c.channels - channel);
  const int64_t left = x * Stride - c.pad_width;
  Floats sum = bias_of(c, channel);
  for (int ky = 0; ky < Kernel; ++ky) {
    if (row.inputs[ky] == nullptr) continue;
    for (int kx = 0; kx < Kernel; ++kx) {
      const int64_t column = left + kx;
      if (column < 0 || column >= c.width) continue;
      const Floats value = row.value(ky, column, channel, which);
      sum = multiply_add(value, row.weight(ky * Kernel + kx, channel), sum);
    }
  }
  row.finish.store(sum, row.first_pixel + x, channel, which);
}

// Columns that have all their taps; each column of the input is widened once for a row of taps.
template <typename Kind, int Kernel, int Stride>
void convolve_columns(const DepthwiseRow<Kind>& row, int64_t x, int64_t channel) {
  const Convolution& c = row.convolution;
  const Which which = first_lanes(c.channels - channel);
  const int64_t left = x * Stride - c.pad_width;
  constexpr int kInputs = (kColumns - 1) * Stride + Kernel;
  const Floats bias = bias_of(c, channel);
  Floats sums[kColumns];
#pragma GCC unroll 4
  for (int i = 0; i < kColumns; ++i) {
    sums[i] = bias;
    expect_output<Kind>(c, row.first_pixel + x + kAhead + i, channel);
  }
  // Rows that the row of the output before this one has not read.
  for (int ky = Kernel - Stride; ky < Kernel; ++ky) {
    if (row.inputs[ky] == nullptr) continue;
    const auto* ahead = row.inputs[ky] + (left + kAhead * Stride) * c.input_pixel + channel;
#pragma GCC unroll 8
    for (int i = 0; i < kColumns * Stride; ++i) __builtin_prefetch(ahead + i * c.input_pixel);
  }
  for (int ky = 0; ky < Kernel; ++ky) {
    if (row.inputs[ky] == nullptr) continue;
    Floats values[kInputs];
#pragma GCC unroll 11
    for (int i = 0; i < kInputs; ++i) values[i] = row.value(ky, left + i, channel, which);
#pragma GCC unroll 5
    for (int kx = 0; kx < Kernel; ++kx) {
      const Floats weight = row.weight(ky * Kernel + kx, channel);
#pragma GCC unroll 4
      for (int i = 0; i < kColumns; ++i) {
        sums[i] = multiply_add(values[i * Stride + kx], weight, sums[i]);
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kColumns; ++i) {
    row.finish.store(sums[i], row.first_pixel + x + i, channel, which);
  }
}

template <typename Kind, int Kernel, int Stride>
void convolve_row(const DepthwiseRow<Kind>& row) {
  const Convolution& c = row.convolution;
  const int64_t first = smaller((c.pad_width + Stride - 1) / Stride, c.out_width);
  // One past the last column whose taps end within the row.
  const int64_t room = c.width + c.pad_width - Kernel;
  const int64_t last = room < 0 ? first : larger(first, smaller(c.out_width, room / Stride + 1));
  for (int64_t x = 0; x < c.out_width;) {
    const bool is_inside = x >= first && x + kColumns <= last;
    for (int64_t channel = 0; channel < c.channels; channel += kLanes) {
      if (is_inside) {
        convolve_columns<Kind, Kernel, Stride>(row, x, channel);
      } else {
        convolve_column<Kind, Kernel, Stride>(row, x, channel);
      }
    }
    x += is_inside ? kColumns : 1;
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
    convolve_row<Kind, Kernel, Stride>(row);
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
