#include "cpu_list.h"

#include "testing.h"

namespace corestream {
namespace {

TEST(runs_are_written_as_ranges) {
  CHECK_EQ(to_string(CpuList{}), "");
  CHECK_EQ(to_string(CpuList{3}), "3");
  CHECK_EQ(to_string(CpuList{0, 1}), "0-1");
  CHECK_EQ(to_string(CpuList{0, 1, 2, 3, 8}), "0-3,8");
  CHECK_EQ(to_string(CpuList{0, 2, 4, 5, 1023, 1024}), "0,2,4-5,1023-1024");
}

TEST(order_is_kept) {
  CHECK_EQ(to_string(CpuList{3, 2, 1}), "3,2,1");
  CHECK_EQ(to_string(CpuList{4, 5, 0, 1}), "4-5,0-1");
}

}  // namespace
}  // namespace corestream
