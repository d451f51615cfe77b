// in_order_worker_test.cpp: tasks run in their order, beside their owner, and their errors reach it.
#include "models/text/in_order_worker.h"

#include <atomic>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

namespace minibert {
namespace {

TEST(InOrderWorker, RunsTasksInTheirOrder) {
  std::vector<int> done;
  InOrderWorker worker;
  for (int i = 0; i < 1000; ++i) worker.give([&done, i] { done.push_back(i); });
  worker.wait();
  ASSERT_EQ(done.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(done[static_cast<size_t>(i)], i);
}

TEST(InOrderWorker, LetsItsOwnerGoOnButNotFarAhead) {
  std::atomic<int> given = 0;
  std::atomic<bool> may_end = false;
  InOrderWorker worker;
  worker.give([&] {
    while (!may_end) std::this_thread::yield();
  });
  std::thread owner([&] {
    for (int i = 0; i < 10; ++i) {
      worker.give([] {});
      ++given;
    }
  });
  while (given < 1) std::this_thread::yield();  // the owner does not wait for the first task
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_LE(given, static_cast<int>(InOrderWorker::kWaiting));
  may_end = true;
  owner.join();
  worker.wait();
  EXPECT_EQ(given, 10);
}

TEST(InOrderWorker, PassesErrorsOnAndDropsWhatFollows) {
  InOrderWorker worker;
  std::atomic<int> after = 0;
  worker.give([] { throw std::runtime_error("first"); });
  EXPECT_THROW(
      {
        for (int i = 0; i < 1000; ++i) worker.give([&] { ++after; });
        worker.wait();
      },
      std::runtime_error);
  EXPECT_THROW(worker.wait(), std::runtime_error);
  EXPECT_EQ(after, 0);
}

}  // namespace
}  // namespace minibert
