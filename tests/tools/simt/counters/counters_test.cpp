// counters_test.cpp: sectors and FLOPs of kernels whose counts follow from their addresses alone.
#include "tools/simt/counters/counters.h"

#include <gtest/gtest.h>

#include "core/ptx.h"
#include "tools/simt/options.h"

namespace minibert {
namespace {

/// Floats on the device.
struct Floats {
  float* data = nullptr;
  explicit Floats(int count) { MB_CUDA(cudaMalloc(&data, sizeof(float) * count)); }
  ~Floats() { cudaFree(data); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
};

/// Counts of the one launch that `run` makes.
template <typename Run>
simt::LaunchCounts counts_of(const Run& run) {
  const simt::Counters counters;
  run();
  EXPECT_EQ(counters.launches().size(), 1u);
  return counters.launches().at(0);
}

__global__ void copy_floats(const float* x, float* y, int stride) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  y[i] = x[i * stride];
}

// A warp's 32 neighbouring floats are 128 bytes, 4 sectors; 8 floats apart, each has its own.
TEST(Counters, CoalescedAndStridedLoads) {
  const Floats x(64 * 8), y(64);
  for (const int stride : {1, 2, 8}) {
    const auto counts =
        counts_of([&] { launch(copy_floats, 2, 32, 0, {}, x.data, y.data, stride); });
    EXPECT_EQ(counts.kernel, "copy_floats");
    EXPECT_EQ(counts.read.distinct, 8u * stride);
    EXPECT_EQ(counts.read.requested, 8u * stride);
    EXPECT_EQ(counts.written.distinct, 8u);
    EXPECT_EQ(counts.written.requested, 8u);
  }
}

__global__ void copy_packs(const float* x, float* y) {
  const int i = thread_in_block() * 4;
  const auto pack = load_pack<4>(x + i);
  Pack<float, 4> result;
#pragma unroll
  for (int k = 0; k < 4; ++k) result[k] = 2 * pack[k];
  store_pack(y + i, result);
}

// 16 bytes a lane: one instruction touches 16 sectors, not four of 16 each.
TEST(Counters, APackIsOneInstruction) {
  const Floats x(128), y(128);
  const auto counts = counts_of([&] { launch(copy_packs, 1, 32, 0, {}, x.data, y.data); });
  EXPECT_EQ(counts.read.distinct, 16u);
  EXPECT_EQ(counts.read.requested, 16u);
  EXPECT_EQ(counts.written.distinct, 16u);
  EXPECT_EQ(counts.written.requested, 16u);
}

/// Every warp reads all floats, in rounds of 32; odd lanes end a round early.
__global__ void sum_all(const float* x, int rounds, float* y) {
  float sum = 0;
  for (int i = 0; i < rounds - lane_id() % 2; ++i) sum += x[i * kWarpSize + lane_id()];
  y[thread_in_block()] = warp_sum(sum);
}

TEST(Counters, ReadingAgainIsRequestedAgain) {
  const Floats x(4 * 32), y(64);
  for (const uint64_t seed : {0, 3}) {  // the order of threads changes nothing
    const simt::OptionsScope options({.seed = seed});
    const auto counts = counts_of([&] { launch(sum_all, 3, 64, 0, {}, x.data, 4, y.data); });
    EXPECT_EQ(counts.read.distinct, 16u);
    EXPECT_EQ(counts.read.requested, 3u * 2 * 16);
    EXPECT_EQ(counts.written.distinct, 8u);  // three blocks write the same
    EXPECT_EQ(counts.written.requested, 3u * 8);
  }
}

__global__ void copy_async(const float* x, float* y, int valid) {
  MB_SHARED(float, s_tile, 128);
  const int i = thread_in_block() * 4;
  cp_async16_if(s_tile + i, x + i, thread_in_block() < valid);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  y[thread_in_block()] = s_tile[127 - i];
}

// Shared memory is not counted, and a copy that is switched off reads nothing.
TEST(Counters, AsynchronousCopiesRead) {
  const Floats x(128), y(32);
  for (const simt::Async async : {simt::Async::early, simt::Async::late}) {
    const simt::OptionsScope options({.async = async});
    const auto counts = counts_of([&] { launch(copy_async, 1, 32, 0, {}, x.data, y.data, 10); });
    EXPECT_EQ(counts.read.distinct, 5u);
    EXPECT_EQ(counts.read.requested, 5u);
    EXPECT_EQ(counts.written.distinct, 4u);
  }
}

__global__ void count_up(unsigned* counter) {
  atomicAdd(counter, 1u);
}

__global__ void multiply(int times) {
  float c[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  for (int i = 0; i < times; ++i) mma_m16n8k16<__nv_bfloat16>(c, a, b);
  mma_m16n8k8_tf32(c, a, b[0], b[1]);
}

TEST(Counters, AtomicsReadAndWrite) {
  const Floats x(1);
  const auto counts =
      counts_of([&] { launch(count_up, 1, 32, 0, {}, reinterpret_cast<unsigned*>(x.data)); });
  EXPECT_EQ(counts.read.distinct, 1u);
  EXPECT_EQ(counts.written.distinct, 1u);
}

TEST(Counters, TensorOperationsOfEachWarp) {
  const auto counts = counts_of([&] { launch(multiply, 2, 96, 0, {}, 5); });
  EXPECT_EQ(counts.tensor_flops, 2u * 3 * (5 * 4096 + 2048));
  EXPECT_EQ(counts.read.requested, 0u);
}

TEST(Counters, EachLaunchHasItsOwnAndNoneIsCountedOutside) {
  const Floats x(64), y(64);
  launch(copy_floats, 2, 32, 0, {}, x.data, y.data, 1);
  {
    const simt::Counters counters;
    for (int i = 0; i < 3; ++i) launch(copy_floats, 1, 32, 0, {}, x.data, y.data, 1);
    ASSERT_EQ(counters.launches().size(), 3u);
    for (const auto& counts : counters.launches()) EXPECT_EQ(counts.read.distinct, 4u);
  }
  launch(copy_floats, 2, 32, 0, {}, x.data, y.data, 1);
}

}  // namespace
}  // namespace minibert
