// runtime_test.cpp: devices, errors, injected failures, kernels' attributes, and the log.
#include <thread>

#include "tests/tools/simt/support.h"

namespace simt {
namespace {

using RuntimeApi = FreshDevice;

__attribute__((noinline)) void a_kernel() {}
const void* const kKernel = reinterpret_cast<const void*>(&a_kernel);

// ---- Devices -----------------------------------------------------------------------------------
TEST_F(RuntimeApi, DevicesAreWhatTheModelSays) {
  for (int capability : {80, 90}) {
    DeviceModel model = device_model(capability);
    model.name = "a name";
    model.multiprocessors = 7;
    model.memory_bytes = 123 << 20;
    set_device_model(model);
    cudaDeviceProp properties{};
    ASSERT_OK(cudaGetDeviceProperties(&properties, 0));
    EXPECT_STREQ("a name", properties.name);
    EXPECT_EQ(capability, 10 * properties.major + properties.minor);
    EXPECT_EQ(7, properties.multiProcessorCount);
    EXPECT_EQ(size_t{123} << 20, properties.totalGlobalMem);
    EXPECT_EQ(32, properties.warpSize);
    // Programming guide, "Technical specifications per compute capability": KiB a block may have.
    EXPECT_EQ((capability == 80 ? 163u : 227u) << 10, properties.sharedMemPerBlockOptin);
    int attribute = 0;
    ASSERT_OK(cudaDeviceGetAttribute(&attribute, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    EXPECT_EQ(properties.sharedMemPerBlockOptin, static_cast<size_t>(attribute));
    ASSERT_OK(cudaDeviceGetAttribute(&attribute, cudaDevAttrComputeCapabilityMajor, 0));
    EXPECT_EQ(properties.major, attribute);
    ASSERT_OK(cudaDeviceGetAttribute(&attribute, cudaDevAttrMultiProcessorCount, 0));
    EXPECT_EQ(7, attribute);
  }
  int attribute = 0;
  EXPECT_CUDA(cudaErrorInvalidValue,
              cudaDeviceGetAttribute(&attribute, static_cast<cudaDeviceAttr>(9999), 0));
}

TEST_F(RuntimeApi, MachineWithoutADevice) {
  DeviceModel none;
  none.devices = 0;
  set_device_model(none);
  int count = 7, version = 7;
  void* pointer = nullptr;
  EXPECT_CUDA(cudaErrorNoDevice, cudaGetDeviceCount(&count));
  EXPECT_EQ(0, count);
  EXPECT_CUDA(cudaErrorNoDevice, cudaMalloc(&pointer, 4));
  EXPECT_CUDA(cudaErrorNoDevice, cudaMallocHost(&pointer, 4));
  EXPECT_CUDA(cudaSuccess, cudaRuntimeGetVersion(&version));
  EXPECT_EQ(CUDART_VERSION, version);
  EXPECT_CUDA(cudaSuccess, cudaDriverGetVersion(&version));
  EXPECT_EQ(0, version);
}

TEST_F(RuntimeApi, MachineWithAnOldDriverLeavesTheCountAlone) {
  fail_call("cudaGetDeviceCount", 1, cudaErrorInsufficientDriver);
  int count = 7;
  EXPECT_CUDA(cudaErrorInsufficientDriver, cudaGetDeviceCount(&count));
  EXPECT_EQ(7, count);
}

TEST_F(RuntimeApi, EveryThreadHasItsDevice) {
  DeviceModel two = device_model(80);
  two.devices = 2;
  two.memory_bytes = 1 << 20;
  set_device_model(two);
  ASSERT_OK(cudaSetDevice(1));
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaSetDevice(2));
  int device = -1, elsewhere = -1;
  std::thread([&] { EXPECT_CUDA(cudaSuccess, cudaGetDevice(&elsewhere)); }).join();
  ASSERT_OK(cudaGetDevice(&device));
  EXPECT_EQ(1, device);
  EXPECT_EQ(0, elsewhere);
  void *first = nullptr, *second = nullptr;
  ASSERT_OK(cudaMalloc(&first, 1 << 20));
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&second, 1 << 20));
  ASSERT_OK(cudaSetDevice(0));
  EXPECT_CUDA(cudaSuccess, cudaMalloc(&second, 1 << 20)) << "each device has memory of its own";
  cudaPointerAttributes attributes{};
  ASSERT_OK(cudaPointerGetAttributes(&attributes, first));
  EXPECT_EQ(1, attributes.device);
  int can_access = 0;
  ASSERT_OK(cudaDeviceCanAccessPeer(&can_access, 0, 1));
  EXPECT_EQ(1, can_access);
}

// ---- Errors ------------------------------------------------------------------------------------
TEST_F(RuntimeApi, LastErrorIsKeptUntilItIsTaken) {
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaSetDevice(99));
  int count = 0;
  EXPECT_CUDA(cudaSuccess, cudaGetDeviceCount(&count));
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaPeekAtLastError()) << "a success doesn't clear it";
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaGetLastError());
  EXPECT_CUDA(cudaSuccess, cudaGetLastError());
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaSetDevice(99));
  cudaError_t elsewhere = cudaErrorUnknown;
  std::thread([&] { elsewhere = cudaGetLastError(); }).join();
  EXPECT_CUDA(cudaSuccess, elsewhere) << "each thread has its own";
}

TEST_F(RuntimeApi, FaultsOfTheDeviceAreSticky) {
  enqueue(nullptr, "faulty", [] { throw DeviceFault("misaligned", cudaErrorMisalignedAddress); });
  EXPECT_CUDA(cudaErrorMisalignedAddress, cudaDeviceSynchronize());
  EXPECT_CUDA(cudaErrorMisalignedAddress, cudaGetLastError());
  EXPECT_CUDA(cudaErrorMisalignedAddress, cudaGetLastError()) << "can't be cleared";
  void* pointer = nullptr;
  EXPECT_CUDA(cudaErrorMisalignedAddress, cudaMalloc(&pointer, 4));
  bool ran = false;
  enqueue(nullptr, "later", [&] { ran = true; });
  EXPECT_FALSE(ran);
  ASSERT_OK(cudaDeviceReset());
  cudaGetLastError();
  EXPECT_CUDA(cudaSuccess, cudaMalloc(&pointer, 4));
}

TEST_F(RuntimeApi, FaultsAreReportedByWhateverWaitsNext) {
  set_schedule(Schedule::lazy);
  enqueue(nullptr, "faulty", [] { throw std::runtime_error("a bug of the kernel"); });
  EXPECT_CUDA(cudaSuccess, cudaPeekAtLastError()) << "the launch itself is fine";
  void* pointer = nullptr;
  EXPECT_CUDA(cudaSuccess, cudaMalloc(&pointer, 4)) << "doesn't wait";
  EXPECT_CUDA(cudaErrorLaunchFailure, cudaStreamSynchronize(nullptr));
}

TEST_F(RuntimeApi, ResetForgetsEverything) {
  set_schedule(Schedule::lazy);
  cudaStream_t stream = nullptr;
  void *device = nullptr, *pinned = nullptr;
  bool ran = false;
  ASSERT_OK(cudaStreamCreate(&stream));
  ASSERT_OK(cudaMalloc(&device, 100));
  ASSERT_OK(cudaMallocHost(&pinned, 100));
  enqueue(stream, "pending", [&] { ran = true; });
  ASSERT_OK(cudaDeviceReset());
  EXPECT_FALSE(ran);
  EXPECT_EQ(0u, live_device_allocations());
  EXPECT_EQ(0u, pending_operations());
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(stream));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFreeHost(pinned));
}

// ---- Failures at will --------------------------------------------------------------------------
TEST_F(RuntimeApi, NthCallFailsAndDoesNothing) {
  fail_call("cudaMalloc", 2);
  fail_call("cudaMalloc", 4, cudaErrorECCUncorrectable);
  void* pointers[5] = {};
  const cudaError_t expected[] = {cudaSuccess, cudaErrorMemoryAllocation, cudaSuccess,
                                  cudaErrorECCUncorrectable, cudaSuccess};
  const uint64_t before = calls_of("cudaMalloc");
  for (int i = 0; i < 5; ++i) {
    EXPECT_CUDA(expected[i], cudaMalloc(&pointers[i], 4)) << i;
    EXPECT_EQ(expected[i] == cudaSuccess, pointers[i] != nullptr) << i;
  }
  EXPECT_EQ(before + 5, calls_of("cudaMalloc"));
  EXPECT_EQ(3u, live_device_allocations());
}

TEST_F(RuntimeApi, FailuresAreUsualErrorsOfTheirFunctions) {
  for (const char* function : {"cudaMallocHost", "cudaStreamCreate", "device/memset"})
    fail_call(function, 1);
  void* pointer = nullptr;
  cudaStream_t stream = nullptr;
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMallocHost(&pointer, 4));
  EXPECT_CUDA(cudaErrorUnknown, cudaStreamCreate(&stream));
  const OnDevice<int> device(1);
  EXPECT_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 0, 4, cudaStreamPerThread));
  EXPECT_CUDA(cudaErrorLaunchFailure, cudaStreamSynchronize(cudaStreamPerThread));
}

TEST_F(RuntimeApi, LaunchesCanFailToo) {
  bool ran = false;
  fail_call("cudaLaunchKernel", 1, cudaErrorLaunchOutOfResources);
  enqueue(nullptr, "k", [&] { ran = true; });
  EXPECT_FALSE(ran);
  EXPECT_CUDA(cudaErrorLaunchOutOfResources, cudaGetLastError());
  fail_call("device/k", 2);
  enqueue(nullptr, "k", [] {});
  EXPECT_CUDA(cudaSuccess, cudaDeviceSynchronize());
  enqueue(nullptr, "k", [&] { ran = true; });
  EXPECT_FALSE(ran);
  EXPECT_CUDA(cudaErrorLaunchFailure, cudaDeviceSynchronize());
}

// ---- Kernels -----------------------------------------------------------------------------------
TEST_F(RuntimeApi, LaunchShapesMustFitTheDevice) {
  const auto launch = [](const LaunchShape& shape) {
    enqueue(nullptr, "k", shape, [] {});
    return cudaGetLastError();
  };
  LaunchShape good;
  good.grid[0] = 0x7fffffff;
  good.block[0] = 32, good.block[1] = 32;
  EXPECT_CUDA(cudaSuccess, launch(good));
  for (const auto& spoil : std::vector<void (*)(LaunchShape&)>{
           [](LaunchShape& s) { s.grid[1] = 0; }, [](LaunchShape& s) { s.grid[2] = 65536; },
           [](LaunchShape& s) { s.block[0] = 0; }, [](LaunchShape& s) { s.block[2] = 2; },
           [](LaunchShape& s) { s.block[0] = 1, s.block[1] = 1, s.block[2] = 65; }}) {
    LaunchShape bad = good;
    spoil(bad);
    EXPECT_CUDA(cudaErrorInvalidConfiguration, launch(bad));
  }
}

TEST_F(RuntimeApi, SharedMemoryAbove48KiBMustBeAskedFor) {
  LaunchShape shape;
  shape.function = kKernel;
  shape.shared_bytes = 48 << 10;
  const auto launch = [&] {
    enqueue(nullptr, "k", shape, [] {});
    return cudaGetLastError();
  };
  EXPECT_CUDA(cudaSuccess, launch());
  shape.shared_bytes += 1;
  EXPECT_CUDA(cudaErrorInvalidValue, launch());
  const auto raise = [](int bytes) {
    return cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  EXPECT_CUDA(cudaSuccess, raise(100 << 10));
  EXPECT_EQ(size_t{100} << 10, dynamic_shared_limit(kKernel));
  EXPECT_EQ(size_t{48} << 10, dynamic_shared_limit(nullptr)) << "other kernels keep theirs";
  EXPECT_CUDA(cudaSuccess, launch());
  cudaFuncAttributes attributes{};
  ASSERT_OK(cudaFuncGetAttributes(&attributes, kKernel));
  EXPECT_EQ(100 << 10, attributes.maxDynamicSharedSizeBytes);
  EXPECT_CUDA(cudaSuccess, raise(163 << 10));
  EXPECT_CUDA(cudaErrorInvalidValue, raise((163 << 10) + 1)) << "more than sm_80 has";
  set_device_model(device_model(90));
  EXPECT_CUDA(cudaSuccess, raise(227 << 10));
}

TEST_F(RuntimeApi, OccupancyIsBoundByThreadsBlocksAndSharedMemory) {
  const auto blocks = [](int threads, size_t shared) {
    int found = -1;
    EXPECT_EQ(cudaSuccess,
              cudaOccupancyMaxActiveBlocksPerMultiprocessor(&found, kKernel, threads, shared));
    return found;
  };
  EXPECT_EQ(2, blocks(1024, 0)) << "2048 threads";
  EXPECT_EQ(1, blocks(1000 + 24, 100 << 10));
  EXPECT_EQ(32, blocks(32, 0)) << "32 blocks";
  EXPECT_EQ(3, blocks(128, 50 << 10)) << "164 KiB in pieces of 50 + 1";
  EXPECT_EQ(0, blocks(2048, 0));
  EXPECT_EQ(0, blocks(32, 164 << 10));
  int unused = 0;
  EXPECT_CUDA(cudaErrorInvalidValue,
              cudaOccupancyMaxActiveBlocksPerMultiprocessor(&unused, kKernel, 0, 0));
}

TEST_F(RuntimeApi, LogsKernelsWithTheirShapes) {
  cudaStream_t stream = nullptr;
  ASSERT_OK(cudaStreamCreate(&stream));
  LaunchShape shape;
  shape.grid[0] = 3, shape.block[1] = 4, shape.shared_bytes = 5;
  enqueue(stream, "first", shape, [] {});
  enqueue(nullptr, "second", [] {});
  const OnDevice<int> device(std::vector<int>{1});  // a copy is no kernel
  unsigned long long id = 0;
  ASSERT_OK(cudaStreamGetId(stream, &id));
  const auto log = launches();
  ASSERT_EQ(2u, log.size());
  EXPECT_EQ("first", log[0].name);
  EXPECT_EQ(3u, log[0].shape.grid[0]);
  EXPECT_EQ(4u, log[0].shape.block[1]);
  EXPECT_EQ(5u, log[0].shape.shared_bytes);
  EXPECT_EQ(id, log[0].stream);
  EXPECT_EQ(0u, log[1].stream);
  clear_launches();
  EXPECT_TRUE(launches().empty());
}

}  // namespace
}  // namespace simt
