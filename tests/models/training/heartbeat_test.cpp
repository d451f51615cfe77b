// heartbeat_test.cpp: the last beat is what others read, whole.
#include "models/training/heartbeat.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "tests/models/text/shard_fixture.h"

namespace minibert {
namespace {

TEST(Heartbeat, SaysWhereARankStood) {
  const testing::TemporaryFolder run;
  EXPECT_EQ(Heartbeat::last_of(run.path(), 3), "");
  Heartbeat heart(Heartbeat::file_of(run.path(), 3));
  EXPECT_EQ(Heartbeat::last_of(run.path(), 3), "");
  heart.beat(123456, "evaluating");
  heart.beat(7, "saving");
  EXPECT_EQ(Heartbeat::last_of(run.path(), 3), "rank 3: step 7, saving, 0 s ago");
  namespace fs = std::filesystem;
  const fs::path file = Heartbeat::file_of(run.path(), 3);
  fs::last_write_time(file, fs::last_write_time(file) - std::chrono::seconds(12));
  EXPECT_EQ(Heartbeat::last_of(run.path(), 3), "rank 3: step 7, saving, 12 s ago");
}

TEST(Heartbeat, OfAFolderThatCannotBeWrittenIsNoError) {
  Heartbeat heart("/proc/nothing/rank-0.heartbeat");
  heart.beat(1, "computing");
  EXPECT_EQ(Heartbeat::last_of("/proc/nothing", 0), "");
}

}  // namespace
}  // namespace minibert
