#include "pool_team.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "cpu_kernels.h"
#include "operands.h"
#include "team_shares.h"

namespace corestream {
namespace {

// Elements of the input that are worth another thread: about what waking a team takes.
constexpr int64_t kLeastWork = 16 * 1024;
// Channels of an image whose mean is taken together: four vectors of the widest set.
constexpr int64_t kBlock = 64;

struct PoolWork {
  Pool pool;
  PoolKernel kernel;
  float* workspace;  // a row for each member
  int64_t rows, row;
  int members;
};

struct MeanWork {
  Pool pool;
  PoolKernel kernel;
  float* workspace;  // as many as the output has
  int64_t blocks, batch, element_size;
  int members;
};

const char* element(const void* from, int64_t index, int64_t size) {
  return static_cast<const char*>(from) + index * size;
}

// Some blocks of an image's channels: a window that has all of its pixels.
void mean_of(const MeanWork& work, int64_t image, int64_t begin_block, int64_t end_block) {
  const int64_t channels = work.pool.channels, begin = begin_block * kBlock;
  const int64_t pixels = work.pool.height;
  const int64_t from = image * pixels * work.pool.input_pixel + begin,
                to = image * channels + begin;
  Pool part = work.pool;
  part.input = element(part.input, from, work.element_size);
  part.output = const_cast<char*>(element(part.output, to, work.element_size));
  part.channels = std::min(end_block * kBlock, channels) - begin;
  work.kernel(part, 0, 1, work.workspace + to);
}

}  // namespace

PoolKernel pool_kernel([[maybe_unused]] c10::ScalarType dtype) {
#if defined(__x86_64__)
  return choose_kernel(dtype, &pool_fp32_avx2, &pool_fp32_avx512, &pool_bf16_avx512);
#else
  return nullptr;
#endif
}

Pool pool_between(const at::Tensor& image, const at::Tensor& output) {
  Pool pool{};
  pool.input = image.const_data_ptr();
  pool.output = output.data_ptr();
  pool.channels = image.size(1);
  pool.height = image.size(2);
  pool.width = image.size(3);
  pool.input_pixel = image.stride(3);
  pool.out_height = output.size(2);
  pool.out_width = output.size(3);
  pool.output_pixel = pool.channels;
  return pool;
}

void run_pool(const Pool& pool, PoolKernel kernel, int64_t batch) {
  const int64_t rows = batch * pool.out_height, row = pool.width * pool.channels;
  const int members = team_size_for(rows, rows * row * pool.stride_height, kLeastWork);
  const at::Tensor columns = new_tensor({members * row}, at::kFloat);
  const PoolWork work{pool, kernel, columns.data_ptr<float>(), rows, row, members};
  run_shares(members, work, [](const PoolWork& all, int member) {
    const auto [begin, end] = share(all.rows, member, all.members);
    all.kernel(all.pool, begin, end, all.workspace + member * all.row);
  });
}

void run_mean(const Pool& pool, c10::ScalarType dtype, int64_t batch) {
  Pool whole = pool;
  whole.height = whole.kernel_height = pool.height * pool.width;
  whole.width = whole.kernel_width = whole.out_height = whole.out_width = 1;
  whole.is_average = true;
  const at::Tensor sums = new_tensor({batch * pool.channels}, at::kFloat);
  const int64_t blocks = (pool.channels + kBlock - 1) / kBlock, pieces = batch * blocks;
  const int64_t elements = batch * pool.channels * whole.height;
  const auto size = static_cast<int64_t>(c10::elementSize(dtype));
  const int members = team_size_for(pieces, elements, kLeastWork);
  const MeanWork work{whole,  pool_kernel(dtype), sums.data_ptr<float>(), blocks, batch, size,
                      members};
  run_shares(members, work, [](const MeanWork& all, int member) {
    auto [begin, end] = share(all.batch * all.blocks, member, all.members);
    while (begin < end) {
      const int64_t image = begin / all.blocks, first = image * all.blocks;
      const int64_t last = std::min(end, first + all.blocks);
      mean_of(all, image, begin - first, last - first);
      begin = last;
    }
  });
}

}  // namespace corestream
