#include "chain_rows.h"

#include <algorithm>

namespace corestream {
namespace {

constexpr int64_t kCacheLine = 64;

// Rows of what a stage passes on that the next one needs at a time.
int64_t ring_rows(const ChainStages& stages, size_t stage) {
  return stages[stage + 1].convolution.kernel_height;
}

int64_t padded_ring(const ChainStages& stages, size_t stage, int64_t element_size) {
  const int64_t bytes = ring_rows(stages, stage) * row_bytes(stages[stage], element_size);
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

// One row after another, each as soon as the rows that it reads are there.
class RowByRow {
 public:
  RowByRow(const ChainStages& stages, int64_t element_size, char* rings)
      : stages_(stages), element_size_(element_size), made_(stages.size()) {
    for (size_t stage = 0; stage + 1 < stages.size(); ++stage) {
      rings_.push_back(rings);
      rings += padded_ring(stages, stage, element_size);
    }
  }

  // Rows of the output of an image.
  void run(int64_t image, int64_t begin, int64_t end) {
    image_ = image;
    made_.back() = begin;
    for (size_t stage = made_.size() - 1; stage > 0; --stage) {
      const Convolution& c = stages_[stage].convolution;
      const int64_t first = made_[stage] * c.stride_height - c.pad_height;
      made_[stage - 1] = std::max<int64_t>(first, 0);
    }
    make(made_.size() - 1, end);
  }

 private:
  void make(size_t stage, int64_t end) {
    const Convolution& c = stages_[stage].convolution;
    for (int64_t& row = made_[stage]; row < end; ++row) {
      const int64_t last = row * c.stride_height - c.pad_height + c.kernel_height;
      if (stage > 0) make(stage - 1, std::min(last, c.height));
      compute(stage, row);
    }
  }

  void compute(size_t stage, int64_t row) const {
    const ChainStage& one = stages_[stage];
    Convolution c = one.convolution;
    c.batch = c.out_height = 1;
    set_input(c, stage, row);
    set_output(c, stage, row);
    const int64_t panels = Panels(c.out_channels, one.kernel.panel_vectors).count;
    one.kernel.run(c, {0, one.is_depthwise ? 1 : c.out_width, 0, panels});
  }

  void set_input(Convolution& c, size_t stage, int64_t row) const {
    const bool is_product = c.is_product();
    // Row 0 of the output is then where the row's taps are.
    if (!is_product) c.pad_height -= row * c.stride_height;
    if (stage > 0) {
      c.input = rings_[stage - 1];
      // A product's has one row.
      if (!is_product) c.ring_rows = ring_rows(stages_, stage - 1);
      return;
    }
    const int64_t lines = image_ * c.height + (is_product ? row : 0);
    c.input = static_cast<const char*>(c.input) + lines * c.width * c.input_pixel * element_size_;
  }

  void set_output(Convolution& c, size_t stage, int64_t row) const {
    const int64_t line = c.out_width * c.output_pixel * element_size_;
    if (stage + 1 < stages_.size()) {
      c.output = rings_[stage] + row % ring_rows(stages_, stage) * line;
      return;
    }
    const int64_t lines = image_ * stages_[stage].convolution.out_height + row;
    c.output = static_cast<char*>(c.output) + lines * line;
    if (c.residual == nullptr) return;
    const int64_t residual_line = c.out_width * c.residual_pixel * element_size_;
    c.residual = static_cast<const char*>(c.residual) + lines * residual_line;
  }

  const ChainStages& stages_;
  const int64_t element_size_;
  std::vector<char*> rings_;   // of each stage but the last
  std::vector<int64_t> made_;  // rows of the output of each stage
  int64_t image_ = 0;
};

}  // namespace

int64_t row_bytes(const ChainStage& stage, int64_t element_size) {
  return stage.convolution.out_width * stage.convolution.out_channels * element_size;
}

int64_t ring_bytes(const ChainStages& stages, int64_t element_size) {
  int64_t bytes = 0;
  for (size_t stage = 0; stage + 1 < stages.size(); ++stage) {
    bytes += padded_ring(stages, stage, element_size);
  }
  return bytes;
}

void run_rows(const ChainStages& stages, int64_t element_size, int64_t begin, int64_t end,
              char* rings) {
  const int64_t height = stages.back().convolution.out_height;
  RowByRow rows(stages, element_size, rings);
  for (int64_t row = begin; row < end;) {
    const int64_t first = row % height, stop = std::min(height, first + end - row);
    rows.run(row / height, first, stop);
    row += stop - first;
  }
}

}  // namespace corestream
