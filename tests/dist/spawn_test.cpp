// spawn_test.cpp: ranks on this machine, as processes: how they end, their code and messages.
#include "dist/spawn.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/clock.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

/// Three ranks of dist_rank_program, which lies beside this test.
class SpawnTest : public ::testing::Test {
 protected:
  int spawn(const std::string& fault, SpawnOptions options = {}) {
    const std::string timeout = fault.starts_with("s") ? "2" : "60";  // of collectives, seconds
    options.ranks = 3;
    options.program =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "dist_rank_program";
    options.command = {"dist_rank_program", "ring", "40", timeout, fault};
    options.say = [&](const std::string& text) { said_ += text + "\n"; };
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int code = spawn_ranks(options);
    printed_ = ::testing::internal::GetCapturedStdout();
    errors_ = ::testing::internal::GetCapturedStderr();
    return code;
  }
  void expect_said(const std::string& text) {
    EXPECT_NE(said_.find(text), std::string::npos) << said_ << errors_;
  }

  std::string said_, printed_, errors_;
};

TEST_F(SpawnTest, AllRanksMeetAndEnd) {
  EXPECT_EQ(spawn("none"), 0) << errors_;
  EXPECT_EQ(printed_, "sum 2460\nsum 2460\nsum 2460\n");
  EXPECT_EQ(said_, "");
}

TEST_F(SpawnTest, AnOuterLauncherDoesNotCount) {
  ::setenv("OMPI_COMM_WORLD_RANK", "0", 1);
  ::setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
  EXPECT_EQ(spawn("none"), 0) << errors_;
  ::unsetenv("OMPI_COMM_WORLD_RANK");
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
}

TEST_F(SpawnTest, TheCodeIsThatOfTheRankThatFailedForAReasonOfItsOwn) {
  EXPECT_EQ(spawn("throw@2"), 3);
  expect_said("rank 2 ended with exit code 3\n");
  expect_said("rank 0 ended with exit code 5\n");
  expect_said("rank 1 ended with exit code 5\n");
}

TEST_F(SpawnTest, ARankThatIsKilledIsNamed) {
  EXPECT_EQ(spawn("kill@1"), 5);
  expect_said("rank 1 was killed by signal 9 (Killed)\n");
  expect_said("rank 0 ended with exit code 5\n");
  expect_said("rank 2 ended with exit code 5\n");
}

TEST_F(SpawnTest, APlannedKillMeetsItsRankInTime) {
  const double begin = seconds_now();
  EXPECT_EQ(spawn("sleep@0", {.patience = 2, .kill = PlannedKill{.after = 1, .rank = 1}}), 5);
  EXPECT_GE(seconds_now() - begin, 1);
  expect_said("rank 1 was killed by signal 9 (Killed)\n");
}

TEST_F(SpawnTest, APlannedKillMeetsAllRanks) {
  EXPECT_EQ(spawn("sleep@0", {.kill = PlannedKill{.after = 0.5}}), 5);
  for (const char* rank : {"0", "1", "2"})
    expect_said(std::string("rank ") + rank + " was killed by signal 9 (Killed)\n");
}

TEST_F(SpawnTest, WhatRanksPrintIsAddedToAFile) {
  const auto file =
      std::filesystem::temp_directory_path() / fmt::format("minibert_spawn_{}.txt", ::getpid());
  std::ofstream(file) << "before\n";
  EXPECT_EQ(spawn("none", {.output = file.string()}), 0);
  EXPECT_EQ(printed_, "");
  std::ifstream in(file);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  EXPECT_EQ(text, "before\nsum 2460\nsum 2460\nsum 2460\n");
  std::filesystem::remove(file);
}

TEST_F(SpawnTest, SignalsReachEveryRank) {
  EXPECT_EQ(spawn("signals"), 75);
  for (const char* rank : {"0", "1", "2"})
    expect_said(std::string("rank ") + rank + " ended with exit code 75\n");
}

TEST_F(SpawnTest, ARankThatDoesNotEndGetsSigterm) {
  EXPECT_EQ(spawn("sleep@1", {.patience = 3, .last_words = 60}), 5);
  expect_said("rank 1 still running 3 s after rank ");
  expect_said(" failed: sending SIGTERM\n");
  expect_said("rank 1 was killed by signal 15 (Terminated)\n");
}

TEST_F(SpawnTest, ARankThatIsFrozenGetsSigkill) {
  const double start = seconds_now();
  EXPECT_EQ(spawn("stop@1", {.patience = 3, .last_words = 0.5}), 5);
  EXPECT_LT(seconds_now() - start, 60);
  expect_said("rank 1 still running 3.5 s after rank ");
  expect_said(" failed: sending SIGKILL\n");
  expect_said("rank 1 was killed by signal 9 (Killed)\n");
}

TEST_F(SpawnTest, SignalsAreAsBefore) {
  sigset_t before, after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  spawn("none");
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD})
    EXPECT_EQ(sigismember(&after, signal), sigismember(&before, signal)) << signal;
}

TEST(Spawn, NamesAProgramThatCantBeStarted) {
  EXPECT_EQ(testing::usage_error_of(
                [] { spawn_ranks({.ranks = 2, .command = {"x"}, .program = "/no/such/program"}); }),
            "rank 0: /no/such/program can't be started: No such file or directory");
  EXPECT_EQ(testing::usage_error_of([] { spawn_ranks({.ranks = 0}); }),
            "there are 0 ranks, expected 1 or more");
}

}  // namespace
}  // namespace minibert
