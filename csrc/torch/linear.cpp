#include "linear.h"

#include <ATen/Functions.h>
#include <torch/library.h>

#include <array>
#include <cstdint>

#include "convolution.h"
#include "convolution_team.h"
#include "operands.h"

namespace corestream {
namespace {

at::Tensor empty_output(const at::Tensor& input, int64_t out_features) {
  TORCH_CHECK(input.dim() >= 1, "input must have a dim; got a number; pass (..., features)");
  c10::SymDimVector sizes(input.sym_sizes());
  sizes.back() = out_features;
  return new_tensor_symint(sizes, input.options());
}

// Rows of adjacent elements, one after another. There is an element.
at::Tensor as_rows(const at::Tensor& tensor) {
  const at::Tensor rows = tensor.reshape({tensor.numel() / tensor.size(-1), tensor.size(-1)});
  const bool is_plain = rows.stride(1) == 1 && rows.stride(0) >= rows.size(1);
  return is_plain ? rows : rows.contiguous();
}

at::Tensor by_torch(const at::Tensor& input, const at::Tensor& packed,
                    const std::optional<at::Tensor>& bias,
                    const std::optional<at::Tensor>& residual, int64_t out_features, bool gelu,
                    std::optional<double> low, std::optional<double> high) {
  const std::array<int64_t, 4> sizes{out_features, input.size(-1), 1, 1};
  const at::Tensor weight =
      unpack_convolution(packed, sizes, /*groups=*/1, input.scalar_type()).flatten(1);
  std::optional<at::Tensor> added;
  if (is_given(bias)) added = bias->to(input.scalar_type());
  at::Tensor result = at::linear(input, weight, added);
  if (is_given(residual)) result = result + *residual;
  if (gelu) result = at::gelu(result);
  return limited(result, low, high);
}

void check(const at::Tensor& input, const at::Tensor& packed, const at::Tensor& output,
           const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& residual) {
  const std::array<int64_t, 4> sizes{output.size(-1), input.size(-1), 1, 1};
  check_packed(packed, bias, sizes, /*groups=*/1, input.scalar_type());
  check_residual(residual, output.sizes(), input.scalar_type());
}

at::Tensor linear_meta(const at::Tensor& input, const at::Tensor&, const std::optional<at::Tensor>&,
                       const std::optional<at::Tensor>&, int64_t out_features, bool,
                       std::optional<double>, std::optional<double>) {
  return empty_output(input, out_features);
}

auto& linear_operator() {
  static const auto found = operator_named<decltype(linear)>("corestream::linear");
  return found;
}

at::Tensor linear_autograd(const at::Tensor& input, const at::Tensor& packed,
                           const std::optional<at::Tensor>& bias,
                           const std::optional<at::Tensor>& residual, int64_t out_features,
                           bool gelu, std::optional<double> low, std::optional<double> high) {
  if (needs_gradient({input, bias, residual})) {
    check(input, packed, empty_output(input, out_features), bias, residual);
    return by_torch(input, packed, bias, residual, out_features, gelu, low, high);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return linear_operator().call(input, packed, bias, residual, out_features, gelu, low, high);
}

// The weight is packed in one dtype, which the input then has, whatever autocast made of it.
at::Tensor linear_autocast(const at::Tensor& input, const at::Tensor& packed,
                           const std::optional<at::Tensor>& bias,
                           const std::optional<at::Tensor>& residual, int64_t out_features,
                           bool gelu, std::optional<double> low, std::optional<double> high) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const auto dtype = packed.scalar_type();
  return linear_operator().call(input.to(dtype), packed, bias, cast_to(residual, dtype),
                                out_features, gelu, low, high);
}

}  // namespace

at::Tensor linear(const at::Tensor& input, const at::Tensor& packed,
                  const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& residual,
                  int64_t out_features, bool gelu, std::optional<double> low,
                  std::optional<double> high) {
  at::Tensor output = empty_output(input, out_features);
  check(input, packed, output, bias, residual);
  if (output.numel() == 0) return output;
  if (!is_packed_here(packed, input.scalar_type(), /*is_depthwise=*/false) || input.numel() == 0) {
    return by_torch(input, packed, bias, residual, out_features, gelu, low, high);
  }
  const at::Tensor rows = as_rows(input);
  at::Tensor added;
  Convolution c = product_of(rows.size(0), out_features, rows.size(1));
  c.input = rows.const_data_ptr();
  c.input_pixel = rows.stride(0);
  c.weight = packed.const_data_ptr();
  c.output = output.data_ptr();
  if (is_given(bias)) c.bias = bias->const_data_ptr<float>();
  if (is_given(residual)) {
    added = as_rows(*residual);
    c.residual = added.const_data_ptr();
    c.residual_pixel = added.stride(0);
  }
  c.has_gelu = gelu;
  c.low = low_limit(low);
  c.high = high_limit(high);
  run_convolution(c, input.scalar_type(), /*is_depthwise=*/false);
  return output;
}

}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def(
      "linear(Tensor input, Tensor packed, Tensor? bias, Tensor? residual, int out_features, "
      "bool gelu, float? low, float? high) -> Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("linear", TORCH_FN(corestream::linear));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("linear", TORCH_FN(corestream::linear_meta));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("linear", TORCH_FN(corestream::linear_autograd));
}
TORCH_LIBRARY_IMPL(corestream, AutocastCPU, library) {
  library.impl("linear", TORCH_FN(corestream::linear_autocast));
}
