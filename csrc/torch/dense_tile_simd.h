// Where the pixels of a tile read their inputs. Included by one file for each kind of element.
#pragma once

#include "convolution_kernel.h"
#include "elements_simd.h"

namespace corestream {
namespace {

constexpr int64_t kMostRows = 8;
constexpr int64_t kLongestShortRun = (kFewChannels - 1) * 7;

template <typename Kind>
struct DenseTile {
  using Element = typename Kind::Element;

  const Convolution& convolution;
  const Element* inputs[kMostTaps][kMostRows];  // of each run and row
  const Unit* weight = nullptr;                 // of the panel
  int64_t first_pixel = 0;
  int64_t first_channel = 0;
  // Runs that begin or end outside of the image.
  Element padded[7][kMostRows][kLongestShortRun];

  // The arrays are filled before they are read: clearing them took as long as a small layer.
  explicit DenseTile(const Convolution& of) : convolution(of) {}

  // Where each run of `rows` pixels is read.
  void find_inputs(int64_t pixel, int64_t rows) {
    const Convolution& c = convolution;
    first_pixel = pixel;
    if (c.is_product()) {
      const auto* input = static_cast<const Element*>(c.input);
      for (int64_t row = 0; row < rows; ++row)
        inputs[0][row] = input + (pixel + row) * c.input_pixel;
      return;
    }
    int64_t x = pixel % c.out_width, y = pixel / c.out_width % c.out_height;
    int64_t image = pixel / c.out_width / c.out_height;
    for (int64_t row = 0; row < rows; ++row) {
      if (c.has_few_channels()) {
        find_rows(row, image, y, x);
      } else {
        find_taps(row, image, y, x);
      }
      if (++x < c.out_width) continue;
      x = 0;
      if (++y < c.out_height) continue;
      y = 0;
      ++image;
    }
  }

 private:
  const Element* input_row(int64_t image, int64_t y) const {
    const Convolution& c = convolution;
    if (y < 0 || y >= c.height) return nullptr;
    return static_cast<const Element*>(c.input) + (image * c.height + y) * c.width * c.input_pixel;
  }

  void find_taps(int64_t row, int64_t image, int64_t y, int64_t x) {
    const Convolution& c = convolution;
    const int64_t top = y * c.stride_height - c.pad_height;
    const int64_t left = x * c.stride_width - c.pad_width;
    int64_t tap = 0;
    for (int64_t ky = 0; ky < c.kernel_height; ++ky) {
      const Element* line = input_row(image, top + ky * c.dilation_height);
      for (int64_t kx = 0; kx < c.kernel_width; ++kx, ++tap) {
        const int64_t column = left + kx * c.dilation_width;
        const bool is_inside = line != nullptr && column >= 0 && column < c.width;
        inputs[tap][row] =
            is_inside ? line + column * c.input_pixel : static_cast<const Element*>(c.zeros);
      }
    }
  }

  // A run is a row of the kernel: pixels have no gaps, and the kernel no dilation.
  void find_rows(int64_t row, int64_t image, int64_t y, int64_t x) {
    const Convolution& c = convolution;
    const int64_t top = y * c.stride_height - c.pad_height;
    const int64_t left = x * c.stride_width - c.pad_width;
    const int64_t begin = larger(left, 0), end = smaller(left + c.kernel_width, c.width);
    const bool is_inside = begin == left && end == left + c.kernel_width;
    for (int64_t ky = 0; ky < c.kernel_height; ++ky) {
      const Element* line = input_row(image, top + ky * c.dilation_height);
      if (line == nullptr || begin >= end) {
        inputs[ky][row] = static_cast<const Element*>(c.zeros);
      } else if (is_inside) {
        inputs[ky][row] = line + left * c.channels;
      } else {
        Element* run = padded[ky][row];
        for (int64_t i = 0; i < c.kernel_width * c.channels; ++i) {
          const int64_t column = left + i / c.channels;
          const bool is_present = column >= begin && column < end;
          run[i] = is_present ? line[left * c.channels + i] : Element{};
        }
        inputs[ky][row] = run;
      }
    }
  }
};

}  // namespace
}  // namespace corestream
