// torch.ops.corestream.multiply_transposed: batches of small products with a transposed matrix.
#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include <cstdint>

#include "cpu_kernels.h"
#include "operands.h"
#include "product_kernel.h"
#include "team_shares.h"

namespace corestream {
namespace {

ProductKernel product_kernel([[maybe_unused]] at::ScalarType dtype) {
#if defined(__x86_64__)
  return choose_kernel(dtype, &multiply_fp32_avx2, &multiply_fp32_avx512, &multiply_bf16_avx512);
#else
  return nullptr;
#endif
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
  return new_tensor_symint({left.sym_size(0), left.sym_size(1), right.sym_size(1)}, left.options());
}

// Where the matrices of a batch lie. A team asks no tensor, which could throw.
class Batch {
 public:
  Batch(const at::Tensor& left, const at::Tensor& right, at::Tensor& output)
      : left_step_(left.stride(0) * left.element_size()),
        right_step_(right.stride(0) * right.element_size()),
        output_step_(output.stride(0) * output.element_size()) {
    first_.left = left.const_data_ptr();
    first_.right = right.const_data_ptr();
    first_.output = output.data_ptr();
    first_.left_stride = left.stride(1);
    first_.right_stride = right.stride(1);
    first_.output_stride = output.stride(1);
    first_.rows = left.size(1);
    first_.columns = right.size(1);
    first_.depth = left.size(2);
  }

  Product item(int64_t index) const {
    Product product = first_;
    product.left = static_cast<const char*>(first_.left) + index * left_step_;
    product.right = static_cast<const char*>(first_.right) + index * right_step_;
    product.output = static_cast<char*>(first_.output) + index * output_step_;
    return product;
  }

 private:
  Product first_{};
  int64_t left_step_, right_step_, output_step_;
};

struct ProductWork {
  Batch batch;
  ProductKernel kernel;
  char* workspace;  // one for each member
  int64_t workspace_size, items;
  int members;
};

at::Tensor multiply_transposed(const at::Tensor& left, const at::Tensor& right) {
  at::Tensor output = empty_product(left, right);
  const ProductKernel kernel = product_kernel(left.scalar_type());
  const int64_t depth = left.size(2);
  const bool is_whole = left.scalar_type() == at::kFloat || depth % 2 == 0;
  if (kernel == nullptr || output.numel() == 0 || depth == 0 || !is_whole) {
    return product_by_torch(left, right);
  }
  const at::Tensor rows = with_plain_rows(left), columns = with_plain_rows(right);
  const Batch batch{rows, columns, output};
  const int64_t items = rows.size(0), work = rows.size(1) * columns.size(1) * depth;
  const int members = team_size_for(items, items * work, kLeastProducts);
  const auto size = static_cast<int64_t>(product_workspace_bytes(columns.size(1), depth));
  const at::Tensor memory = new_tensor({members * size}, at::kByte);
  const ProductWork all{batch, kernel, static_cast<char*>(memory.data_ptr()), size, items, members};
  run_shares(members, all, [](const ProductWork& products, int member) {
    const auto [begin, end] = share(products.items, member, products.members);
    for (int64_t item = begin; item < end; ++item) {
      Product product = products.batch.item(item);
      product.workspace = products.workspace + member * products.workspace_size;
      products.kernel(product);
    }
  });
  return output;
}

auto& product_operator() {
  static const auto found =
      operator_named<decltype(multiply_transposed)>("corestream::multiply_transposed");
  return found;
}

at::Tensor multiply_transposed_autograd(const at::Tensor& left, const at::Tensor& right) {
  check(left, right);
  if (needs_gradient({left, right})) return product_by_torch(left, right);
  at::AutoDispatchBelowADInplaceOrView below;
  return product_operator().call(left, right);
}

// As that of bmm: both in the dtype of the scope.
at::Tensor multiply_transposed_autocast(const at::Tensor& left, const at::Tensor& right) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const auto cast = [](const at::Tensor& tensor) {
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), tensor, at::kCPU);
  };
  return product_operator().call(cast(left), cast(right));
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
