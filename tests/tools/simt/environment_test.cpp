// environment_test.cpp: every knob as an environment variable, and refusal of values that are none.
// The runtime reads its environment once, so each case runs in a process of its own: a death test
// that starts this program anew and ends with the code that a check returns.
#include <cstdlib>
#include <string>

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "tools/simt/control.h"
#include "tools/simt/memory.h"

namespace simt {
namespace {

class EnvironmentDeathTest : public ::testing::Test {
 protected:
  EnvironmentDeathTest() { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }
  ~EnvironmentDeathTest() override { unsetenv(variable_.c_str()); }
  void set(const char* variable, const char* value) {
    variable_ = variable;
    setenv(variable, value, 1);
  }
  std::string variable_;
};

constexpr int kYes = 42, kNo = 43;

template <typename Check>
[[noreturn]] void answer(const Check& check) {
  std::exit(check() ? kYes : kNo);
}

cudaDeviceProp properties() {
  cudaDeviceProp p{};
  cudaGetDeviceProperties(&p, 0);
  return p;
}

#define EXPECT_YES(check) \
  EXPECT_EXIT(answer([] { return check; }), ::testing::ExitedWithCode(kYes), "")

TEST_F(EnvironmentDeathTest, DeviceIsSm80) {
  EXPECT_YES(properties().major == 8 && properties().multiProcessorCount == 108);
}

TEST_F(EnvironmentDeathTest, DeviceIsSm90) {
  set("SIMT_DEVICE", "sm_90");
  EXPECT_YES(properties().major == 9 && properties().multiProcessorCount == 132);
}

TEST_F(EnvironmentDeathTest, Devices) {
  set("SIMT_DEVICES", "3");
  EXPECT_YES([] {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count == 3;
  }());
}

TEST_F(EnvironmentDeathTest, Memory) {
  set("SIMT_MEMORY", "3M");
  EXPECT_YES(properties().totalGlobalMem == 3u << 20);
}

TEST_F(EnvironmentDeathTest, NameAndMultiprocessors) {
  set("SIMT_DEVICE_NAME", "a name");
  EXPECT_YES(std::string("a name") == properties().name);
  set("SIMT_MULTIPROCESSORS", "5");
  EXPECT_YES(properties().multiProcessorCount == 5);
  unsetenv("SIMT_DEVICE_NAME");
}

TEST_F(EnvironmentDeathTest, Schedule) {
  const auto runs_at_once = [] {
    bool ran = false;
    enqueue(nullptr, "k", [&] { ran = true; });
    return ran;
  };
  EXPECT_EXIT(answer(runs_at_once), ::testing::ExitedWithCode(kYes), "");
  set("SIMT_SCHEDULE", "lazy");
  EXPECT_EXIT(answer(runs_at_once), ::testing::ExitedWithCode(kNo), "");
}

TEST_F(EnvironmentDeathTest, RandomScheduleWithASeed) {
  // The streams of this seed, asked of the API: the environment must give the same order.
  const auto order = [] {
    std::string text;
    cudaStream_t streams[3];
    for (cudaStream_t& s : streams) cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    for (int i = 0; i < 9; ++i)
      enqueue(streams[i % 3], "k", [&text, i] { text += static_cast<char>('0' + i); });
    cudaDeviceSynchronize();
    return text;
  };
  set("SIMT_SCHEDULE", "random:5");
  EXPECT_EXIT(answer([&] {
                const std::string by_environment = order();
                cudaDeviceReset();
                set_schedule(Schedule::random, 5);
                return by_environment == order() && by_environment != "012345678";
              }),
              ::testing::ExitedWithCode(kYes), "");
}

TEST_F(EnvironmentDeathTest, Failures) {
  set("SIMT_FAIL", "cudaMalloc:2,cudaDeviceSynchronize:1:700");
  EXPECT_YES([] {
    void* pointer = nullptr;
    return cudaMalloc(&pointer, 4) == cudaSuccess &&
           cudaMalloc(&pointer, 4) == cudaErrorMemoryAllocation &&
           cudaDeviceSynchronize() == cudaErrorIllegalAddress &&
           cudaDeviceSynchronize() == cudaSuccess;
  }());
}

TEST_F(EnvironmentDeathTest, StrictMemory) {
  set("SIMT_STRICT", "1");
  EXPECT_DEATH(
      {
        void* pointer = nullptr;
        cudaMalloc(&pointer, 4);
        *static_cast<volatile int*>(pointer) = 1;
      },
      "device allocation 1");
}

TEST_F(EnvironmentDeathTest, LogOfKernels) {
  set("SIMT_LOG", "1");
  EXPECT_EXIT(
      {
        enqueue(nullptr, "a kernel", [] {});
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "a kernel <<<\\(1, 1, 1\\), \\(1, 1, 1\\), 0>>>");
}

TEST_F(EnvironmentDeathTest, CublasLtRefuses) {
  const auto runs = [] {
    float one = 1, zero = 0;
    void* data = nullptr;
    cudaMalloc(&data, 4);
    cudaMemset(data, 0, 4);
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t descriptor;
    cublasLtMatrixLayout_t layout;
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&descriptor, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 1, 1, 1);
    return cublasLtMatmul(handle, descriptor, &one, data, layout, data, layout, &zero, data, layout,
                          data, layout, nullptr, nullptr, 0, nullptr) == CUBLAS_STATUS_SUCCESS;
  };
  EXPECT_EXIT(answer(runs), ::testing::ExitedWithCode(kYes), "");
  set("SIMT_CUBLASLT_REFUSES", "1");
  EXPECT_EXIT(answer(runs), ::testing::ExitedWithCode(kNo), "");
}

TEST_F(EnvironmentDeathTest, TypingErrorsEndTheProcess) {
  const std::pair<const char*, const char*> wrong[] = {
      {"SIMT_DEVICE", "sm_70"},      {"SIMT_DEVICES", "two"},       {"SIMT_MEMORY", "8X"},
      {"SIMT_SCHEDULE", "lazily"},   {"SIMT_SCHEDULE", "random:x"}, {"SIMT_FAIL", "cudaMalloc"},
      {"SIMT_FAIL", "cudaMalloc:0"}, {"SIMT_FAIL", "cudaMalloc:x"}, {"SIMT_STRICT", "yes"}};
  for (const auto& [variable, value] : wrong) {
    set(variable, value);
    EXPECT_EXIT(cudaDeviceSynchronize(), ::testing::ExitedWithCode(2),
                std::string(variable) + " is \".*expected ")
        << variable << "=" << value;
    unsetenv(variable);
  }
}

}  // namespace
}  // namespace simt
