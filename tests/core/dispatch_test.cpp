// dispatch_test.cpp: which body runs, under which name, and when the cost is asked for.
#include "core/dispatch.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace minibert {
namespace {

void wrong_body() {
  ADD_FAILURE() << "the other device's body ran";
}

TEST(Dispatch, RunsTheCpuBodyOnceUnderTheOpsName) {
  int runs = 0;
  const auto cost = [] { return Cost{10, 20}; };
  set_profiling(true);
  dispatch(
      "probe", Device::cpu, cost, [&] { ++runs; }, [](Stream) { wrong_body(); });
  set_profiling(false);
  EXPECT_EQ(runs, 1);
  const ProfileEntry entry = profile_entries().at("probe");
  EXPECT_EQ(entry.calls, 1);
  EXPECT_EQ(entry.flops, 10);
  EXPECT_EQ(entry.bytes, 20);
  EXPECT_THROW(dispatch(
                   "probe", Device::cpu, cost, [] { throw DataError("from the body"); },
                   [](Stream) { wrong_body(); }),
               DataError);
}

TEST(Dispatch, HandsTheThreadsStreamToTheCudaBody) {
  int queue = 0;
  const StreamScope scope(Stream{&queue});
  void* seen = nullptr;
  dispatch(
      "probe", Device::cuda, [] { return Cost{}; }, wrong_body,
      [&](Stream stream) { seen = stream.handle; });
  EXPECT_EQ(seen, &queue);
}

TEST(Dispatch, TheCostIsAskedOnlyWhileSomeoneProfiles) {
  int asked = 0;
  const auto call = [&] {
    const auto cost = [&] {
      ++asked;
      return Cost{};
    };
    dispatch(
        "probe", Device::cpu, cost, [] {}, [](Stream) {});
  };
  call();
  EXPECT_EQ(asked, 0);
  set_profiling(true);
  call();
  set_profiling(false);
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace minibert
