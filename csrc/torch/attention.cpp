#include "attention.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <string>

#include "attention_kernel.h"
#include "openmp.h"

namespace corestream {
namespace {

constexpr size_t kAlignment = 64;
// Scores of all keys lie in the cache of a core; beyond, torch's way of blocks is better.
constexpr int64_t kMostKeys = 4096;
constexpr int64_t kLanes = 16;
constexpr int64_t kBlockRows = 48;

#if defined(__x86_64__)
AttentionKernel kernel_for(at::ScalarType dtype) {
  // A user who keeps torch from AVX-512 (ATEN_CPU_CAPABILITY) means us, too.
  static const bool has_avx512 =
      at::get_cpu_capability().find("AVX2") == std::string::npos &&
      at::get_cpu_capability() != "DEFAULT" && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl");
  static const bool has_bf16 = has_avx512 && __builtin_cpu_supports("avx512bf16");
  if (dtype == at::kFloat && has_avx512) return &attend_fp32_avx512;
  if (dtype == at::kBFloat16 && has_bf16) return &attend_bf16_avx512;
  return nullptr;
}
#else
AttentionKernel kernel_for(at::ScalarType) { return nullptr; }
#endif

// Rows of adjacent elements, an even number of elements apart: bf16 is read in pairs.
at::Tensor with_plain_rows(const at::Tensor& tensor) {
  const bool is_plain = tensor.stride(3) == 1 && tensor.stride(2) % 2 == 0;
  return is_plain ? tensor : tensor.contiguous();
}

// What is added to the scores: (batch, heads, queries, keys), without memory where it repeats.
at::Tensor added_mask(const at::Tensor& mask, const at::Tensor& query, int64_t num_keys) {
  at::Tensor added = mask;
  for (int64_t dim = 0; dim < added.dim(); ++dim) {
    if (added.stride(dim) == 0) added = added.narrow(dim, 0, 1);
  }
  if (added.scalar_type() == at::kBool) {
    added = at::zeros(added.sizes(), query.options())
                .masked_fill(added.logical_not(), -std::numeric_limits<double>::infinity());
  } else {
    added = added.to(query.scalar_type());
  }
  if (added.size(-1) != num_keys || added.stride(-1) != 1) {
    auto sizes = added.sizes().vec();
    sizes.back() = num_keys;
    added = added.expand(sizes).contiguous();
  }
  return added.expand({query.size(0), query.size(1), query.size(2), num_keys});
}

bool fits(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  const auto is_like = [&](const at::Tensor& other) {
    return other.dim() == 4 && other.scalar_type() == query.scalar_type() &&
           other.size(0) == query.size(0) && other.size(1) == query.size(1) &&
           other.size(3) == query.size(3);
  };
  return query.dim() == 4 && is_like(key) && is_like(value) && key.size(2) == value.size(2) &&
         query.numel() > 0 && key.numel() > 0 &&
         has_attention_kernel(query.scalar_type(), query.size(3), key.size(2));
}

struct Operands {
  at::Tensor query, key, value, mask, output;
  float scale;

  // The queries from `first` on of a head.
  HeadAttention head(int64_t batch, int64_t index, int64_t first, int64_t rows) const {
    const auto at = [&](const at::Tensor& tensor, int64_t row) {
      const int64_t offset =
          batch * tensor.stride(0) + index * tensor.stride(1) + row * tensor.stride(2);
      return static_cast<char*>(tensor.data_ptr()) + offset * tensor.element_size();
    };
    HeadAttention found{};
    found.query = at(query, first);
    found.key = at(key, 0);
    found.value = at(value, 0);
    found.output = at(output, first);
    found.query_stride = query.stride(2);
    found.key_stride = key.stride(2);
    found.value_stride = value.stride(2);
    found.output_stride = output.stride(2);
    found.num_queries = rows;
    found.num_keys = key.size(2);
    found.head_size = query.size(3);
    found.mask = mask.defined() ? at(mask, first) : nullptr;
    found.mask_stride = mask.defined() ? mask.stride(2) : 0;
    found.scale = scale;
    return found;
  }
};

// Rows of queries a piece: all of a head, whose keys are then packed once, unless threads would
// be left without a piece.
int64_t rows_per_piece(const at::Tensor& query, int num_threads) {
  const int64_t heads = query.size(0) * query.size(1);
  if (num_threads == 1 || heads >= 4 * num_threads) return query.size(2);
  const int64_t pieces = (4 * num_threads + heads - 1) / heads;
  const int64_t rows = (query.size(2) + pieces - 1) / pieces;
  return std::max(kBlockRows, (rows + kBlockRows - 1) / kBlockRows * kBlockRows);
}

void run(const Operands& operands, AttentionKernel kernel) {
  const at::Tensor& query = operands.query;
  const int num_threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t rows = rows_per_piece(query, num_threads);
  const int64_t pieces = (query.size(2) + rows - 1) / rows;
  const int64_t heads = query.size(1);
  const int64_t count = query.size(0) * heads * pieces;
  const size_t bytes = attention_workspace_bytes(operands.key.size(2), query.size(3));
  const int members = static_cast<int>(std::min<int64_t>(num_threads, count));
  const auto stride = static_cast<int64_t>((bytes + kAlignment - 1) / kAlignment * kAlignment);
  const at::Tensor memory =
      at::empty({members * stride + static_cast<int64_t>(kAlignment)}, at::kByte);
  void* start = memory.data_ptr();
  size_t space = memory.nbytes();
  std::align(kAlignment, members * stride, start, space);
  std::atomic<int64_t> next{0};
  run_on_team(num_threads, [&](int member) {
    if (member >= members) return;
    for (int64_t i = next++; i < count; i = next++) {
      const int64_t piece = i % pieces;
      const int64_t index = i / pieces;
      HeadAttention head = operands.head(index / heads, index % heads, piece * rows,
                                         std::min(rows, query.size(2) - piece * rows));
      head.workspace = static_cast<char*>(start) + member * stride;
      kernel(head);
    }
  });
}

// The layout that torch's fused kernel gives its output: heads of a row next to each other.
at::Tensor empty_output(const at::Tensor& query) {
  return at::empty_symint(
             {query.sym_size(0), query.sym_size(2), query.sym_size(1), query.sym_size(3)},
             query.options())
      .transpose(1, 2);
}

at::Tensor attention_meta(const at::Tensor& query, const at::Tensor&, const at::Tensor&,
                          const std::optional<at::Tensor>&, double) {
  return empty_output(query);
}

}  // namespace

size_t attention_workspace_bytes(int64_t num_keys, int64_t head_size) {
  const int64_t columns = (num_keys + kLanes - 1) / kLanes * kLanes;
  return sizeof(float) * (2 * columns * head_size + kBlockRows * (columns + head_size));
}

bool has_attention_kernel(at::ScalarType dtype, int64_t head_size, int64_t num_keys) {
  return kernel_for(dtype) != nullptr && head_size % kLanes == 0 && num_keys <= kMostKeys;
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const std::optional<at::Tensor>& mask, double scale) {
  const bool has_mask = mask.has_value() && mask->defined();
  if (!fits(query, key, value)) {
    return at::scaled_dot_product_attention(query, key, value, mask, 0.0, false, scale);
  }
  Operands operands{
      with_plain_rows(query), with_plain_rows(key),
      with_plain_rows(value), has_mask ? added_mask(*mask, query, key.size(2)) : at::Tensor(),
      empty_output(query),    static_cast<float>(scale)};
  run(operands, kernel_for(query.scalar_type()));
  return operands.output;
}

}  // namespace corestream

TORCH_LIBRARY(corestream, library) {
  library.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor? mask, float scale) -> Tensor");
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("attention", TORCH_FN(corestream::attention));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("attention", TORCH_FN(corestream::attention_meta));
}
