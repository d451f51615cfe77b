// parallel_test.cpp: every block once, whatever the thread count; exceptions; nesting.
#include "core/parallel.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/scratch.h"

namespace minibert {
namespace {

// A handler may not run on their stacks: a library's product may be under way there.
TEST(Parallel, OtherThreadsTakeNoSignals) {
  set_num_threads(3);
  const std::thread::id here = std::this_thread::get_id();
  std::atomic<int> others = 0;
  for (int round = 0; round < 100 && others == 0; ++round) {
    parallel_blocks(64, [&](int64_t) {
      sigset_t blocked;
      pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
      const bool mine = std::this_thread::get_id() == here;
      if (!mine) ++others;
      for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2})
        EXPECT_EQ(sigismember(&blocked, signal), mine ? 0 : 1);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    });
  }
#ifdef _OPENMP
  EXPECT_GT(others, 0);
#endif
  set_num_threads(available_cpus());
}

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

TEST(ThreadScratch, IsOnesOwnAndStays) {
  set_num_threads(2);
  std::atomic<int> wrong{0};
  parallel_blocks(64, [&](int64_t block) {
    auto* mine = thread_scratch_of<int64_t>(1000);
    for (int i = 0; i < 1000; ++i) mine[i] = block;
    for (int i = 0; i < 1000; ++i) wrong += mine[i] != block;
    wrong += reinterpret_cast<uintptr_t>(mine) % 64 != 0;
  });
  EXPECT_EQ(wrong, 0);
  void* large = thread_scratch(1 << 20);
  EXPECT_EQ(thread_scratch(10), large) << "a smaller request must not make a new buffer";
}

}  // namespace
}  // namespace minibert
