// launch_test.cpp: launches under the engine: which threads run, with which arguments, in which
// order, what is refused, and what the knobs do.
#include <array>
#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

__global__ void count_threads(int* hits, int per_block) {
  const int block =
      static_cast<int>(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
  ++hits[block * per_block + thread_in_block()];
}

TEST(SimtLaunch, EveryThreadOfEveryBlockRunsOnce) {
  for (const dim3 block :
       {dim3(1), dim3(31), dim3(33), dim3(5, 3, 4), dim3(1024), dim3(8, 4, 32)}) {
    for (const dim3 grid : {dim3(1), dim3(7), dim3(2, 3, 4)}) {
      for (const uint64_t seed : {0, 1, 2, 3}) {
        const simt::OptionsScope options({.seed = seed});
        const int threads = static_cast<int>(block.x * block.y * block.z),
                  blocks = static_cast<int>(grid.x * grid.y * grid.z);
        std::vector<int> hits(static_cast<size_t>(threads) * blocks);
        launch(count_threads, grid, block, 0, {}, hits.data(), threads);
        EXPECT_EQ(hits, std::vector<int>(hits.size(), 1)) << threads << " threads, seed " << seed;
      }
    }
  }
}

__global__ void record_order(std::vector<int>* order) {
  order->push_back(static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
  __syncthreads();
  order->push_back(static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
}
std::vector<int> order_of(uint64_t seed) {
  const simt::OptionsScope options({.seed = seed});
  std::vector<int> order;
  launch(record_order, 3, 64, 0, {}, &order);
  return order;
}

TEST(SimtLaunch, SeedZeroRunsInOrderAndOthersDoNot) {
  std::vector<int> in_order;
  for (int block = 0; block < 3; ++block)
    for (int half = 0; half < 2; ++half)
      for (int thread = 0; thread < 64; ++thread) in_order.push_back(block * 64 + thread);
  EXPECT_EQ(order_of(0), in_order);
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    EXPECT_NE(order_of(seed), in_order) << seed;
    EXPECT_NE(order_of(seed), order_of(seed + 1)) << seed;
    EXPECT_EQ(order_of(seed), order_of(seed)) << "the same seed is the same order";
  }
}

struct Parameters {
  int64_t n;
  float* out;
};
__global__ void write_arguments(Parameters p, float x, int64_t i, const char* text) {
  p.out[0] = x;
  p.out[1] = static_cast<float>(i);
  p.out[2] = static_cast<float>(p.n);
  p.out[3] = text == nullptr ? 1.0f : 0.0f;
  p.n = 0;  // each thread has its own
}

TEST(SimtLaunch, ArgumentsAreConvertedToTheKernelsParameters) {
  std::array<float, 4> out{};
  launch(write_arguments, 1, 2, 0, {}, Parameters{int64_t{1} << 20, out.data()}, 3, 7u, nullptr);
  EXPECT_EQ(out, (std::array<float, 4>{3, 7, 1 << 20, 1}));
}

TEST(SimtLaunch, AGridOfNoBlocksLaunchesNothing) {
  int hits = 0;
  launch(count_threads, 0, 32, 0, {}, &hits, 32);
  launch(count_threads, {4, 0}, 32, 0, {}, &hits, 32);
  EXPECT_EQ(hits, 0);
}

TEST(SimtLaunch, ShapesBeyondTheDevicesLimitsAreRefused) {
  int hits = 0;
  const auto refused = [&](LaunchGrid grid, dim3 block, size_t shared) {
    try {
      launch(count_threads, grid, block, shared, {}, &hits, 1);
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refused(1, 1025, 0), "launch failed with error 9");
  EXPECT_EQ(refused(1, dim3(1, 1, 65), 0), "launch failed with error 9");
  EXPECT_EQ(refused(1, 0, 0), "launch failed with error 9");
  EXPECT_EQ(refused({1, 65536}, 1, 0), "launch failed with error 9");
  EXPECT_EQ(refused(int64_t{1} << 31, 1, 0), "launch failed with error 9");
  EXPECT_EQ(refused(-1, 1, 0), "launch failed with error 9");
  EXPECT_EQ(refused(1, 1, 163 * 1024 + 1), "launch failed with error 1");
  EXPECT_EQ(hits, 0);
  EXPECT_EQ(refused(1, 1, 163 * 1024), "");
  const simt::OptionsScope hopper({.compute_capability = 90});
  EXPECT_EQ(refused(1, 1, 227 * 1024), "");
  EXPECT_EQ(refused(1, 1, 227 * 1024 + 1), "launch failed with error 1");
}

__global__ void spin(int* never) {
  while (*never == 0) __syncthreads();
}

TEST(SimtLaunch, AnEndlessLoopReachesTheStepLimit) {
  const simt::OptionsScope options({.step_limit = 1000});
  int never = 0;
  const std::string report = report_of([&] { launch(spin, 1, 64, 0, {}, &never); });
  EXPECT_HAS(report, "more than 1000 steps");
  EXPECT_HAS(report, "SIMT_STEP_LIMIT");
}

template <typename T>
__global__ void throws(T*) {
  __syncthreads();
  if (threadIdx.x == 40) throw std::logic_error("from a thread");
  __syncthreads();
}

TEST(SimtLaunch, AnExceptionOfAThreadReachesTheHostAndTheNextLaunchRuns) {
  for (int round = 0; round < 3; ++round) {
    EXPECT_THROW(launch(throws<int>, 2, 64, 0, {}, nullptr), std::logic_error);
    std::vector<int> hits(64);
    launch(count_threads, 1, 64, 0, {}, hits.data(), 64);
    EXPECT_EQ(hits, std::vector<int>(64, 1));
  }
}

template <typename T>
__global__ void sync_alone(const T*) {
  if (threadIdx.x < 3) __syncwarp();
}

TEST(SimtLaunch, AReportNamesKernelShapeBlockAndPlace) {
  const std::string report = report_of([] {
    launch(sync_alone<std::pair<int, __half>>, {2, 3}, dim3(16, 4), 0, {}, nullptr);
  });
  EXPECT_HAS(report,
             "in sync_alone<std::pair<int, __half> > (2 x 3 x 1 blocks of 16 x 4 x 1 threads)");
  EXPECT_HAS(report, "launched at tests/tools/simt/engine/launch_test.cpp:");
  EXPECT_HAS(report, "block (0, 0, 0)");
  EXPECT_HAS(report, "seed 0");
}

TEST(SimtLaunch, OptionsComeFromTheEnvironment) {
  setenv("SIMT_SEED", "7", 1);
  setenv("SIMT_ASYNC", "early", 1);
  setenv("SIMT_STEP_LIMIT", "12345", 1);
  setenv("SIMT_SM", "90", 1);
  const simt::Options options = simt::Options::from_environment();
  EXPECT_EQ(options.seed, 7u);
  EXPECT_EQ(options.async, simt::Async::early);
  EXPECT_EQ(options.step_limit, 12345u);
  EXPECT_EQ(options.compute_capability, 90);
  for (const auto& [name, value] : {std::pair{"SIMT_SEED", "x"},
                                    {"SIMT_ASYNC", "soon"},
                                    {"SIMT_SM", "70"},
                                    {"SIMT_STEP_LIMIT", "1k"}}) {
    const std::string before = std::getenv(name);
    setenv(name, value, 1);
    EXPECT_HAS(report_of([] { simt::Options::from_environment(); }), value);
    setenv(name, before.c_str(), 1);
  }
  for (const char* name : {"SEED", "ASYNC", "STEP_LIMIT", "SM"})
    unsetenv((std::string("MINIBERT_SIMT_") + name).c_str());
}

}  // namespace
}  // namespace minibert
