#include "chain_plan.h"

#include "team_shares.h"

namespace corestream {
namespace {

// Of a core's second-level cache (512 KiB on Zen 3) what rows and weights of fused stages may take.
constexpr int64_t kFusedBytes = 320 * 1024;
// What a member passes on to the next stage and finds again in that cache without fusion.
constexpr int64_t kKeptBytes = 256 * 1024;
// A row of fewer pixels makes low tiles.
constexpr int64_t kLeastRowPixels = 24;
// Work in 16 that may be done twice, as members need rows of their neighbours.
constexpr int64_t kMostTwice = 1;

int64_t row_products(const ChainStage& stage) {
  const Convolution& c = stage.convolution;
  // A depthwise multiplication takes as long as several of a dense one, which has more in
  // registers.
  const int64_t each = stage.is_depthwise ? 8 : c.channels;
  return c.out_width * c.out_channels * c.num_taps() * each;
}

int64_t weight_bytes(const ChainStage& stage, int64_t element_size) {
  const Convolution& c = stage.convolution;
  const int64_t channels = stage.is_depthwise ? 1 : c.channels;
  return c.out_channels * channels * c.num_taps() * element_size;
}

// Whether rows between stages and all weights fit into the cache.
bool fits_cache(const ChainStages& stages, int64_t element_size) {
  int64_t bytes = 0;
  for (size_t i = 0; i < stages.size(); ++i) {
    bytes += weight_bytes(stages[i], element_size);
    if (i == 0) continue;
    bytes += stages[i].convolution.kernel_height * row_bytes(stages[i - 1], element_size);
  }
  return bytes <= kFusedBytes;
}

// Whether little is done twice: a member makes each row that its own depend on.
bool divides_well(const ChainStages& stages, int members) {
  int64_t all = 0, twice = 0, extra_rows = 0;
  for (size_t i = stages.size(); i-- > 0;) {
    const Convolution& c = stages[i].convolution;
    all += row_products(stages[i]) * c.batch * c.out_height;
    twice += row_products(stages[i]) * extra_rows * (members - 1);
    extra_rows = extra_rows * c.stride_height + c.kernel_height - c.stride_height;
  }
  return 16 * twice <= kMostTwice * all;
}

bool pays(const ChainStages& stages, int64_t element_size) {
  const ChainStage& before = stages[stages.size() - 2];
  const ChainStage& last = stages.back();
  const int members = chain_members(stages);
  const Convolution& c = before.convolution;
  const int64_t passed_on = c.batch * c.out_height * row_bytes(before, element_size) / members;
  return passed_on > kKeptBytes && last.convolution.out_width >= kLeastRowPixels &&
         fits_cache(stages, element_size) && divides_well(stages, members);
}

}  // namespace

bool ChainStage::may_follow() const { return is_depthwise || convolution.is_product(); }

int64_t row_bytes(const ChainStage& stage, int64_t element_size) {
  return stage.convolution.out_width * stage.convolution.out_channels * element_size;
}

int chain_members(const ChainStages& stages) {
  int64_t products = 0;
  for (const ChainStage& stage : stages) {
    products += row_products(stage) * stage.convolution.batch * stage.convolution.out_height;
  }
  const Convolution& last = stages.back().convolution;
  return team_size_for(last.batch * last.out_height, products, kLeastProducts);
}

size_t fused_stages(const ChainStages& stages, size_t begin, int64_t element_size) {
  ChainStages fused{stages[begin]};
  if (!stages[begin].kernel) return 1;
  for (size_t i = begin + 1; i < stages.size(); ++i) {
    if (!stages[i].kernel || !stages[i].may_follow()) break;
    fused.push_back(stages[i]);
    if (!pays(fused, element_size)) return i - begin;
  }
  return fused.size();
}

}  // namespace corestream
