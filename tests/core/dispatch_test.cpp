// dispatch_test.cpp: a CPU call runs its body once and is counted; a CUDA call says what is missing.
#include "core/dispatch.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace minibert {
namespace {

TEST(Dispatch, RunsTheCpuBodyOnceUnderTheOpsName) {
  int runs = 0;
  set_profiling(true);
  dispatch("probe", Device::cpu, 10, 20, [&] { ++runs; });
  set_profiling(false);
  EXPECT_EQ(runs, 1);
  const ProfileEntry entry = profile_entries().at("probe");
  EXPECT_EQ(entry.calls, 1);
  EXPECT_EQ(entry.flops, 10);
  EXPECT_EQ(entry.bytes, 20);
  EXPECT_THROW(dispatch("probe", Device::cpu, 0, 0, [] { throw DataError("from the body"); }),
               DataError);
}

TEST(Dispatch, CudaKernelsSayTheyAreAbsent) {
  try {
    dispatch("probe", Device::cuda, 0, 0, [] { ADD_FAILURE() << "the CPU body ran"; });
    FAIL() << "a CUDA call passed";
  } catch (const UsageError& error) {
    EXPECT_EQ(std::string(error.what()).rfind("probe: ", 0), 0u) << error.what();
  }
}

}  // namespace
}  // namespace minibert
