// barrier_test.cpp: __syncthreads, its counting forms, named barriers, block_sum; and the reports for
// threads that meet where they must not.
#include <vector>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

__global__ void rotate(int* out, int rounds) {
  MB_SHARED(int, ring, 1024);
  const int n = static_cast<int>(blockDim.x), i = static_cast<int>(threadIdx.x);
  ring[i] = i;
  __syncthreads();
  for (int round = 0; round < rounds; ++round) {
    const int next = ring[(i + 1) % n];
    __syncthreads();
    ring[i] = next;
    __syncthreads();
  }
  out[i] = ring[i];
}

TEST(SimtBarrier, SyncthreadsSeparatesWritesFromReads) {
  for (const int threads : {1, 31, 64, 100, 1024})
    under_all_schedules([&] {
      std::vector<int> out(static_cast<size_t>(threads));
      launch(rotate, 1, threads, 0, {}, out.data(), 5);
      for (int i = 0; i < threads; ++i) EXPECT_EQ(out[i], (i + 5) % threads);
    });
}

__global__ void count(int limit, int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const int n = __syncthreads_count(i < limit), any = __syncthreads_or(i == limit),
            all = __syncthreads_and(i < limit);
  out[i] = n * 4 + any * 2 + all;
}

TEST(SimtBarrier, CountingFormsGiveEveryThreadTheSame) {
  under_all_schedules([] {
    for (const int limit : {0, 1, 33, 95, 96}) {
      int out[96];
      launch(count, 1, 96, 0, {}, limit, out);
      for (const int x : out) EXPECT_EQ(x, limit * 4 + (limit < 96) * 2 + (limit == 96));
    }
  });
}

__global__ void some_end(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  if (i % 3 == 0) return;
  __syncthreads();
  if (i % 3 == 1) return;
  __syncthreads();
  out[i] = 1;
}

TEST(SimtBarrier, ThreadsThatEndedCountAsHavingCome) {
  under_all_schedules([] {
    int out[96] = {};
    launch(some_end, 1, 96, 0, {}, out);
    for (int i = 0; i < 96; ++i) EXPECT_EQ(out[i], i % 3 == 2);
  });
}

/// Warp 0 fills a buffer that warps 1 and 2 read: full and empty are barriers 1 and 2.
__global__ void producer_and_consumers(int* sums, int rounds) {
  MB_SHARED(int, buffer, 32);
  const int lane = lane_id(), warp = warp_id();
  int sum = 0;
  for (int round = 0; round < rounds; ++round) {
    if (warp == 0) {
      if (round > 0) bar_sync(2, 96);
      buffer[lane] = round * 100 + lane;
      bar_arrive(1, 96);
    } else {
      bar_sync(1, 96);
      sum += buffer[31 - lane];
      if (round + 1 < rounds) bar_arrive(2, 96);
    }
  }
  if (warp > 0) sums[(warp - 1) * 32 + lane] = sum;
}

TEST(SimtBarrier, NamedBarriersHandABufferOver) {
  under_all_schedules([] {
    int sums[64];
    launch(producer_and_consumers, 1, 96, 0, {}, sums, 4);
    for (int i = 0; i < 64; ++i) EXPECT_EQ(sums[i], 600 + 4 * (31 - i % 32));
  });
}

__global__ void sums(const float* x, float* out) {
  MB_SHARED(float, scratch, 32);
  const int i = static_cast<int>(threadIdx.x);
  const float sum = block_sum(x[i], scratch);
  const float most = block_max(x[i], scratch, -1e30f);
  const float again = block_sum(1.0f, scratch);
  out[i] = sum;
  out[blockDim.x + i] = most;
  out[2 * blockDim.x + i] = again;
}

TEST(SimtBarrier, BlockSumsAreTheSameBitsInEveryThreadAndOrder) {
  for (const int threads : {32, 64, 256, 1024}) {
    std::vector<float> x(static_cast<size_t>(threads)), first;
    double exact = 0;
    float most = -1;
    for (int i = 0; i < threads; ++i) {
      x[i] = 1.0f / static_cast<float>((i * 37) % threads + 1);
      exact += static_cast<double>(x[i]);
      most = std::max(most, x[i]);
    }
    under_all_schedules([&] {
      std::vector<float> out(3 * x.size());
      launch(sums, 1, threads, 0, {}, x.data(), out.data());
      if (first.empty()) first = out;
      EXPECT_EQ(out, first);
      for (int i = 0; i < threads; ++i) {
        EXPECT_NEAR(out[i], exact, 1e-5);
        EXPECT_EQ(out[threads + i], most);
        EXPECT_EQ(out[2 * threads + i], threads);
      }
    });
  }
}

// ---- Faults ------------------------------------------------------------------------------------
__global__ void wrong_barrier(int fault) {
  if (fault == 0) bar_sync(0, 64);
  if (fault == 1) bar_sync(1, 33);
  if (fault == 2) bar_sync(1, warp_id() == 0 ? 64 : 96);
  if (fault == 3) bar_sync(3, 96);
}

TEST(SimtBarrier, WrongNumbersAndCountsAreReported) {
  const auto report = [](int fault) {
    return report_of([&] { launch(wrong_barrier, 1, 64, 0, {}, fault); });
  };
  EXPECT_HAS(report(0), "bar_sync(0, 64) at tests/tools/simt/engine/barrier_test.cpp:");
  EXPECT_HAS(report(0), "named barriers are 1..15");
  EXPECT_HAS(report(1), "multiple of 32");
  EXPECT_HAS(report(2), "another thread expects 64");
  EXPECT_HAS(report(3), "deadlock");
  EXPECT_HAS(report(3), "64 threads wait in bar_sync at");
}

}  // namespace
}  // namespace minibert
