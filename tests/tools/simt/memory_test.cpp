// memory_test.cpp: where device memory lies, what shows a wrong access to it, and when it is full.
// Faults are death tests: the child prints which allocation the address belongs to.
#include "tests/tools/simt/support.h"

namespace simt {
namespace {

using Memory = FreshDevice;
using MemoryDeathTest = FreshDevice;

// Stores that neither ASan nor the compiler looks at, as a kernel's would be.
__attribute__((noinline, no_sanitize("address"))) void store(void* address, unsigned char value) {
  *static_cast<volatile unsigned char*>(address) = value;
}
__attribute__((noinline, no_sanitize("address"))) unsigned char load(const void* address) {
  return *static_cast<const volatile unsigned char*>(address);
}

TEST_F(Memory, AllocationsAreAligned256AndApart) {
  std::vector<std::pair<uintptr_t, size_t>> ranges;
  for (size_t bytes : {1, 4, 255, 256, 257, 4095, 4096, 4097, 100000}) {
    void* pointer = device_allocate(bytes);
    ASSERT_NE(nullptr, pointer);
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    EXPECT_EQ(0u, address % 256) << bytes;
    for (const auto& [other, size] : ranges) EXPECT_GE(address, other + size + 4096 - 256);
    ranges.emplace_back(address, bytes);
  }
}

TEST_F(Memory, IsNotANumberWhenFresh) {
  const OnDevice<float> values(1000);
  for (float value : values.read()) ASSERT_NE(value, value);
}

TEST_F(Memory, AddressesAreNeverUsedTwice) {
  void* first = device_allocate(5000);
  device_free(first);
  for (int i = 0; i < 100; ++i) {
    void* next = device_allocate(5000);
    EXPECT_NE(first, next);
    device_free(next);
  }
}

TEST_F(Memory, CountsBytesAndAllocations) {
  const size_t before = device_bytes_in_use();
  void* pointer = device_allocate(1000);
  EXPECT_EQ(before + 1024, device_bytes_in_use());
  EXPECT_EQ(1u, live_device_allocations());
  device_free(pointer);
  EXPECT_EQ(before, device_bytes_in_use());
  EXPECT_EQ(0u, live_device_allocations());
}

TEST_F(Memory, FindsTheAllocationOfAnAddress) {
  auto* base = static_cast<std::byte*>(device_allocate(1000));
  const auto inside = find_allocation(base + 999);
  ASSERT_TRUE(inside.has_value());
  EXPECT_EQ(base, inside->base);
  EXPECT_EQ(1000u, inside->bytes);
  EXPECT_TRUE(inside->live);
  EXPECT_TRUE(in_device_memory(base, 1000));
  EXPECT_TRUE(in_device_memory(base + 1000, 0));
  EXPECT_FALSE(in_device_memory(base, 1001));
  EXPECT_FALSE(in_device_memory(base + 1, 1000));
  EXPECT_FALSE(in_device_memory(base - 1, 1));
  EXPECT_FALSE(in_device_memory(base, ~size_t{0}));
  int local = 0;
  EXPECT_FALSE(find_allocation(&local).has_value());
  device_free(base);
  EXPECT_FALSE(find_allocation(base)->live);
  EXPECT_FALSE(in_device_memory(base, 1));
}

TEST_F(Memory, DescribesAddresses) {
  auto* base = static_cast<std::byte*>(device_allocate(1000));
  const std::string of =
      "allocation " + std::to_string(find_allocation(base)->number) + " (1000 bytes)";
  EXPECT_EQ("at byte 3 of device " + of, describe_address(base + 3));
  EXPECT_EQ("24 bytes past the end of device " + of, describe_address(base + 1024));
  EXPECT_EQ("5 bytes before the start of device " + of, describe_address(base - 5));
  device_free(base);
  EXPECT_EQ("at byte 0 of freed device " + of, describe_address(base));
}

TEST_F(Memory, BrokenCanaryIsReportedAtSynchronise) {
  for (ptrdiff_t offset : {-1, 100, 255}) {
    auto* base = static_cast<std::byte*>(device_allocate(100));
    EXPECT_CUDA(cudaSuccess, cudaDeviceSynchronize());
    store(base + offset, 7);
    EXPECT_THROW(check_device_memory(), DeviceFault) << offset;
    EXPECT_CUDA(cudaErrorIllegalAddress, cudaDeviceSynchronize()) << offset;
    EXPECT_CUDA(cudaErrorIllegalAddress, cudaStreamSynchronize(nullptr)) << "a dead device";
    cudaDeviceReset();
    EXPECT_CUDA(cudaSuccess, cudaDeviceSynchronize()) << "reset revives it";
  }
}

TEST_F(Memory, LastByteOfAnAllocationIsNoCanary) {
  for (size_t bytes : {1, 100, 256, 4096}) {
    auto* base = static_cast<std::byte*>(device_allocate(bytes));
    store(base, 7);
    store(base + bytes - 1, 7);
  }
  EXPECT_NO_THROW(check_device_memory());
}

TEST_F(Memory, BrokenCanaryIsReportedAtFree) {
  auto* base = static_cast<std::byte*>(device_allocate(100));
  store(base + 100, 7);
  EXPECT_THROW(device_free(base), DeviceFault);
  EXPECT_EQ(0u, live_device_allocations()) << "it is freed all the same";
}

TEST_F(Memory, FreeingTwiceOrInsideIsAnError) {
  void* pointer = nullptr;
  ASSERT_OK(cudaMalloc(&pointer, 100));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFree(static_cast<char*>(pointer) + 4));
  EXPECT_CUDA(cudaSuccess, cudaFree(pointer));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFree(pointer));
  int local = 0;
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFree(&local));
  EXPECT_CUDA(cudaSuccess, cudaFree(nullptr));
  EXPECT_THROW(device_free(pointer), DeviceFault);
}

TEST_F(Memory, RunsOutAtTheModelsSize) {
  DeviceModel model = device_model(80);
  model.memory_bytes = 1 << 20;
  set_device_model(model);
  void *most = nullptr, *rest = nullptr, *more = nullptr;
  ASSERT_OK(cudaMalloc(&most, (1 << 20) - 512));
  ASSERT_OK(cudaMalloc(&rest, 300));
  size_t free = 1, total = 0;
  ASSERT_OK(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(0u, free);
  EXPECT_EQ(size_t{1} << 20, total);
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&more, 1));
  EXPECT_EQ(nullptr, more);
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaGetLastError());
  EXPECT_CUDA(cudaSuccess, cudaGetLastError()) << "out of memory is not sticky";
  ASSERT_OK(cudaFree(rest));
  EXPECT_CUDA(cudaSuccess, cudaMalloc(&more, 1));
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&rest, ~size_t{0} - 100)) << "no wrap-around";
}

TEST_F(Memory, ZeroBytesAreNullAndNoError) {
  void* pointer = &pointer;
  EXPECT_CUDA(cudaSuccess, cudaMalloc(&pointer, 0));
  EXPECT_EQ(nullptr, pointer);
  EXPECT_EQ(nullptr, device_allocate(0));
}

TEST_F(MemoryDeathTest, UseAfterFreeFaults) {
  void* pointer = device_allocate(1000);
  device_free(pointer);
  EXPECT_DEATH(store(pointer, 1), "at byte 0 of freed device allocation [0-9]+ \\(1000 bytes\\)");
}

TEST_F(MemoryDeathTest, FarOverrunsFaultBothWays) {
  auto* base = static_cast<std::byte*>(device_allocate(1000));
  EXPECT_DEATH(store(base + 1024, 1), "24 bytes past the end of device allocation");
  EXPECT_DEATH(store(base - 4096, 1), "4096 bytes before the start of device allocation");
}

TEST_F(MemoryDeathTest, StrictModeKeepsTheHostOut) {
  set_strict_memory(true);
  const OnDevice<int> values(std::vector<int>{1, 2, 3});
  EXPECT_DEATH(load(values.get() + 1), "at byte 4 of device allocation");
  EXPECT_EQ((std::vector<int>{1, 2, 3}), values.read()) << "copies open it";
  int seen = 0;
  enqueue(nullptr, "reads", [&] { seen = values.get()[2]; });
  EXPECT_EQ(3, seen) << "kernels open it";
  EXPECT_DEATH(load(values.get()), "device allocation") << "and it is closed again";
  set_strict_memory(false);
  EXPECT_EQ(1, load(values.get()));
}

TEST_F(MemoryDeathTest, StrictModeKeepsHostFunctionsOut) {
  set_strict_memory(true);
  const OnDevice<int> values(10);
  const auto read = [](void* address) { load(address); };
  EXPECT_DEATH(cudaLaunchHostFunc(nullptr, read, values.get()), "device allocation");
}

#if defined(__SANITIZE_ADDRESS__)
TEST_F(MemoryDeathTest, AsanSeesTheFirstByteOutside) {
  auto* base = static_cast<volatile unsigned char*>(device_allocate(100));
  EXPECT_DEATH(base[100] = 1, "AddressSanitizer");
  EXPECT_DEATH(base[-1] = 1, "AddressSanitizer");
  base[99] = 1;
}
#endif

}  // namespace
}  // namespace simt
