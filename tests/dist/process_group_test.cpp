// process_group_test.cpp: names and numbers of collectives, handles, and the group of one rank.
#include "dist/process_group.h"

#include <thread>

#include <gtest/gtest.h>

#include "tests/usage_error.h"

namespace minibert {
namespace {

using testing::usage_error_of;

TEST(SelfGroup, DoesEverythingAtTheCallAndChangesNothing) {
  const auto group = self_group();
  EXPECT_EQ(group->rank(), 0);
  EXPECT_EQ(group->world(), 1);
  std::vector<float> values = {1, 2, 3};
  const Elements data{std::span(values)};
  Handle handles[] = {group->all_reduce(data), group->reduce_scatter(data), group->all_gather(data),
                      group->broadcast(data, 0), group->barrier()};
  for (Handle& handle : handles) {
    EXPECT_TRUE(handle.done());
    EXPECT_NO_THROW(handle.wait());
  }
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3}));
  EXPECT_FALSE(group->running());
}

TEST(SelfGroup, NumbersAndNamesItsCollectives) {
  const auto group = self_group();
  std::vector<int64_t> values(10);
  const Elements data{std::span(values)};
  EXPECT_EQ(group->all_reduce(data).collective().str(), "all_reduce #1 of 10 i64");
  EXPECT_EQ(group->reduce_scatter(data).collective().str(), "reduce_scatter #2 of 10 i64");
  EXPECT_EQ(group->all_gather(data).collective().str(), "all_gather #3 of 10 i64");
  EXPECT_EQ(group->broadcast(data, 0).collective().str(), "broadcast #4 of 10 i64 from rank 0");
  EXPECT_EQ(group->barrier().collective().str(), "barrier #5");
  EXPECT_EQ(group->sequence(), 5);
}

TEST(SelfGroup, RefusesARootThatIsNoRank) {
  const auto group = self_group();
  EXPECT_EQ(usage_error_of([&] { group->broadcast({}, 1).wait(); }),
            "broadcast: root is 1, expected 0 to 0");
  EXPECT_EQ(group->sequence(), 0);
}

TEST(Handle, WaitsAndRethrowsWhatItsWorkEndedWith) {
  const auto work = std::make_shared<Work>(Collective{});
  Handle handle(work);
  EXPECT_FALSE(handle.done());
  EXPECT_FALSE(handle.wait_for(0.001));
  std::thread other([&] { work->finish(std::make_exception_ptr(CommError("rank 1 is gone"))); });
  EXPECT_THROW(handle.wait(), CommError);
  EXPECT_TRUE(handle.done());
  EXPECT_TRUE(handle.wait_for(0));
  other.join();
}

TEST(Handle, IsDroppedOnlyWhenItsWorkIsDone) {
  const auto work = std::make_shared<Work>(Collective{});
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    work->finish(std::make_exception_ptr(CommError("too late")));
  });
  { const Handle handle(work); }
  EXPECT_TRUE(work->done());
  other.join();
  const auto replaced = std::make_shared<Work>(Collective{});
  replaced->finish();
  Handle handle(replaced);
  handle = Handle();
  EXPECT_TRUE(handle.done());
}

}  // namespace
}  // namespace minibert
