// device_test.cpp: devices by name, and what a build without CUDA answers.
#include "core/device.h"

#include <gtest/gtest.h>

#include "core/kernels/elementwise.h"
#include "core/tensor.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

using testing::usage_error_of;

TEST(Device, NamesAreReadBack) {
  for (const Device device : {Device::cpu, Device::cuda})
    EXPECT_EQ(parse_device(name_of(device)), device);
  EXPECT_STREQ(name_of(Device::cpu), "cpu");
  EXPECT_STREQ(name_of(Device::cuda), "cuda");
}

TEST(Device, OtherNamesAreRefused) {
  for (const char* name : {"tpu", "", "CPU", "cuda:0", "cpu "}) {
    const std::string message = usage_error_of([&] { parse_device(name); });
    EXPECT_NE(message.find('"' + std::string(name) + '"'), std::string::npos) << message;
    EXPECT_NE(message.find("cpu or cuda"), std::string::npos) << message;
  }
}

TEST(Device, CudaAnswersWithAClearError) {
  if (cuda_available()) GTEST_SKIP() << "this build and this machine have CUDA";
  EXPECT_NE(cuda_unavailable_reason().find("--device cpu"), std::string::npos);
  const std::string tensor =
      usage_error_of([] { Tensor::empty({4}, DType::f32, MemoryCategory::weights, Device::cuda); });
  EXPECT_NE(tensor.find("--device cpu"), std::string::npos) << tensor;
  const std::string kernel = usage_error_of([] {
    Operand x;
    gelu_forward_cuda({x, x}, {});
  });
  EXPECT_NE(kernel.find("gelu"), std::string::npos) << kernel;
  EXPECT_NE(kernel.find("--device cpu"), std::string::npos) << kernel;
}

}  // namespace
}  // namespace minibert
