// The kernels of csrc/torch, on memory that ends where the tensors do: what a sanitizer sees.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "attention_kernel.h"
#include "elements.h"
#include "testing.h"

#if defined(__x86_64__)
namespace corestream {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows of a tensor, some elements apart, from the `offset`th element of their memory on.
template <typename Element>
struct Rows {
  int64_t num_rows, size, stride, offset;
  std::unique_ptr<Element[]> memory;

  Rows(int64_t rows, int64_t row_size, int64_t gap, int64_t start = 0)
      : num_rows(rows),
        size(row_size),
        stride(row_size + gap),
        offset(start),
        memory(new Element[start + (rows - 1) * stride + row_size]) {}

  Element* data() { return memory.get() + offset; }
  Element& at(int64_t row, int64_t column) { return data()[row * stride + column]; }
  double value(int64_t row, int64_t column) { return value_of(at(row, column)); }
  void fill(std::mt19937& random) {
    std::uniform_real_distribution<float> some(-1, 1);
    for (int64_t row = 0; row < num_rows; ++row) {
      for (int64_t column = 0; column < size; ++column) store(at(row, column), some(random));
    }
  }
};

struct Shape {
  int64_t num_queries, num_keys, head_size;
  int64_t gap = 0;
  int64_t offset = 0;
  enum { none, same_for_all, one_each } mask = none;
};

template <typename Element>
struct Head {
  Shape shape;
  Rows<Element> query, key, value, output, mask;
  float scale = 0.3f;

  Head(const Shape& of, std::mt19937& random)
      : shape(of),
        query(of.num_queries, of.head_size, of.gap, of.offset),
        key(of.num_keys, of.head_size, of.gap, of.offset),
        value(of.num_keys, of.head_size, of.gap, of.offset),
        output(of.num_queries, of.head_size, of.gap, of.offset),
        mask(of.mask == Shape::one_each ? of.num_queries : 1, of.num_keys, of.gap, of.offset) {
    for (Rows<Element>* rows : {&query, &key, &value, &mask}) rows->fill(random);
  }

  void run(AttentionKernel kernel) {
    const size_t bytes = attention_workspace_bytes(shape.num_keys, shape.head_size);
    const auto aligned_delete = [](char* memory) {
      ::operator delete[](memory, std::align_val_t{64});
    };
    const std::unique_ptr<char[], decltype(aligned_delete)> workspace(
        new (std::align_val_t{64}) char[bytes], aligned_delete);
    // NaN, whatever it is read as.
    std::memset(workspace.get(), 0xff, bytes);
    HeadAttention head{};
    head.query = query.data();
    head.key = key.data();
    head.value = value.data();
    head.output = output.data();
    head.query_stride = query.stride;
    head.key_stride = key.stride;
    head.value_stride = value.stride;
    head.output_stride = output.stride;
    head.num_queries = shape.num_queries;
    head.num_keys = shape.num_keys;
    head.head_size = shape.head_size;
    head.mask = shape.mask == Shape::none ? nullptr : mask.data();
    head.mask_stride = shape.mask == Shape::one_each ? mask.stride : 0;
    head.scale = scale;
    head.workspace = workspace.get();
    kernel(head);
  }

  std::vector<double> expected(int64_t row) {
    std::vector<double> weights(shape.num_keys);
    for (int64_t k = 0; k < shape.num_keys; ++k) {
      for (int64_t i = 0; i < shape.head_size; ++i) {
        weights[k] += scale * query.value(row, i) * key.value(k, i);
      }
      const int64_t mask_row = shape.mask == Shape::one_each ? row : 0;
      if (shape.mask != Shape::none) weights[k] += mask.value(mask_row, k);
    }
    const double largest = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    std::vector<double> results(shape.head_size);
    for (int64_t k = 0; k < shape.num_keys; ++k) {
      for (int64_t i = 0; i < shape.head_size; ++i) {
        results[i] += weights[k] / sum * value.value(k, i);
      }
    }
    return results;
  }

  double error() {
    double worst = 0;
    for (int64_t row = 0; row < shape.num_queries; ++row) {
      const std::vector<double> results = expected(row);
      for (int64_t i = 0; i < shape.head_size; ++i) {
        worst = std::max(worst, distance(output.value(row, i), results[i]));
      }
    }
    return worst;
  }
};

template <typename Element>
void try_shapes(AttentionKernel kernel, double limit) {
  std::mt19937 random(7);
  const auto below = [&](int64_t bound) { return static_cast<int64_t>(random() % bound); };
  const int64_t head_sizes[] = {16, 32, 48, 64, 80, 96, 112, 128, 144};
  for (int turn = 0; turn < 250; ++turn) {
    // Rows are an even number of elements apart, and begin anywhere.
    const Shape shape{1 + below(turn % 10 == 0 ? 110 : 14),
                      1 + below(turn % 10 == 1 ? 300 : 90),
                      head_sizes[below(9)],
                      2 * below(9),
                      below(3),
                      static_cast<decltype(Shape::mask)>(below(3))};
    Head<Element> head(shape, random);
    head.run(kernel);
    CHECK(head.error() < limit);
  }
}

template <typename Element>
void try_special_values(AttentionKernel kernel) {
  std::mt19937 random(7);
  Head<Element> head({3, 21, 16, 0, 0, Shape::one_each}, random);
  for (int64_t k = 0; k < 21; ++k) store(head.mask.at(0, k), -kInfinity);
  store(head.query.at(1, 5), std::numeric_limits<float>::quiet_NaN());
  store(head.mask.at(2, 20), kInfinity);
  head.run(kernel);
  for (int64_t i = 0; i < 16; ++i) {
    CHECK_EQ(head.output.value(0, i), 0.0);
    CHECK(std::isnan(head.output.value(1, i)));
    CHECK(std::isnan(head.output.value(2, i)));
  }
}

TEST(fp32_stays_within_its_tensors_and_is_right) {
  if (has_avx2()) try_shapes<float>(&attend_fp32_avx2, 1e-5);
  if (has_avx512()) try_shapes<float>(&attend_fp32_avx512, 1e-5);
}

TEST(bf16_stays_within_its_tensors_and_is_right) {
  if (has_avx512_bf16()) try_shapes<uint16_t>(&attend_bf16_avx512, 2e-2);
}

TEST(special_values_are_kept) {
  if (has_avx2()) try_special_values<float>(&attend_fp32_avx2);
  if (has_avx512()) try_special_values<float>(&attend_fp32_avx512);
  if (has_avx512_bf16()) try_special_values<uint16_t>(&attend_bf16_avx512);
}

}  // namespace
}  // namespace corestream
#endif
