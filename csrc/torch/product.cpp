// torch.ops.corestream.multiply_transposed: batches of small products with a transposed matrix.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>

#include "cpu_kernels.h"
#include "operands.h"
#include "product_kernel.h"

namespace corestream {
namespace {

// Multiplications that are worth another thread: about what waking a team takes.
constexpr int64_t kLeastWork = 200'000;

ProductKernel product_kernel(at::ScalarType dtype) {
#if defined(__x86_64__)
  if (dtype == at::kFloat && has_avx512()) return &multiply_fp32_avx512;
  if (dtype == at::kFloat && has_avx2()) return &multiply_fp32_avx2;
  if (dtype == at::kBFloat16 && has_avx512_bf16()) return &multiply_bf16_avx512;
#endif
  return nullptr;
}

// Also where only shapes are known.
void check(const at::Tensor& left, const at::Tensor& right) {
  TORCH_CHECK(left.dim() == 3 && right.dim() == 3, "left and right must have 3 dims; got ",
              left.dim(), " and ", right.dim(), "; pass (batch, rows, depth)");
  TORCH_CHECK(left.scalar_type() == right.scalar_type(), "left and right must have one dtype; got ",
              left.scalar_type(), " and ", right.scalar_type(), "; cast them");
  for (const int64_t dim : {0, 2}) {
    TORCH_SYM_CHECK(left.sym_size(dim).sym_eq(right.sym_size(dim)),
                    "left and right must have one batch and depth; got ", left.sym_sizes(), " and ",
                    right.sym_sizes(), "; transpose or expand them");
  }
}

at::Tensor product_by_torch(const at::Tensor& left, const at::Tensor& right) {
  return at::bmm(left, right.transpose(1, 2));
}

at::Tensor empty_product(const at::Tensor& left, const at::Tensor& right) {
  check(left, right);
  return at::empty_symint({left.sym_size(0), left.sym_size(1), right.sym_size(1)}, left.options());
}

// Rows of adjacent elements; bf16 is read in pairs.
at::Tensor with_plain_rows(const at::Tensor& tensor) {
  const bool is_plain = tensor.stride(2) == 1 && tensor.stride(1) >= tensor.size(2) &&
                        tensor.stride(1) % 2 == 0 && tensor.stride(0) % 2 == 0;
  const bool may_be_odd = tensor.scalar_type() == at::kFloat && tensor.stride(2) == 1;
  return is_plain || may_be_odd ? tensor : tensor.contiguous();
}

at::Tensor multiply_transposed(const at::Tensor& left, const at::Tensor& right) {
  at::Tensor output = empty_product(left, right);
  const ProductKernel kernel = product_kernel(left.scalar_type());
  const int64_t depth = left.size(2);
  const bool is_whole = left.scalar_type() == at::kFloat || depth % 2 == 0;
  if (kernel == nullptr || output.numel() == 0 || depth == 0 || !is_whole) {
    return product_by_torch(left, right);
  }
  const at::Tensor rows = with_plain_rows(left), columns = with_plain_rows(right);
  const auto size = static_cast<int64_t>(product_workspace_bytes(columns.size(1), depth));
  const int64_t work = rows.size(1) * columns.size(1) * depth;
  const auto* first_left = static_cast<const char*>(rows.const_data_ptr());
  const auto* first_right = static_cast<const char*>(columns.const_data_ptr());
  auto* first_output = static_cast<char*>(output.data_ptr());
  const int64_t bytes = output.element_size();
  at::parallel_for(
      0, rows.size(0), std::max<int64_t>(1, kLeastWork / work), [&](int64_t begin, int64_t end) {
        const at::DataPtr workspace = c10::GetAllocator(c10::kCPU)->allocate(size);
        for (int64_t item = begin; item < end; ++item) {
          kernel({first_left + item * rows.stride(0) * bytes,
                  first_right + item * columns.stride(0) * bytes,
                  first_output + item * output.stride(0) * bytes, rows.stride(1), columns.stride(1),
                  output.stride(1), rows.size(1), columns.size(1), depth, workspace.get()});
        }
      });
  return output;
}

at::Tensor multiply_transposed_autograd(const at::Tensor& left, const at::Tensor& right) {
  check(left, right);
  if (needs_gradient({left, right})) return product_by_torch(left, right);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("corestream::multiply_transposed", "")
                             .typed<decltype(multiply_transposed)>();
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(left, right);
}

// As that of bmm: both in the dtype of the scope.
at::Tensor multiply_transposed_autocast(const at::Tensor& left, const at::Tensor& right) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("corestream::multiply_transposed", "")
                             .typed<decltype(multiply_transposed)>();
  const auto cast = [](const at::Tensor& tensor) {
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), tensor, at::kCPU);
  };
  return op.call(cast(left), cast(right));
}

}  // namespace
}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def("multiply_transposed(Tensor left, Tensor right) -> Tensor",
              {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("multiply_transposed", TORCH_FN(corestream::multiply_transposed));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("multiply_transposed", TORCH_FN(corestream::empty_product));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("multiply_transposed", TORCH_FN(corestream::multiply_transposed_autograd));
}
TORCH_LIBRARY_IMPL(corestream, AutocastCPU, library) {
  library.impl("multiply_transposed", TORCH_FN(corestream::multiply_transposed_autocast));
}
