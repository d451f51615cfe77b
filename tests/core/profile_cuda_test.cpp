// profile_cuda_test.cpp: the time of ops on device cuda is that between marks in their stream, read
// when the table is. Runs on the engine of tools/simt, whose clock is virtual, or on a GPU.
#include <optional>

#include <gtest/gtest.h>

#include "core/device_graph.h"
#include "core/device_profile.h"
#include "core/device_stream.h"
#include "core/kernels/elementwise.h"
#ifdef MINIBERT_SIMT
#include "tools/simt/control.h"
#endif

namespace minibert {
namespace {

class CudaProfile : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
    stream_.emplace(ComputeOptions{DType::f32, Device::cuda});
    x_ = Tensor::zeros({1000}, DType::f32, MemoryCategory::workspace, Device::cuda);
    stream_->wait();
  }
  void TearDown() override { set_profiling(false); }
  void scale_once() { scale(x_, 2, x_, /* accumulate= */ false); }

  std::optional<DeviceStream> stream_;
  Tensor x_;
};

TEST_F(CudaProfile, OpsAreTimedByTheDevice) {
  set_profiling(true);
  for (int i = 0; i < 3; ++i) scale_once();
  set_profiling(false);
  const ProfileEntry entry = profile_entries().at("scale");
  EXPECT_EQ(entry.calls, 3);
  EXPECT_EQ(entry.bytes, 3 * 8000);
  EXPECT_GT(entry.seconds, 0);
#ifdef MINIBERT_SIMT
  EXPECT_NEAR(entry.seconds, 3 * 5e-6, 1e-9) << "a kernel takes 5 us there";
#endif
}

TEST_F(CudaProfile, TimeInsideAnotherOpCountsOnce) {
  set_profiling(true);
  {
    const DeviceProfileRange outer("outer", {1, 2});
    scale_once();
    scale_once();
  }
  set_profiling(false);
  const auto entries = profile_entries();
  EXPECT_EQ(entries.at("outer").flops, 1);
  EXPECT_EQ(entries.at("scale").calls, 2);
#ifdef MINIBERT_SIMT
  EXPECT_NEAR(entries.at("outer").seconds, 0, 1e-9);
  EXPECT_NEAR(entries.at("scale").seconds, 2 * 5e-6, 1e-9);
#endif
}

TEST_F(CudaProfile, WhatIsCapturedIsNotTimed) {
  set_profiling(true);
  DeviceGraph graph;
  graph.capture([&] { scale_once(); });
  graph.launch();
  set_profiling(false);
  EXPECT_EQ(profile_entries().count("scale"), 0u);
}

#ifdef MINIBERT_SIMT
TEST_F(CudaProfile, NothingIsWaitedForUntilTheTableIsRead) {
  simt::set_schedule(simt::Schedule::lazy);
  set_profiling(true);
  scale_once();
  set_profiling(false);
  EXPECT_GT(simt::pending_operations(), 0u);
  EXPECT_EQ(profile_entries().at("scale").calls, 1);
  EXPECT_EQ(simt::pending_operations(), 0u);
  simt::set_schedule(simt::Schedule::eager);
}
#endif

}  // namespace
}  // namespace minibert
