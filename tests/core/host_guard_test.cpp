// host_guard_test.cpp: tensors that the host must not read while a step runs. A process of its own,
// since the guard is for the whole process and must come before the first tensor.
#include "core/host_guard.h"

#include <csignal>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "core/device_value.h"
#include "core/kernels/cast.h"
#include "core/parallel.h"

namespace minibert {
namespace {

class HostGuardTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { HostGuard::enable(); }
  void TearDown() override { HostGuard::open(); }
};

using HostGuardDeathTest = HostGuardTest;

TEST_F(HostGuardDeathTest, AHostReadBetweenKernelsIsAFault) {
  const Tensor x = Tensor::zeros({16});
  EXPECT_EQ(x.data<float>()[3], 0.0f);
  HostGuard::close();
  EXPECT_EXIT(
      {
        std::signal(SIGSEGV, SIG_DFL);
        volatile float value = x.data<float>()[3];
        (void)value;
      },
      ::testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(
      {
        std::signal(SIGSEGV, SIG_DFL);
        volatile float value = x.reshape({4, 4}).rows(1, 1).span<float>()[0];
        (void)value;
      },
      ::testing::KilledBySignal(SIGSEGV), "");
}

TEST_F(HostGuardTest, KernelsReadAndWriteOnAllThreads) {
  set_num_threads(2);
  const int64_t n = 1 << 18;
  const Tensor x = Tensor::empty({n}), y = Tensor::empty({n}, DType::bf16);
  for (int64_t i = 0; i < n; ++i) x.data<float>()[i] = static_cast<float>(i % 64);
  HostGuard::close();
  cast(x, y, /* accumulate= */ false);
  const Tensor z = y.to(DType::f32);  // allocated while the region is closed
  std::vector<float> values(static_cast<size_t>(n));
  copy_to_host(z, values.data());
  HostGuard::open();
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], i % 64) << i;
}

TEST_F(HostGuardTest, HostDataStaysReadable) {
  const int32_t ids[] = {1, 2, 3};
  const Tensor host = Tensor::from<int32_t>(ids, {3});  // MemoryCategory::data
  const DeviceValue<uint32_t> step(7);
  HostGuard::close();
  EXPECT_EQ(host.data<int32_t>()[2], 3);
  EXPECT_EQ(step.read(), 7u);
}

}  // namespace
}  // namespace minibert
