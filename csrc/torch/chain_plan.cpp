#include "chain_plan.h"

#include <unistd.h>

#include "convolution_team.h"
#include "team_shares.h"

namespace corestream {
namespace {

// Where the kernel does not tell.
constexpr int64_t kLeastCache = 512 * 1024;
// A row of fewer pixels makes low tiles.
constexpr int64_t kLeastRowPixels = 24;
// The share of the work that may be done twice, as members need rows of their neighbours.
constexpr double kMostTwice = 1.0 / 16;
// The share of their time that members must be busy.
constexpr double kLeastEvenness = 0.9;

// A core's second level.
int64_t cache_bytes() {
  static const int64_t found = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return found > 0 ? found : kLeastCache;
}
// What a member passes on to the next stage and finds again there without fusion.
int64_t kept_bytes() { return cache_bytes() / 2; }
// What rows and weights of fused stages may take of it.
int64_t fused_bytes() { return cache_bytes() * 5 / 8; }

int64_t weight_bytes(const ChainStage& stage, int64_t element_size) {
  const Convolution& c = stage.convolution;
  const int64_t taps = c.out_channels * c.num_taps();
  return stage.is_depthwise ? taps * static_cast<int64_t>(sizeof(float))
                            : taps * c.channels * element_size;
}

// Whether rows between stages and all weights fit into the cache.
bool fits_cache(const ChainStages& stages, int64_t element_size) {
  int64_t bytes = ring_bytes(stages, element_size);
  for (const ChainStage& stage : stages) bytes += weight_bytes(stage, element_size);
  return bytes <= fused_bytes();
}

int64_t products_of(const ChainStage& stage) {
  const Convolution& c = stage.convolution;
  return row_products(c, stage.is_depthwise) * c.batch * c.out_height;
}

// Whether little is done twice, as a member makes each row that its own depend on, and nobody
// waits.
bool divides_well(const ChainStages& stages, int members) {
  int64_t all = 0, twice = 0, extra_rows = 0;
  for (size_t i = stages.size(); i-- > 0;) {
    const Convolution& c = stages[i].convolution;
    all += products_of(stages[i]);
    twice += row_products(c, stages[i].is_depthwise) * extra_rows * (members - 1);
    extra_rows = extra_rows * c.stride_height + c.kernel_height - c.stride_height;
  }
  const Convolution& last = stages.back().convolution;
  return static_cast<double>(twice) <= kMostTwice * static_cast<double>(all) &&
         evenness(last.batch * last.out_height, members) >= kLeastEvenness;
}

bool pays(const ChainStages& stages, int64_t element_size) {
  const ChainStage& before = stages[stages.size() - 2];
  const int members = chain_members(stages);
  const Convolution& c = before.convolution;
  const int64_t passed_on = c.batch * c.out_height * row_bytes(before, element_size) / members;
  return passed_on > kept_bytes() && stages.back().convolution.out_width >= kLeastRowPixels &&
         fits_cache(stages, element_size) && divides_well(stages, members);
}

}  // namespace

int chain_members(const ChainStages& stages) {
  int64_t products = 0;
  for (const ChainStage& stage : stages) products += products_of(stage);
  const Convolution& last = stages.back().convolution;
  return team_size_for(last.batch * last.out_height, products, kLeastProducts);
}

size_t fused_stages(const ChainStages& stages, size_t begin, int64_t element_size) {
  if (!stages[begin].kernel) return 1;
  ChainStages fused{stages[begin]};
  for (size_t i = begin + 1; i < stages.size(); ++i) {
    if (!stages[i].kernel || !stages[i].may_follow()) break;
    fused.push_back(stages[i]);
    if (!pays(fused, element_size)) return i - begin;
  }
  return fused.size();
}

}  // namespace corestream
