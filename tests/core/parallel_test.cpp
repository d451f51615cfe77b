// parallel_test.cpp: every block once, whatever the thread count; exceptions; nesting. And
// core/simd.h, core/profile.h, core/error.h and core/arena.h in one case each: what they promise
// that no other test would miss.
#include "core/parallel.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/arena.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/simd.h"

namespace minibert {
namespace {

TEST(Parallel, VisitsEveryElementOnceForEveryThreadCount) {
  for (int threads : {1, 2, 3}) {
    set_num_threads(threads);
    for (int64_t n : {0, 1, 7, 64, 65, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
      parallel_for(n, 64, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % 64, 0);
        for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
      });
      for (auto& v : visits) EXPECT_EQ(v, 1);
    }
  }
  set_num_threads(available_cpus());
}

TEST(Parallel, RethrowsTheErrorOfTheLowestBlock) {
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    try {
      parallel_blocks(16, [](int64_t block) {
        if (block >= 3) fail<DataError>("block {}", block);
      });
      FAIL() << "the exception was lost";
    } catch (const DataError& error) {
      EXPECT_STREQ(error.what(), "block 3");
    }
  }
  set_num_threads(available_cpus());
}

TEST(Parallel, NestedCallsRunOnTheCallingThread) {
  set_num_threads(2);
  std::atomic<int> total{0};
  parallel_blocks(4, [&](int64_t) {
    const auto outer = std::this_thread::get_id();
    parallel_blocks(8, [&](int64_t) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      ++total;
    });
  });
  EXPECT_EQ(total, 32);
  set_num_threads(available_cpus());
}

TEST(Parallel, RejectsSenselessThreadCounts) {
  EXPECT_THROW(set_num_threads(0), UsageError);
  EXPECT_THROW(set_num_threads(-2), UsageError);
  EXPECT_THROW(set_num_threads(5000), UsageError);
}

TEST(Simd, LowerLevelsAreSupportedBelowTheBest) {
  EXPECT_TRUE(simd_level_supported(SimdLevel::v2));
  const SimdLevel best = simd_level();
  set_simd_level(SimdLevel::v2);
  EXPECT_EQ(simd_level(), SimdLevel::v2);
  set_simd_level(best);
}

TEST(Error, CategoriesAreTheDocumentedExitCodes) {
  EXPECT_EQ(InternalError("").exit_code(), 1);
  EXPECT_EQ(UsageError("").exit_code(), 2);
  EXPECT_EQ(DataError("").exit_code(), 3);
  EXPECT_EQ(NumericError("").exit_code(), 4);
  EXPECT_EQ(CommError("").exit_code(), 5);
  EXPECT_EQ(OutOfMemory("").exit_code(), 6);
  EXPECT_EQ(CheckpointError("").exit_code(), 7);
  try {
    MB_ASSERT(1 + 1 == 3, "sums are {}", "odd");
    FAIL();
  } catch (const InternalError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("sums are odd"), std::string::npos);
    EXPECT_NE(text.find("parallel_test.cpp"), std::string::npos);
    EXPECT_NE(text.find("report"), std::string::npos);
  }
}

TEST(Profile, CountsCallsTimeAndFlopsByName) {
  set_profiling(true);
  for (int i = 0; i < 3; ++i)
    dispatch("probe", Device::cpu, 10, 20,
             [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); });
  set_profiling(false);
  dispatch("probe", Device::cpu, 10, 20, [] {});
  const ProfileEntry entry = profile_entries().at("probe");
  EXPECT_EQ(entry.calls, 3);
  EXPECT_EQ(entry.flops, 30);
  EXPECT_EQ(entry.bytes, 60);
  EXPECT_GE(entry.seconds, 0.006);
}

TEST(Dispatch, CudaKernelsSayTheyAreAbsent) {
  EXPECT_THROW(dispatch("probe", Device::cuda, 0, 0, [] { FAIL(); }), UsageError);
}

TEST(Arena, SlicesAreAlignedAndAdjacentOnesTouch) {
  ParameterTable table;
  const int embedding = table.add("word", {100, 8}, {128, 8});
  const int query = table.add("query", {3, 3});
  const int key = table.add("key", {3, 3}, {3, 3}, /* adjacent= */ true);
  const int after = table.add("after", {5});
  EXPECT_EQ(table[embedding].offset, 0);
  EXPECT_EQ(table[query].offset, 128 * 8);
  EXPECT_EQ(table[key].offset, table[query].offset + 9);
  EXPECT_EQ(table[after].offset % 64, 0);
  EXPECT_EQ(table.size() % 64, 0);
  EXPECT_EQ(table.parameters(), 800 + 9 + 9 + 5);
  EXPECT_EQ(table.find("key"), key);
  EXPECT_EQ(table.find("value"), -1);
  EXPECT_THROW(table.add("query", {1}), UsageError);

  Arena arena(table);
  arena.with_gradients();
  EXPECT_EQ(arena.weight(embedding).shape(), Shape({128, 8}));
  arena.gradient(key).data<float>()[0] = 5.0f;
  EXPECT_EQ(arena.gradients().data<float>()[table[key].offset], 5.0f);
  EXPECT_EQ(arena.weights().data<float>()[table[key].offset], 0.0f);
}

}  // namespace
}  // namespace minibert
