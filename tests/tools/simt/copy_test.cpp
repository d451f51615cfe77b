// copy_test.cpp: memcpy and memset: which kinds are right, and what has happened when they return.
// Expected behaviour is that of the runtime's manual, "API synchronization behavior".
#include "tests/tools/simt/support.h"

namespace simt {
namespace {

class Copies : public FreshDevice {
 protected:
  Copies() { EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  cudaStream_t stream_ = nullptr;
};

TEST_F(Copies, MoveBytesInEveryKind) {
  const std::vector<int> values = {1, 2, 3, 4};
  std::vector<int> back(4), again(4);
  const OnDevice<int> one(4), two(4);
  ASSERT_OK(cudaMemcpy(one.get(), values.data(), 16, cudaMemcpyHostToDevice));
  ASSERT_OK(cudaMemcpy(two.get() + 1, one.get(), 12, cudaMemcpyDeviceToDevice));
  ASSERT_OK(cudaMemcpy(two.get(), one.get() + 3, 4, cudaMemcpyDefault));
  ASSERT_OK(cudaMemcpy(back.data(), two.get(), 16, cudaMemcpyDeviceToHost));
  EXPECT_EQ((std::vector<int>{4, 1, 2, 3}), back);
  ASSERT_OK(cudaMemcpy(again.data(), back.data(), 16, cudaMemcpyHostToHost));
  EXPECT_EQ(back, again);
}

TEST_F(Copies, KindMustBeWhereTheBytesLie) {
  std::vector<int> host(4);
  const Pinned<int> pinned(4);
  const OnDevice<int> device(4);
  const auto copy = [&](void* to, const void* from, cudaMemcpyKind kind) {
    const cudaError_t result = cudaMemcpyAsync(to, from, 16, kind, stream_);
    EXPECT_EQ(result, cudaGetLastError());
    return result;
  };
  EXPECT_CUDA(cudaErrorInvalidValue, copy(host.data(), device.get(), cudaMemcpyHostToDevice));
  EXPECT_CUDA(cudaErrorInvalidValue, copy(device.get(), host.data(), cudaMemcpyDeviceToHost));
  EXPECT_CUDA(cudaErrorInvalidValue, copy(device.get(), host.data(), cudaMemcpyDeviceToDevice));
  EXPECT_CUDA(cudaErrorInvalidValue, copy(device.get(), device.get(), cudaMemcpyHostToHost));
  EXPECT_CUDA(cudaErrorInvalidValue, copy(pinned.get(), host.data(), cudaMemcpyHostToDevice));
  EXPECT_CUDA(cudaErrorInvalidMemcpyDirection,
              copy(device.get(), host.data(), static_cast<cudaMemcpyKind>(7)));
  EXPECT_CUDA(cudaSuccess, copy(device.get(), pinned.get(), cudaMemcpyHostToDevice));
  EXPECT_CUDA(cudaSuccess, copy(host.data(), device.get(), cudaMemcpyDefault));
  EXPECT_CUDA(cudaErrorInvalidValue, copy(nullptr, device.get(), cudaMemcpyDeviceToHost));
  EXPECT_CUDA(cudaSuccess, cudaMemcpy(nullptr, nullptr, 0, cudaMemcpyDeviceToHost));
}

TEST_F(Copies, RangeMustLieInOneAllocation) {
  std::vector<char> host(200);
  const OnDevice<char> device(100);
  const Pinned<char> pinned(100);
  EXPECT_CUDA(cudaErrorInvalidValue,
              cudaMemcpy(device.get(), host.data(), 101, cudaMemcpyHostToDevice));
  EXPECT_CUDA(cudaErrorInvalidValue,
              cudaMemcpy(host.data(), device.get() + 1, 100, cudaMemcpyDeviceToHost));
  EXPECT_CUDA(cudaErrorInvalidValue,
              cudaMemcpy(device.get(), pinned.get() + 50, 51, cudaMemcpyHostToDevice));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaMemset(device.get(), 0, 101));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaMemset(host.data(), 0, 10)) << "pageable memory";
  EXPECT_CUDA(cudaSuccess, cudaMemset(device.get(), 0, 100));
  void* freed = nullptr;
  ASSERT_OK(cudaMalloc(&freed, 100));
  ASSERT_OK(cudaFree(freed));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaMemcpy(host.data(), freed, 1, cudaMemcpyDefault));
}

TEST_F(Copies, FromPinnedMemoryReadLater) {
  set_schedule(Schedule::lazy);
  const uint64_t counted = pageable_async_copies();
  const Pinned<int> host(1);
  const OnDevice<int> device(1);
  host[0] = 1;
  ASSERT_OK(cudaMemcpyAsync(device.get(), host.get(), 4, cudaMemcpyHostToDevice, stream_));
  host[0] = 2;  // too early: the copy has not run
  ASSERT_OK(cudaStreamSynchronize(stream_));
  EXPECT_EQ(2, device.read()[0]);
  EXPECT_EQ(counted, pageable_async_copies());
}

TEST_F(Copies, FromPageableMemoryHaveReadItWhenTheyReturn) {
  set_schedule(Schedule::lazy);
  const uint64_t counted = pageable_async_copies();
  std::vector<int> host = {1};
  const OnDevice<int> device(1);
  ASSERT_OK(cudaMemcpyAsync(device.get(), host.data(), 4, cudaMemcpyHostToDevice, stream_));
  host[0] = 2;
  EXPECT_EQ(1u, pending_operations()) << "but need not have written it";
  ASSERT_OK(cudaStreamSynchronize(stream_));
  EXPECT_EQ(1, device.read()[0]);
  EXPECT_EQ(counted + 1, pageable_async_copies());
}

TEST_F(Copies, IntoPageableMemoryAreOverWhenTheyReturn) {
  set_schedule(Schedule::lazy);
  const OnDevice<int> device(std::vector<int>{7});
  std::vector<int> host = {0};
  enqueue(stream_, "raise", [&] { device.get()[0] += 1; });
  ASSERT_OK(cudaMemcpyAsync(host.data(), device.get(), 4, cudaMemcpyDeviceToHost, stream_));
  EXPECT_EQ(8, host[0]);
}

TEST_F(Copies, PlainMemcpyFromPageableMemoryMayReturnBeforeTheDeviceHasIt) {
  set_schedule(Schedule::lazy);
  const OnDevice<int> device(1);
  const std::vector<int> host = {3};
  int seen = 0;
  ASSERT_OK(cudaMemcpy(device.get(), host.data(), 4, cudaMemcpyHostToDevice));
  enqueue(stream_, "read", [&] { seen = device.get()[0]; });  // does not wait for the null stream
  ASSERT_OK(cudaStreamSynchronize(stream_));
  EXPECT_EQ(-1, seen) << "0xFFFFFFFF, as allocated";
  ASSERT_OK(cudaDeviceSynchronize());
  EXPECT_EQ(3, device.read()[0]);
}

TEST_F(Copies, PlainMemcpyFromPinnedMemoryIsOverWhenItReturns) {
  set_schedule(Schedule::lazy);
  const OnDevice<int> device(1);
  const Pinned<int> host(1);
  host[0] = 3;
  ASSERT_OK(cudaMemcpy(device.get(), host.get(), 4, cudaMemcpyHostToDevice));
  EXPECT_EQ(0u, pending_operations());
  ASSERT_OK(cudaMemset(device.get(), 0, 4));
  EXPECT_EQ(1u, pending_operations()) << "a memset of device memory is not";
  ASSERT_OK(cudaMemset(host.get(), 0, 4));
  EXPECT_EQ(0, host[0]) << "one of pinned memory is";
}

TEST_F(Copies, MemsetFillsBytes) {
  const OnDevice<unsigned char> device(std::vector<unsigned char>{1, 2, 3, 4});
  ASSERT_OK(cudaMemsetAsync(device.get() + 1, 0x1ab, 2, stream_));
  ASSERT_OK(cudaStreamSynchronize(stream_));
  EXPECT_EQ((std::vector<unsigned char>{1, 0xab, 0xab, 4}), device.read());
}

TEST_F(Copies, PinnedMemoryIsKnownAsSuch) {
  const OnDevice<char> device(10);
  std::vector<char> host(10), registered(10);
  void* pinned = nullptr;
  ASSERT_OK(cudaHostAlloc(&pinned, 10, cudaHostAllocPortable));
  ASSERT_OK(cudaHostRegister(registered.data(), 10, cudaHostRegisterDefault));
  const auto type_of = [](const void* pointer) {
    cudaPointerAttributes attributes{};
    EXPECT_EQ(cudaSuccess, cudaPointerGetAttributes(&attributes, pointer));
    return attributes.type;
  };
  EXPECT_EQ(cudaMemoryTypeDevice, type_of(device.get() + 9));
  EXPECT_EQ(cudaMemoryTypeHost, type_of(pinned));
  EXPECT_EQ(cudaMemoryTypeHost, type_of(registered.data() + 9));
  EXPECT_EQ(cudaMemoryTypeUnregistered, type_of(host.data()));
  void* seen_by_device = nullptr;
  unsigned flags = 0;
  ASSERT_OK(cudaHostGetDevicePointer(&seen_by_device, pinned, 0));
  EXPECT_EQ(pinned, seen_by_device);
  ASSERT_OK(cudaHostGetFlags(&flags, pinned));
  EXPECT_TRUE(flags & cudaHostAllocPortable);
  ASSERT_OK(cudaHostUnregister(registered.data()));
  EXPECT_EQ(cudaMemoryTypeUnregistered, type_of(registered.data()));
  EXPECT_CUDA(cudaErrorHostMemoryNotRegistered, cudaHostUnregister(registered.data()));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaHostAlloc(&pinned, 10, 128)) << "no such flag";
}

TEST_F(Copies, MemoryCannotBePinnedTwiceOrFreedWrongly) {
  std::vector<char> host(100);
  ASSERT_OK(cudaHostRegister(host.data(), 50, 0));
  EXPECT_CUDA(cudaErrorHostMemoryAlreadyRegistered, cudaHostRegister(host.data() + 49, 10, 0));
  EXPECT_CUDA(cudaSuccess, cudaHostRegister(host.data() + 50, 10, 0));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFreeHost(host.data())) << "registered, not allocated";
  EXPECT_CUDA(cudaErrorInvalidValue, cudaHostRegister(host.data() + 80, 0, 0));
  void* pinned = nullptr;
  ASSERT_OK(cudaMallocHost(&pinned, 10));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaHostUnregister(pinned)) << "allocated, not registered";
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFreeHost(static_cast<char*>(pinned) + 1));
  EXPECT_CUDA(cudaSuccess, cudaFreeHost(pinned));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFreeHost(pinned));
  EXPECT_CUDA(cudaSuccess, cudaFreeHost(nullptr));
}

TEST_F(Copies, FreesWaitForTheDevice) {
  set_schedule(Schedule::lazy);
  void *device = nullptr, *pinned = nullptr;
  ASSERT_OK(cudaMalloc(&device, 4));
  ASSERT_OK(cudaMallocHost(&pinned, 4));
  ASSERT_OK(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream_));
  ASSERT_OK(cudaFreeHost(pinned));
  EXPECT_EQ(0u, pending_operations());
  ASSERT_OK(cudaMemsetAsync(device, 0, 4, stream_));
  ASSERT_OK(cudaFree(device));
  EXPECT_EQ(0u, pending_operations());
}

// ---- Stream-ordered allocation -----------------------------------------------------------------
TEST_F(Copies, FreeAsyncFreesWhenTheStreamGetsThere) {
  set_schedule(Schedule::lazy);
  void* pointer = nullptr;
  ASSERT_OK(cudaMallocAsync(&pointer, 100, stream_));
  ASSERT_OK(cudaMemsetAsync(pointer, 0, 100, stream_));
  ASSERT_OK(cudaFreeAsync(pointer, stream_));
  EXPECT_TRUE(in_device_memory(pointer, 100));
  ASSERT_OK(cudaStreamSynchronize(stream_));
  EXPECT_FALSE(in_device_memory(pointer, 1));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFreeAsync(pointer, stream_));
}

TEST_F(Copies, UseAfterFreeAsyncInAnotherStreamIsAFault) {
  set_schedule(Schedule::lazy);
  cudaStream_t other = nullptr;
  ASSERT_OK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  void* pointer = nullptr;
  ASSERT_OK(cudaMallocAsync(&pointer, 100, stream_));
  ASSERT_OK(cudaMemsetAsync(pointer, 0, 100, other));
  ASSERT_OK(cudaFreeAsync(pointer, stream_));  // does not wait for `other`
  ASSERT_OK(cudaStreamSynchronize(stream_));
  EXPECT_CUDA(cudaErrorIllegalAddress, cudaStreamSynchronize(other));
}

TEST_F(Copies, PoolsCountAndReuseAfterQueuedFrees) {
  set_schedule(Schedule::lazy);
  DeviceModel model = device_model(80);
  model.memory_bytes = 1 << 20;
  set_device_model(model);
  cudaMemPool_t pool = nullptr;
  ASSERT_OK(cudaDeviceGetDefaultMemPool(&pool, 0));
  const auto number = [&](cudaMemPoolAttr which) {
    uint64_t value = ~uint64_t{0};
    EXPECT_EQ(cudaSuccess, cudaMemPoolGetAttribute(pool, which, &value));
    return value;
  };
  uint64_t threshold = 12345;
  ASSERT_OK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
  EXPECT_EQ(threshold, number(cudaMemPoolAttrReleaseThreshold));
  void *first = nullptr, *second = nullptr, *third = nullptr;
  ASSERT_OK(cudaMallocAsync(&first, 700 << 10, stream_));
  EXPECT_EQ(uint64_t{700 << 10}, number(cudaMemPoolAttrUsedMemCurrent));
  ASSERT_OK(cudaFreeAsync(first, stream_));
  EXPECT_CUDA(cudaSuccess, cudaMallocAsync(&second, 800 << 10, stream_)) << "the free made room";
  EXPECT_EQ(uint64_t{800 << 10}, number(cudaMemPoolAttrUsedMemHigh));
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMallocAsync(&third, 800 << 10, stream_));
  ASSERT_OK(cudaFree(second)) << "a plain free takes it too";
  EXPECT_EQ(0u, number(cudaMemPoolAttrUsedMemCurrent));
}

TEST_F(Copies, PoolsOfOnesOwn) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, {0}};
  cudaMemPool_t pool = nullptr, current = nullptr;
  ASSERT_OK(cudaMemPoolCreate(&pool, &properties));
  ASSERT_OK(cudaDeviceSetMemPool(0, pool));
  ASSERT_OK(cudaDeviceGetMemPool(&current, 0));
  EXPECT_EQ(pool, current);
  void* pointer = nullptr;
  ASSERT_OK(cudaMallocFromPoolAsync(&pointer, 64, pool, stream_));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaMemPoolDestroy(pool)) << "in use";
  ASSERT_OK(cudaFreeAsync(pointer, stream_));
  ASSERT_OK(cudaMemPoolTrimTo(pool, 0));
  ASSERT_OK(cudaMemPoolDestroy(pool));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaMallocFromPoolAsync(&pointer, 64, pool, stream_));
  ASSERT_OK(cudaDeviceGetMemPool(&current, 0));
  EXPECT_NE(pool, current);
}

}  // namespace
}  // namespace simt
