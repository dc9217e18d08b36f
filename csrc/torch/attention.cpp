#include "attention.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>

#include "attention_kernel.h"
#include "cpu_kernels.h"
#include "openmp.h"
#include "operands.h"

namespace corestream {
namespace {

constexpr size_t kAlignment = 64;
// Scores of all keys lie in the cache of a core; beyond, torch's way of blocks is better.
constexpr int64_t kMostKeys = 4096;

AttentionKernel kernel_for([[maybe_unused]] at::ScalarType dtype) {
#if defined(__x86_64__)
  return choose_kernel(dtype, &attend_fp32_avx2, &attend_fp32_avx512, &attend_bf16_avx512);
#else
  return nullptr;
#endif
}

// Also where only shapes are known: what comes out must be of the shape that was foretold.
void check_operands(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  TORCH_CHECK(query.dim() == 4 && key.dim() == 4 && value.dim() == 4,
              "query, key and value must have 4 dims; got ", query.dim(), ", ", key.dim(), " and ",
              value.dim(), "; pass (batch, heads, rows, head size)");
  TORCH_CHECK(query.scalar_type() == key.scalar_type() && key.scalar_type() == value.scalar_type(),
              "query, key and value must have one dtype; got ", query.scalar_type(), ", ",
              key.scalar_type(), " and ", value.scalar_type(), "; cast them");
  const auto check_same = [](const at::Tensor& left, const at::Tensor& right, int64_t dim) {
    TORCH_SYM_CHECK(left.sym_size(dim).sym_eq(right.sym_size(dim)),
                    "query, key and value must have sizes that fit; got ", left.sym_sizes(),
                    " and ", right.sym_sizes(), ", which differ in dim ", dim, "; expand them");
  };
  for (const int64_t dim : {0, 1}) {
    check_same(query, key, dim);
    check_same(key, value, dim);
  }
  check_same(key, value, 2);
  check_same(query, key, 3);
}

// The layout that torch's fused kernel gives its output: heads of a row next to each other.
at::Tensor empty_output(const at::Tensor& query, const at::Tensor& value) {
  return at::empty_symint(
             {query.sym_size(0), query.sym_size(2), query.sym_size(1), value.sym_size(3)},
             query.options())
      .transpose(1, 2);
}

// In the same layout, which torch's other kernels do not give.
at::Tensor attention_of_torch(const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& value, const std::optional<at::Tensor>& mask,
                              std::optional<double> scale) {
  std::optional<at::Tensor> rows;
  if (mask.has_value() && mask->defined()) rows = at::atleast_2d(*mask);
  return at::scaled_dot_product_attention(query, key, value, rows, 0.0, false, scale)
      .transpose(1, 2)
      .contiguous()
      .transpose(1, 2);
}

// What is added to the scores: (batch, heads, queries, keys), without memory where it repeats.
at::Tensor added_mask(const at::Tensor& mask, const at::Tensor& query, int64_t num_keys) {
  at::Tensor added = at::atleast_1d(mask);
  for (int64_t dim = 0; dim < added.dim(); ++dim) {
    if (added.stride(dim) == 0) added = added.narrow(dim, 0, 1);
  }
  if (added.scalar_type() == at::kBool) {
    added = at::zeros(added.sizes(), query.options())
                .masked_fill(added.logical_not(), -std::numeric_limits<double>::infinity());
  }
  if (added.size(-1) != num_keys || added.stride(-1) != 1) {
    auto sizes = added.sizes().vec();
    sizes.back() = num_keys;
    added = added.expand(sizes).contiguous();
  }
  return added.expand({query.size(0), query.size(1), query.size(2), num_keys});
}

// torch adds a mask in float32 to scores of bfloat16; the kernels have one dtype for all.
bool fits(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
          const std::optional<at::Tensor>& mask) {
  const bool is_mask_plain = !mask.has_value() || !mask->defined() ||
                             mask->scalar_type() == at::kBool ||
                             mask->scalar_type() == query.scalar_type();
  return is_mask_plain && value.size(3) == query.size(3) &&
         has_attention_kernel(query.scalar_type(), query.size(3), key.size(2));
}

// Where a tensor's rows lie, in bytes. A team asks no tensor, which could throw.
struct Rows {
  char* start = nullptr;
  int64_t batch = 0, head = 0, row = 0;

  Rows() = default;
  Rows(const at::Tensor& tensor, const void* data)
      : start(static_cast<char*>(const_cast<void*>(data))),
        batch(tensor.stride(0) * tensor.element_size()),
        head(tensor.stride(1) * tensor.element_size()),
        row(tensor.stride(2) * tensor.element_size()) {}

  char* at(int64_t batch_index, int64_t head_index, int64_t row_index) const {
    return start + batch_index * batch + head_index * head + row_index * row;
  }
};

struct Operands {
  Rows query, key, value, mask, output;
  // What all heads have in common.
  HeadAttention common;

  // The queries from `first` on of a head.
  HeadAttention head(int64_t batch, int64_t index, int64_t first, int64_t rows) const {
    HeadAttention found = common;
    found.query = query.at(batch, index, first);
    found.key = key.at(batch, index, 0);
    found.value = value.at(batch, index, 0);
    found.output = output.at(batch, index, first);
    found.mask = mask.start == nullptr ? nullptr : mask.at(batch, index, first);
    found.num_queries = rows;
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

void run(const at::Tensor& query, const Operands& operands) {
  const int num_threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t num_queries = query.size(2), heads = query.size(1);
  const int64_t rows = rows_per_piece(query, num_threads);
  const int64_t pieces = (num_queries + rows - 1) / rows;
  const int64_t count = query.size(0) * heads * pieces;
  const size_t bytes = attention_workspace_bytes(operands.common.num_keys, query.size(3));
  const int members = static_cast<int>(std::min<int64_t>(num_threads, count));
  const auto stride = static_cast<int64_t>((bytes + kAlignment - 1) / kAlignment * kAlignment);
  const at::Tensor memory =
      at::empty({members * stride + static_cast<int64_t>(kAlignment)}, at::kByte);
  void* start = memory.data_ptr();
  size_t space = memory.nbytes();
  std::align(kAlignment, members * stride, start, space);
  const AttentionKernel kernel = kernel_for(query.scalar_type());
  std::atomic<int64_t> next{0};
  run_on_team(num_threads, [&](int member) {
    if (member >= members) return;
    for (int64_t i = next++; i < count; i = next++) {
      const int64_t piece = i % pieces;
      const int64_t index = i / pieces;
      HeadAttention head = operands.head(index / heads, index % heads, piece * rows,
                                         std::min(rows, num_queries - piece * rows));
      head.workspace = static_cast<char*>(start) + member * stride;
      kernel(head);
    }
  });
}

at::Tensor attention_meta(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const std::optional<at::Tensor>&, std::optional<double>) {
  check_operands(query, key, value);
  return empty_output(query, value);
}

auto& attention_operator() {
  static const auto found = operator_named<decltype(attention)>("corestream::attention");
  return found;
}

at::Tensor attention_autograd(const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& value, const std::optional<at::Tensor>& mask,
                              std::optional<double> scale) {
  if (needs_gradient({query, key, value, mask})) {
    check_operands(query, key, value);
    return attention_of_torch(query, key, value, mask, scale);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return attention_operator().call(query, key, value, mask, scale);
}

// As torch has it for its own: all in the lower precision.
at::Tensor attention_autocast(const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& value, const std::optional<at::Tensor>& mask,
                              std::optional<double> scale) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const auto cast = [dtype = at::autocast::get_autocast_dtype(at::kCPU)](const auto& tensor) {
    return at::autocast::cached_cast(dtype, tensor, at::kCPU);
  };
  return attention_operator().call(cast(query), cast(key), cast(value), cast(mask), scale);
}

}  // namespace

bool has_attention_kernel(at::ScalarType dtype, int64_t head_size, int64_t num_keys) {
  return kernel_for(dtype) != nullptr && head_size > 0 && head_size % kHeadStep == 0 &&
         num_keys > 0 && num_keys <= kMostKeys;
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const std::optional<at::Tensor>& mask, std::optional<double> scale) {
  check_operands(query, key, value);
  at::Tensor output = empty_output(query, value);
  // torch has no kernel for an empty batch.
  if (output.numel() == 0) return output;
  if (!fits(query, key, value, mask)) return attention_of_torch(query, key, value, mask, scale);
  const at::Tensor queries = with_plain_rows(query), keys = with_plain_rows(key);
  const at::Tensor values = with_plain_rows(value);
  at::Tensor added;
  Operands operands{};
  operands.query = Rows(queries, queries.const_data_ptr());
  operands.key = Rows(keys, keys.const_data_ptr());
  operands.value = Rows(values, values.const_data_ptr());
  operands.output = Rows(output, output.data_ptr());
  HeadAttention& common = operands.common;
  common.query_stride = queries.stride(2);
  common.key_stride = keys.stride(2);
  common.value_stride = values.stride(2);
  common.output_stride = output.stride(2);
  common.num_keys = key.size(2);
  common.head_size = query.size(3);
  common.scale = static_cast<float>(scale.value_or(1 / std::sqrt(common.head_size)));
  if (mask.has_value() && mask->defined()) {
    added = added_mask(*mask, query, common.num_keys);
    operands.mask = Rows(added, added.const_data_ptr());
    common.mask_stride = added.stride(2);
  }
  run(queries, operands);
  return output;
}

}  // namespace corestream

TORCH_LIBRARY(corestream, library) {
  library.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor? mask, float? scale) -> Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("attention", TORCH_FN(corestream::attention));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("attention", TORCH_FN(corestream::attention_meta));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("attention", TORCH_FN(corestream::attention_autograd));
}
TORCH_LIBRARY_IMPL(corestream, AutocastCPU, library) {
  library.impl("attention", TORCH_FN(corestream::attention_autocast));
}
