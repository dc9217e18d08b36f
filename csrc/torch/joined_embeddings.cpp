// torch.ops.corestream.joined_embeddings: rows of embedding tables next to each other, as a
// recommender's features are, looked up into the place where they belong.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "operands.h"
#include "team_shares.h"

namespace corestream {
namespace {

// Samples whose rows are fetched ahead: their addresses are known, and tables are larger than any
// cache.
constexpr int64_t kAhead = 4;

void check(at::TensorList parts, at::TensorList tables, at::IntArrayRef looks_up) {
  const size_t count = parts.size();
  TORCH_CHECK(count >= 1 && tables.size() == count && looks_up.size() == count,
              "there must be a table and a flag for each part; got ", count, " parts, ",
              tables.size(), " and ", looks_up.size(), "; call corestream.ops.joined_embeddings");
  for (size_t i = 0; i < count; ++i) {
    const at::Tensor& rows = looks_up[i] != 0 ? tables[i] : parts[i];
    TORCH_CHECK(rows.dim() == 2, "tables and matrices must have 2 dims; got ", rows.dim(),
                "; pass (rows, width)");
    TORCH_CHECK(rows.scalar_type() == (looks_up[0] != 0 ? tables[0] : parts[0]).scalar_type(),
                "tables and matrices must have one dtype; got ",
                (looks_up[0] != 0 ? tables[0] : parts[0]).scalar_type(), " and ",
                rows.scalar_type(), "; cast them");
    TORCH_CHECK(looks_up[i] == 0 || parts[i].dim() == 1, "indices must have 1 dim; got ",
                parts[i].dim(), "; pass one index a sample");
    TORCH_SYM_CHECK(parts[i].sym_size(0).sym_eq(parts[0].sym_size(0)),
                    "parts must have one batch; got ", parts[0].sym_sizes(), " and ",
                    parts[i].sym_sizes(), "; expand them");
    if (looks_up[i] == 0) continue;
    TORCH_CHECK(parts[i].scalar_type() == at::kLong || parts[i].scalar_type() == at::kInt,
                "indices must be int64 or int32; got ", parts[i].scalar_type(), "; call .long()");
  }
}

// Also where only shapes are known.
at::Tensor empty_joined(at::TensorList parts, at::TensorList tables, at::IntArrayRef looks_up) {
  check(parts, tables, looks_up);
  c10::SymInt width = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    width += (looks_up[i] != 0 ? tables[i] : parts[i]).sym_size(1);
  }
  return new_tensor_symint({parts[0].sym_size(0), width},
                           (looks_up[0] != 0 ? tables : parts)[0].options());
}

at::Tensor by_torch(at::TensorList parts, at::TensorList tables, at::IntArrayRef looks_up) {
  std::vector<at::Tensor> found;
  found.reserve(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    found.push_back(looks_up[i] != 0 ? at::embedding(tables[i], parts[i]) : parts[i]);
  }
  return at::cat(found, 1);
}

// Sizes in bytes, but for those of indices. Without indices, rows are a matrix of one a sample.
struct Rows {
  const char* start;
  int64_t stride, size, count;
  const void* indices;
  int64_t index_stride;
  bool has_long_indices;

  // Null for an index that there is no row of.
  const char* at(int64_t sample) const {
    if (indices == nullptr) return start + sample * stride;
    const int64_t place = sample * index_stride;
    const int64_t index = has_long_indices ? static_cast<const int64_t*>(indices)[place]
                                           : static_cast<const int32_t*>(indices)[place];
    return index >= 0 && index < count ? start + index * stride : nullptr;
  }
};

struct EmbeddingWork {
  std::vector<Rows> parts;
  char* output;
  int64_t row, batch;  // bytes, samples
  int members;
  std::shared_ptr<std::atomic<bool>> has_failed;

  void fetch(int64_t sample) const {
    for (const Rows& rows : parts) {
      const char* row_start = rows.at(sample);
      if (row_start == nullptr) continue;
      for (int64_t byte = 0; byte < rows.size; byte += 64) __builtin_prefetch(row_start + byte);
    }
  }

  void copy(int64_t sample) const {
    char* to = output + sample * row;
    for (const Rows& rows : parts) {
      const char* from = rows.at(sample);
      if (from == nullptr) {
        has_failed->store(true, std::memory_order_relaxed);
        std::memset(to, 0, rows.size);
      } else {
        std::memcpy(to, from, rows.size);
      }
      to += rows.size;
    }
  }
};

Rows describe(const at::Tensor& part, const at::Tensor& table) {
  const auto element = static_cast<int64_t>(table.element_size());
  Rows rows{};
  rows.start = static_cast<const char*>(table.const_data_ptr());
  rows.stride = table.stride(0) * element;
  rows.size = table.size(1) * element;
  rows.count = table.size(0);
  if (part.is_same(table)) return rows;
  rows.indices = part.const_data_ptr();
  rows.index_stride = part.stride(0);
  rows.has_long_indices = part.scalar_type() == at::kLong;
  return rows;
}

at::Tensor joined_embeddings(at::TensorList parts, at::TensorList tables,
                             at::IntArrayRef looks_up) {
  const at::Tensor output = empty_joined(parts, tables, looks_up);
  if (output.numel() == 0) return output;
  EmbeddingWork work{};
  std::vector<at::Tensor> kept;  // rows that had to be made plain
  work.parts.reserve(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const at::Tensor& rows = looks_up[i] != 0 ? tables[i] : parts[i];
    if (rows.size(1) == 0) continue;
    kept.push_back(rows.stride(1) == 1 ? rows : rows.contiguous());
    work.parts.push_back(describe(looks_up[i] != 0 ? parts[i] : kept.back(), kept.back()));
  }
  work.output = static_cast<char*>(output.data_ptr());
  work.row = output.size(1) * static_cast<int64_t>(output.element_size());
  work.batch = output.size(0);
  work.members = team_size_for(work.batch, static_cast<int64_t>(output.nbytes()), kBytesPerThread);
  work.has_failed = std::make_shared<std::atomic<bool>>(false);
  const auto check_indices = [has_failed = work.has_failed] {
    TORCH_CHECK_INDEX(!has_failed->exchange(false),
                      "indices must be from 0 to their table's last row; got one that is not; "
                      "look for it with torch.nn.functional.embedding");
  };
  run_shares(
      work.members, work,
      [](const EmbeddingWork& all, int member) {
        const auto [begin, end] = share(all.batch, member, all.members);
        for (int64_t sample = begin; sample < std::min(begin + kAhead, end); ++sample) {
          all.fetch(sample);
        }
        for (int64_t sample = begin; sample < end; ++sample) {
          if (sample + kAhead < end) all.fetch(sample + kAhead);
          all.copy(sample);
        }
      },
      check_indices);
  return output;
}

auto& joined_operator() {
  static const auto found =
      operator_named<decltype(joined_embeddings)>("corestream::joined_embeddings");
  return found;
}

at::Tensor joined_embeddings_autograd(at::TensorList parts, at::TensorList tables,
                                      at::IntArrayRef looks_up) {
  const auto needs = [](const at::Tensor& tensor) { return needs_gradient({tensor}); };
  if (std::any_of(parts.begin(), parts.end(), needs) ||
      std::any_of(tables.begin(), tables.end(), needs)) {
    check(parts, tables, looks_up);
    return by_torch(parts, tables, looks_up);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return joined_operator().call(parts, tables, looks_up);
}

// Rows of several dtypes are promoted, as cat does it.
at::Tensor joined_embeddings_autocast(at::TensorList parts, at::TensorList tables,
                                      at::IntArrayRef looks_up) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const auto dtype_of = [&](size_t i) {
    return (looks_up[i] != 0 ? tables[i] : parts[i]).scalar_type();
  };
  const bool is_whole = parts.size() == tables.size() && parts.size() == looks_up.size();
  for (size_t i = 1; is_whole && i < parts.size(); ++i) {
    if (dtype_of(i) != dtype_of(0)) return by_torch(parts, tables, looks_up);
  }
  return joined_operator().call(parts, tables, looks_up);
}

}  // namespace
}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def("joined_embeddings(Tensor[] parts, Tensor[] tables, int[] looks_up) -> Tensor",
              {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("joined_embeddings", TORCH_FN(corestream::joined_embeddings));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("joined_embeddings", TORCH_FN(corestream::empty_joined));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("joined_embeddings", TORCH_FN(corestream::joined_embeddings_autograd));
}
TORCH_LIBRARY_IMPL(corestream, AutocastCPU, library) {
  library.impl("joined_embeddings", TORCH_FN(corestream::joined_embeddings_autocast));
}
