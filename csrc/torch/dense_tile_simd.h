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
  int64_t end_pixel = 0;  // of the pixels that are done one tile after another
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
    find_lines(image, y);
    if (are_inside(x, rows)) return find_inside(x, rows);
    for (int64_t row = 0; row < rows; ++row) {
      if (c.has_few_channels()) {
        find_rows(row, x);
      } else {
        find_taps(row, x);
      }
      if (++x < c.out_width || row + 1 == rows) continue;
      x = 0;
      if (++y == c.out_height) {
        y = 0;
        ++image;
      }
      find_lines(image, y);
    }
  }

 private:
  // The row of the input that each row of taps reads for a row of the output; null outside.
  void find_lines(int64_t image, int64_t y) {
    const Convolution& c = convolution;
    const auto* input = static_cast<const Element*>(c.input);
    int64_t line = y * c.stride_height - c.pad_height;
    for (int64_t ky = 0; ky < c.kernel_height; ++ky, line += c.dilation_height) {
      const bool is_inside = line >= 0 && line < c.height;
      lines_[ky] =
          is_inside ? input + (image * c.height + line) * c.width * c.input_pixel : nullptr;
    }
  }

  // Whether pixels from column `x` on are in one row of the output, and all their taps in the
  // image.
  bool are_inside(int64_t x, int64_t rows) const {
    const Convolution& c = convolution;
    const int64_t left = x * c.stride_width - c.pad_width;
    const int64_t last =
        left + (rows - 1) * c.stride_width + (c.kernel_width - 1) * c.dilation_width;
    bool has_lines = true;
    for (int64_t ky = 0; ky < c.kernel_height; ++ky) has_lines = has_lines && lines_[ky] != nullptr;
    return has_lines && x + rows <= c.out_width && left >= 0 && last < c.width;
  }

  // Most tiles: nothing to be asked of a pixel.
  void find_inside(int64_t x, int64_t rows) {
    const Convolution& c = convolution;
    const int64_t left = (x * c.stride_width - c.pad_width) * c.input_pixel;
    const int64_t runs_of_line = c.has_few_channels() ? 1 : c.kernel_width;
    const int64_t next_row = c.stride_width * c.input_pixel;
    const int64_t next_run = c.dilation_width * c.input_pixel;
    const Element** run = inputs[0];
    for (int64_t ky = 0; ky < c.kernel_height; ++ky) {
      for (int64_t kx = 0; kx < runs_of_line; ++kx, run += kMostRows) {
        const Element* from = lines_[ky] + left + kx * next_run;
        for (int64_t row = 0; row < rows; ++row, from += next_row) run[row] = from;
      }
    }
  }

  void find_taps(int64_t row, int64_t x) {
    const Convolution& c = convolution;
    const int64_t left = x * c.stride_width - c.pad_width;
    const auto* zeros = static_cast<const Element*>(c.zeros);
    const Element** tap = &inputs[0][row];
    for (int64_t ky = 0; ky < c.kernel_height; ++ky) {
      int64_t column = left;
      for (int64_t kx = 0; kx < c.kernel_width; ++kx, tap += kMostRows) {
        const bool is_inside = lines_[ky] != nullptr && column >= 0 && column < c.width;
        *tap = is_inside ? lines_[ky] + column * c.input_pixel : zeros;
        column += c.dilation_width;
      }
    }
  }

  // A run is a row of the kernel: pixels have no gaps, and the kernel no dilation.
  void find_rows(int64_t row, int64_t x) {
    const Convolution& c = convolution;
    const int64_t left = x * c.stride_width - c.pad_width;
    const int64_t begin = larger(left, 0), end = smaller(left + c.kernel_width, c.width);
    const bool is_inside = begin == left && end == left + c.kernel_width;
    for (int64_t ky = 0; ky < c.kernel_height; ++ky) {
      const Element* line = lines_[ky];
      if (line == nullptr || begin >= end) {
        inputs[ky][row] = static_cast<const Element*>(c.zeros);
      } else if (is_inside) {
        inputs[ky][row] = line + left * c.channels;
      } else {
        inputs[ky][row] = padded_run(padded[ky][row], line, begin - left, end - left, left);
      }
    }
  }

  // What lies from column `left` on, of which some columns of the kernel are inside.
  const Element* padded_run(Element* run, const Element* line, int64_t begin, int64_t end,
                            int64_t left) const {
    const Convolution& c = convolution;
    for (int64_t column = 0; column < c.kernel_width; ++column) {
      const bool is_present = column >= begin && column < end;
      for (int64_t i = 0; i < c.channels; ++i) {
        run[column * c.channels + i] =
            is_present ? line[(left + column) * c.channels + i] : Element{};
      }
    }
    return run;
  }

  const Element* lines_[kMostTaps];
};

}  // namespace
}  // namespace corestream
