// torch.ops.corestream.max_pool and avg_pool: pooling of channels-last images without indices.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <cstdint>

#include "operands.h"
#include "pool_team.h"

namespace corestream {
namespace {

struct PoolShape {
  at::IntArrayRef kernel, stride, padding, dilation;
  bool ceil_mode;
};

void check(const at::Tensor& input, const PoolShape& shape) {
  check_image(input);
  for (const auto& sizes : {shape.kernel, shape.stride, shape.padding, shape.dilation}) {
    TORCH_CHECK(sizes.size() == 2, "kernel, stride, padding and dilation must have 2 sizes; got ",
                sizes, "; pass (rows, columns)");
  }
  for (const int64_t dim : {0, 1}) {
    TORCH_CHECK(shape.kernel[dim] >= 1 && shape.stride[dim] >= 1 && shape.dilation[dim] >= 1 &&
                    shape.padding[dim] >= 0 && shape.padding[dim] <= shape.kernel[dim] / 2,
                "kernel, stride and dilation must be 1 or more, and padding at most half of the "
                "kernel; got ",
                shape.kernel, ", ", shape.stride, ", ", shape.dilation, " and ", shape.padding,
                "; take them from the layer");
  }
}

// Of the rows (dim 0) or columns (dim 1), of which the input has `size`. A window that is larger
// than what is left counts in ceil_mode, unless it begins beyond the image.
template <typename Size>
Size output_size(const Size& size, const PoolShape& shape, int64_t dim) {
  const int64_t stride = shape.stride[dim], pad = shape.padding[dim];
  const int64_t reach = shape.dilation[dim] * (shape.kernel[dim] - 1) + 1;
  const Size room = size + 2 * pad - reach + (shape.ceil_mode ? stride - 1 : 0);
  if (room < 0) return 0;
  const Size count = room / stride + 1;
  return shape.ceil_mode && (count - 1) * stride >= size + pad ? count - 1 : count;
}

at::Tensor empty_output(const at::Tensor& input, const PoolShape& shape) {
  check(input, shape);
  const auto height = output_size(input.sym_size(2), shape, 0);
  const auto width = output_size(input.sym_size(3), shape, 1);
  TORCH_CHECK(height > 0 && width > 0, "input must be as large as the kernel; got ",
              input.sym_sizes(), "; pad it");
  return new_tensor_symint({input.sym_size(0), input.sym_size(1), height, width}, input.options(),
                           at::MemoryFormat::ChannelsLast);
}

Pool describe(const at::Tensor& image, const at::Tensor& output, const PoolShape& shape) {
  Pool pool = pool_between(image, output);
  pool.kernel_height = shape.kernel[0];
  pool.kernel_width = shape.kernel[1];
  pool.stride_height = shape.stride[0];
  pool.stride_width = shape.stride[1];
  pool.pad_height = shape.padding[0];
  pool.pad_width = shape.padding[1];
  pool.dilation_height = shape.dilation[0];
  pool.dilation_width = shape.dilation[1];
  return pool;
}

at::Tensor max_pool_by_torch(const at::Tensor& input, const PoolShape& shape) {
  return at::max_pool2d(input, shape.kernel, shape.stride, shape.padding, shape.dilation,
                        shape.ceil_mode)
      .contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor avg_pool_by_torch(const at::Tensor& input, const PoolShape& shape, bool counts_pad) {
  return at::avg_pool2d(input, shape.kernel, shape.stride, shape.padding, shape.ceil_mode,
                        counts_pad)
      .contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor max_pool(const at::Tensor& input, at::IntArrayRef kernel, at::IntArrayRef stride,
                    at::IntArrayRef padding, at::IntArrayRef dilation, bool ceil_mode) {
  const PoolShape shape{kernel, stride, padding, dilation, ceil_mode};
  const at::Tensor output = empty_output(input, shape);
  const PoolKernel found = pool_kernel(input.scalar_type());
  if (found == nullptr || output.numel() == 0) return max_pool_by_torch(input, shape);
  const at::Tensor image = with_plain_pixels(input);
  run_pool(describe(image, output, shape), found, image.size(0));
  return output;
}

constexpr int64_t kPlain[] = {1, 1};

at::Tensor avg_pool(const at::Tensor& input, at::IntArrayRef kernel, at::IntArrayRef stride,
                    at::IntArrayRef padding, bool ceil_mode, bool count_include_pad) {
  const PoolShape shape{kernel, stride, padding, kPlain, ceil_mode};
  const at::Tensor output = empty_output(input, shape);
  const PoolKernel found = pool_kernel(input.scalar_type());
  if (found == nullptr || output.numel() == 0) {
    return avg_pool_by_torch(input, shape, count_include_pad);
  }
  const at::Tensor image = with_plain_pixels(input);
  Pool pool = describe(image, output, shape);
  pool.is_average = true;
  pool.counts_pad = count_include_pad;
  run_pool(pool, found, image.size(0));
  return output;
}

at::Tensor max_pool_meta(const at::Tensor& input, at::IntArrayRef kernel, at::IntArrayRef stride,
                         at::IntArrayRef padding, at::IntArrayRef dilation, bool ceil_mode) {
  return empty_output(input, {kernel, stride, padding, dilation, ceil_mode});
}

at::Tensor avg_pool_meta(const at::Tensor& input, at::IntArrayRef kernel, at::IntArrayRef stride,
                         at::IntArrayRef padding, bool ceil_mode, bool) {
  return empty_output(input, {kernel, stride, padding, kPlain, ceil_mode});
}

at::Tensor max_pool_autograd(const at::Tensor& input, at::IntArrayRef kernel,
                             at::IntArrayRef stride, at::IntArrayRef padding,
                             at::IntArrayRef dilation, bool ceil_mode) {
  const PoolShape shape{kernel, stride, padding, dilation, ceil_mode};
  check(input, shape);
  if (needs_gradient({input})) return max_pool_by_torch(input, shape);
  static const auto op = operator_named<decltype(max_pool)>("corestream::max_pool");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, kernel, stride, padding, dilation, ceil_mode);
}

at::Tensor avg_pool_autograd(const at::Tensor& input, at::IntArrayRef kernel,
                             at::IntArrayRef stride, at::IntArrayRef padding, bool ceil_mode,
                             bool count_include_pad) {
  const PoolShape shape{kernel, stride, padding, kPlain, ceil_mode};
  check(input, shape);
  if (needs_gradient({input})) return avg_pool_by_torch(input, shape, count_include_pad);
  static const auto op = operator_named<decltype(avg_pool)>("corestream::avg_pool");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, kernel, stride, padding, ceil_mode, count_include_pad);
}

}  // namespace
}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def(
      "max_pool(Tensor input, int[] kernel, int[] stride, int[] padding, int[] dilation, "
      "bool ceil_mode) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  library.def(
      "avg_pool(Tensor input, int[] kernel, int[] stride, int[] padding, bool ceil_mode, "
      "bool count_include_pad) -> Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("max_pool", TORCH_FN(corestream::max_pool));
  library.impl("avg_pool", TORCH_FN(corestream::avg_pool));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("max_pool", TORCH_FN(corestream::max_pool_meta));
  library.impl("avg_pool", TORCH_FN(corestream::avg_pool_meta));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("max_pool", TORCH_FN(corestream::max_pool_autograd));
  library.impl("avg_pool", TORCH_FN(corestream::avg_pool_autograd));
}
