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
// Bytes of a pixel's channels that one member has, or a multiple: a cache line.
constexpr int64_t kBlockBytes = 64;

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
  float* workspace;  // a row for each member
  int64_t block, blocks, batch, row, element_size;
  int members;
};

struct Blocks {
  int64_t image, begin, end;
};

// Some blocks of an image's channels.
void mean_of(const MeanWork& work, const Blocks& blocks, float* workspace) {
  const Pool& pool = work.pool;
  const int64_t begin = blocks.begin * work.block;
  const int64_t from = blocks.image * pool.height * pool.width * pool.input_pixel + begin;
  const int64_t to = blocks.image * pool.channels + begin;
  Pool part = pool;
  part.input = static_cast<const char*>(pool.input) + from * work.element_size;
  part.output = static_cast<char*>(pool.output) + to * work.element_size;
  part.channels = std::min(blocks.end * work.block, pool.channels) - begin;
  work.kernel(part, 0, 1, workspace);
}

}  // namespace

PoolKernel pool_kernel([[maybe_unused]] c10::ScalarType dtype) {
#if defined(__x86_64__)
  return choose_kernel(dtype, &pool_fp32_avx2, &pool_fp32_avx512, &pool_bf16_avx512);
#else
  return nullptr;
#endif
}

void check_image(const at::Tensor& input) {
  TORCH_CHECK(input.dim() == 4, "input must have 4 dims; got ", input.dim(),
              "; pass (batch, channels, height, width)");
  for (const int64_t dim : {1, 2, 3}) {
    TORCH_CHECK(input.sym_size(dim) > 0, "input must have channels and pixels; got ",
                input.sym_sizes(), "; only the batch may be empty");
  }
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
  const auto size = static_cast<int64_t>(c10::elementSize(dtype));
  const int64_t block = kBlockBytes / size, blocks = (pool.channels + block - 1) / block;
  const int64_t row = pool.width * pool.channels, elements = batch * pool.height * row;
  const int members = team_size_for(batch * blocks, elements, kLeastWork);
  const at::Tensor columns = new_tensor({members * row}, at::kFloat);
  auto* workspace = columns.data_ptr<float>();
  const MeanWork work{pool,   pool_kernel(dtype), workspace, block, blocks, batch, row, size,
                      members};
  run_shares(members, work, [](const MeanWork& all, int member) {
    auto [begin, end] = share(all.batch * all.blocks, member, all.members);
    while (begin < end) {
      const int64_t image = begin / all.blocks, first = image * all.blocks;
      const int64_t last = std::min(end, first + all.blocks);
      mean_of(all, {image, begin - first, last - first}, all.workspace + member * all.row);
      begin = last;
    }
  });
}

}  // namespace corestream
