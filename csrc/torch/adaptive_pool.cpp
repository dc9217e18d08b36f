// torch.ops.corestream.adaptive_avg_pool: means of equal parts of channels-last images.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <cstdint>

#include "operands.h"
#include "pool_team.h"

namespace corestream {
namespace {

void check(const at::Tensor& input, at::IntArrayRef size) {
  check_image(input);
  TORCH_CHECK(size.size() == 2 && size[0] >= 1 && size[1] >= 1,
              "output_size must be 2 sizes of 1 or more; got ", size, "; pass (rows, columns)");
}

at::Tensor by_torch(const at::Tensor& input, at::IntArrayRef size) {
  return at::adaptive_avg_pool2d(input, size).contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor empty_output(const at::Tensor& input, at::IntArrayRef size) {
  check(input, size);
  return new_tensor_symint({input.sym_size(0), input.sym_size(1), size[0], size[1]},
                           input.options(), at::MemoryFormat::ChannelsLast);
}

// Windows that do not overlap.
Pool describe(const at::Tensor& image, const at::Tensor& output) {
  Pool pool = pool_between(image, output);
  pool.kernel_height = pool.stride_height = pool.height / pool.out_height;
  pool.kernel_width = pool.stride_width = pool.width / pool.out_width;
  pool.dilation_height = pool.dilation_width = 1;
  pool.is_average = true;
  return pool;
}

at::Tensor adaptive_avg_pool(const at::Tensor& input, at::IntArrayRef size) {
  const at::Tensor output = empty_output(input, size);
  const PoolKernel kernel = pool_kernel(input.scalar_type());
  const bool is_even = input.size(2) % output.size(2) == 0 && input.size(3) % output.size(3) == 0;
  if (kernel == nullptr || !is_even || output.numel() == 0) return by_torch(input, size);
  const at::Tensor image = with_plain_pixels(input);
  const Pool pool = describe(image, output);
  if (pool.out_height == 1 && pool.out_width == 1) {
    run_mean(pool, input.scalar_type(), image.size(0));
  } else {
    run_pool(pool, kernel, image.size(0));
  }
  return output;
}

at::Tensor adaptive_avg_pool_autograd(const at::Tensor& input, at::IntArrayRef size) {
  check(input, size);
  if (needs_gradient({input})) return by_torch(input, size);
  static const auto op =
      operator_named<decltype(adaptive_avg_pool)>("corestream::adaptive_avg_pool");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, size);
}

}  // namespace
}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def("adaptive_avg_pool(Tensor input, int[] output_size) -> Tensor",
              {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("adaptive_avg_pool", TORCH_FN(corestream::adaptive_avg_pool));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("adaptive_avg_pool", TORCH_FN(corestream::empty_output));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("adaptive_avg_pool", TORCH_FN(corestream::adaptive_avg_pool_autograd));
}
