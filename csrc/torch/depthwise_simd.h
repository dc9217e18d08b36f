// Depthwise convolutions: some columns of a row together, a vector of channels after another, so
// that memory is read and written in order. Included by one file for each kind of element and
// instruction set.
#pragma once

#include "convolution_simd.h"

namespace corestream {
namespace {

// Columns of the output that are computed together.
constexpr int kColumns = 4;
constexpr int kMostTapRows = 5, kMostStride = 2;
// Vectors of the set that are one of ours: a cache line of float, of which nothing is left for
// later. Pixels are often a power of two apart, and a cache has few places for such lines.
constexpr int kMostHalves = static_cast<int>(kParts);
// So many columns of the output ahead of its turn, memory is asked for: the processor's own
// prefetchers do not follow as many streams as a kernel has rows and columns.
constexpr int64_t kAhead = 2 * kColumns;

// What is known of a layer and of some columns where a kernel is compiled.
template <int Kernel, int Stride, int Columns>
struct Known {
  static constexpr int kKernel = Kernel, kStride = Stride, kCount = Columns;
  static constexpr int kInputs = (Columns - 1) * Stride + Kernel;
};
// And of some channels.
template <int Halves, bool IsWhole, bool IsPlain = false>
struct Channels {
  static constexpr int kHalves = Halves;     // that have a channel
  static constexpr bool kIsWhole = IsWhole;  // there is a channel for each lane
  static constexpr bool kIsPlain = IsPlain;  // nothing but limits follows
};

// Columns of which all taps are pixels.
template <typename Element>
struct Inside {
  const Element* rows[kMostTapRows];
  int64_t input_pixel;
  // How far ahead memory is asked for. Pixels beyond the piece are of another member, who writes.
  int64_t input_ahead, pixels_ahead;

  const Element* at(int row, int column) const { return rows[row] + column * input_pixel; }
};

// Others: each tap is somewhere, among zeros if it lies outside of the image.
template <typename Element>
struct Anywhere {
  const Element* taps[kMostTapRows][(kColumns - 1) * kMostStride + kMostTapRows];

  const Element* at(int row, int column) const { return taps[row][column]; }
};

// A row of the output.
template <typename Kind>
struct DepthwiseRow {
  using Element = typename Kind::Element;

  const Convolution& convolution;
  const Element* inputs[kMostTapRows] = {};  // the row of the input of each row of taps, or null
  bool has_all = false;                      // none is null
  int64_t first_pixel = 0;
  Finish<Kind> finish{convolution};
};

// Asks for what columns ahead of these will read and write.
template <typename Columns, typename Element>
[[gnu::always_inline]] inline void expect_columns(const Convolution& c,
                                                  const Inside<Element>& source, int64_t pixel,
                                                  int64_t channel) {
  const auto* output = static_cast<const Element*>(c.output);
  output += (pixel + source.pixels_ahead) * c.output_pixel + channel;
#pragma GCC unroll 4
  for (int i = 0; i < Columns::kCount; ++i) __builtin_prefetch(output + i * c.output_pixel, 1);
  // Rows that the row of the output before this one has not read.
#pragma GCC unroll 2
  for (int ky = Columns::kKernel - Columns::kStride; ky < Columns::kKernel; ++ky) {
    const Element* ahead = source.rows[ky] + source.input_ahead + channel;
#pragma GCC unroll 8
    for (int i = 0; i < Columns::kCount * Columns::kStride; ++i) {
      __builtin_prefetch(ahead + i * source.input_pixel);
    }
  }
}
template <typename Columns, typename Element>
[[gnu::always_inline]] inline void expect_columns(const Convolution&, const Anywhere<Element>&,
                                                  int64_t, int64_t) {}

// Adds the products of a row of taps for some lanes. Each pixel is read once, and multiplied for
// all columns that it is a tap of.
template <typename Kind, typename Columns, bool IsWhole, typename Source>
[[gnu::always_inline]] inline void multiply_taps(Floats (&sums)[Columns::kCount],
                                                 const Source& source, int row, int64_t channel,
                                                 const float* weight, Which which) {
  Floats weights[Columns::kKernel];
#pragma GCC unroll 5
  for (int kx = 0; kx < Columns::kKernel; ++kx) weights[kx] = load(weight + kx * kVector);
#pragma GCC unroll 11
  for (int i = 0; i < Columns::kInputs; ++i) {
    const auto* from = source.at(row, i) + channel;
    const Floats value = IsWhole ? Kind::widen(from) : Kind::widen(from, which);
#pragma GCC unroll 5
    for (int kx = 0; kx < Columns::kKernel; ++kx) {
      const int ahead = i - kx, column = ahead / Columns::kStride;
      if (ahead < 0 || ahead % Columns::kStride != 0 || column >= Columns::kCount) continue;
      sums[column] = multiply_add(value, weights[kx], sums[column]);
    }
  }
}

// Some columns of the output for channels from `begin` to `end`.
template <typename Kind, typename Columns, typename Lanes, typename Source>
void convolve_columns(const DepthwiseRow<Kind>& row, const Source& source, int64_t x, int64_t begin,
                      int64_t end) {
  const Convolution& c = row.convolution;
  constexpr int kTaps = Columns::kKernel * Columns::kKernel;
  const Finish<Kind> finish = row.finish;
  const int64_t pixel = row.first_pixel + x;
  const auto* weight = static_cast<const float*>(c.weight) + begin * kTaps;
  for (int64_t channel = begin; channel < end; channel += kVector, weight += kTaps * kVector) {
    expect_columns<Columns>(c, source, pixel, channel);
    Floats sums[Lanes::kHalves][Columns::kCount];
    Which which[Lanes::kHalves];
#pragma GCC unroll 2
    for (int half = 0; half < Lanes::kHalves; ++half) {
      const int64_t first = channel + half * kLanes;
      which[half] = first_lanes(c.channels - first);
      Floats bias = zero();
      if (c.bias != nullptr) {
        bias = Lanes::kIsWhole ? load(c.bias + first) : load(c.bias + first, which[half]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < Columns::kCount; ++i) sums[half][i] = bias;
    }
#pragma GCC unroll 5
    for (int ky = 0; ky < Columns::kKernel; ++ky) {
#pragma GCC unroll 2
      for (int half = 0; half < Lanes::kHalves; ++half) {
        const float* taps = weight + ky * Columns::kKernel * kVector + half * kLanes;
        multiply_taps<Kind, Columns, Lanes::kIsWhole>(sums[half], source, ky,
                                                      channel + half * kLanes, taps, which[half]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < Columns::kCount; ++i) {
#pragma GCC unroll 2
      for (int half = 0; half < Lanes::kHalves; ++half) {
        const int64_t first = channel + half * kLanes;
        if constexpr (Lanes::kIsPlain) {
          finish.store_limited(sums[half][i], pixel + i, first);
        } else if constexpr (Lanes::kIsWhole) {
          finish.store(sums[half][i], pixel + i, first);
        } else {
          finish.store(sums[half][i], pixel + i, first, which[half]);
        }
      }
    }
  }
}

// The same for the channels of a piece.
template <typename Kind, typename Columns, typename Source>
void convolve_channels(const DepthwiseRow<Kind>& row, const Source& source, int64_t x,
                       const Piece& piece) {
  const int64_t channels = row.convolution.channels;
  const int64_t first = piece.begin_panel * kVector;
  const int64_t last = smaller(piece.end_panel * kVector, channels);
  const int64_t whole = smaller(last, channels / kVector * kVector);
  if (first < whole && row.finish.is_plain()) {
    using Plain = Channels<kMostHalves, true, true>;
    convolve_columns<Kind, Columns, Plain>(row, source, x, first, whole);
  } else if (first < whole) {
    convolve_columns<Kind, Columns, Channels<kMostHalves, true>>(row, source, x, first, whole);
  }
  if (whole >= last) return;
  // The second half of a padded vector may have no channel at all.
  if (last - whole > kLanes) {
    convolve_columns<Kind, Columns, Channels<kMostHalves, false>>(row, source, x, whole, last);
  } else {
    convolve_columns<Kind, Columns, Channels<1, false>>(row, source, x, whole, last);
  }
}

// Columns of which a tap lies outside of the image.
template <typename Kind, int Kernel, int Stride, int Columns = kColumns>
void convolve_anywhere(const DepthwiseRow<Kind>& row, int64_t x, int64_t columns,
                       const Piece& piece) {
  if constexpr (Columns > 1) {
    if (columns < Columns) {
      return convolve_anywhere<Kind, Kernel, Stride, Columns - 1>(row, x, columns, piece);
    }
  }
  using All = Known<Kernel, Stride, Columns>;
  using Element = typename Kind::Element;
  const Convolution& c = row.convolution;
  const int64_t left = x * Stride - c.pad_width;
  Anywhere<Element> source;
  for (int ky = 0; ky < Kernel; ++ky) {
    for (int i = 0; i < All::kInputs; ++i) {
      const bool is_pixel = row.inputs[ky] != nullptr && left + i >= 0 && left + i < c.width;
      source.taps[ky][i] = is_pixel ? row.inputs[ky] + (left + i) * c.input_pixel
                                    : static_cast<const Element*>(c.zeros);
    }
  }
  convolve_channels<Kind, All>(row, source, x, piece);
}

template <typename Kind, int Kernel, int Stride>
void convolve_row(const DepthwiseRow<Kind>& row, const Piece& piece) {
  const Convolution& c = row.convolution;
  Inside<typename Kind::Element> source{};
  source.input_pixel = c.input_pixel;
  source.input_ahead = kAhead * Stride * c.input_pixel;
  for (int64_t x = 0; x < c.out_width; x += kColumns) {
    const int64_t columns = smaller(kColumns, c.out_width - x);
    const int64_t left = x * Stride - c.pad_width;
    const bool is_inside = left >= 0 && left + (kColumns - 1) * Stride + Kernel <= c.width;
    if (columns < kColumns || !is_inside || !row.has_all) {
      convolve_anywhere<Kind, Kernel, Stride>(row, x, columns, piece);
      continue;
    }
    for (int ky = 0; ky < Kernel; ++ky) source.rows[ky] = row.inputs[ky] + left * c.input_pixel;
    const bool has_ahead = row.first_pixel + x + kAhead + kColumns <= piece.end * c.out_width;
    source.pixels_ahead = has_ahead ? kAhead : 0;
    convolve_channels<Kind, Known<Kernel, Stride, kColumns>>(row, source, x, piece);
  }
}

template <typename Kind, int Kernel, int Stride>
void convolve_rows(const Convolution& c, const Piece& piece) {
  const auto* input = static_cast<const typename Kind::Element*>(c.input);
  DepthwiseRow<Kind> row{.convolution = c};
  for (int64_t index = piece.begin; index < piece.end; ++index) {
    const int64_t image = index / c.out_height;
    const int64_t top = index % c.out_height * Stride - c.pad_height;
    row.first_pixel = index * c.out_width;
    row.has_all = top >= 0 && top + Kernel <= c.height;
    for (int ky = 0; ky < Kernel; ++ky) {
      const int64_t y = top + ky;
      const int64_t line = c.ring_rows > 0 ? y % c.ring_rows : image * c.height + y;
      row.inputs[ky] = y < 0 || y >= c.height ? nullptr : input + line * c.width * c.input_pixel;
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
