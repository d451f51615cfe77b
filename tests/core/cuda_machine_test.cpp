// cuda_machine_test.cpp: what the runtime says of its devices, be they GPUs or the engine's.
#include "core/cuda_machine.h"

#include <gtest/gtest.h>

#include "core/device_marks.h"

namespace minibert {
namespace {

TEST(CudaMachine, AgreesWithTheDeviceThatIsUsed) {
  const CudaMachine machine = cuda_machine();
  EXPECT_TRUE(machine.in_build);
  EXPECT_GE(machine.driver, machine.runtime);
  EXPECT_GE(machine.runtime, 12000);
  EXPECT_EQ(machine.error, "");
  ASSERT_FALSE(machine.gpus.empty());
  EXPECT_EQ(machine.gpus[0].name, cuda_device().name);
  EXPECT_EQ(machine.gpus[0].memory_bytes, cuda_device().memory_bytes);
  EXPECT_GE(machine.gpus[0].major, 8);
  EXPECT_GT(machine.gpus[0].free_bytes, 0);
  EXPECT_LE(machine.gpus[0].free_bytes, machine.gpus[0].memory_bytes);
  for (const auto& [a, b] : machine.apart) EXPECT_LT(a, b);
}

}  // namespace
}  // namespace minibert
