// world_test.cpp: ranks as processes. One is killed, is frozen or ends with an error in the middle of
// a run: all others end in time, with exit code 5 and a message that names it.
#include "dist/world.h"

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "dist/gloo_group.h"
#include "tests/dist/ranks.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

constexpr double kPatience = 120;  // seconds until a rank that does not end is killed

/// A process of dist_rank_program, which lies beside this test.
class Rank {
 public:
  Rank(const std::vector<std::string>& words, const Launch& launch) {
    if (::pipe2(out_, O_CLOEXEC) != 0 || ::pipe2(err_, O_CLOEXEC) != 0) std::abort();
    std::vector<std::string> all = {
        (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "dist_rank_program")
            .string()};
    all.insert(all.end(), words.begin(), words.end());
    std::vector<std::string> environment = variables_of(launch);
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_adddup2(&files, out_[1], 1);
    ::posix_spawn_file_actions_adddup2(&files, err_[1], 2);
    if (launch.listener >= 0)
      ::posix_spawn_file_actions_adddup2(&files, launch.listener, launch.listener);
    const int error = ::posix_spawn(&process_, all[0].c_str(), &files, nullptr,
                                    pointers(all).data(), pointers(environment).data());
    ::posix_spawn_file_actions_destroy(&files);
    EXPECT_EQ(error, 0) << all[0];
    ::close(out_[1]);
    ::close(err_[1]);
  }
  ~Rank() {
    end();
    ::close(out_[0]);
    ::close(err_[0]);
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  /// Its next line.
  std::string line() {
    std::string text;
    for (char c; ::read(out_[0], &c, 1) == 1 && c != '\n';) text += c;
    return text;
  }
  /// Waits for its end: its exit code, or minus the signal; -SIGKILL too if it took too long.
  int wait() {
    const double until = seconds_now() + kPatience;
    int status = 0;
    while (!ended_ && ::waitpid(process_, &status, WNOHANG) == 0) {
      if (seconds_now() > until) {
        end();
        return -SIGKILL;
      }
      ::usleep(5000);
    }
    ended_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  /// What it printed as errors; after its end.
  std::string errors() {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = ::read(err_[0], buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<size_t>(n));
    return text;
  }
  void end() {
    if (ended_) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    ended_ = true;
  }

 private:
  static std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> all;
    for (std::string& word : words) all.push_back(word.data());
    all.push_back(nullptr);
    return all;
  }

  pid_t process_ = 0;
  bool ended_ = false;
  int out_[2], err_[2];
};

class WorldTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (GetParam() == std::string("gloo") && !gloo_available())
      GTEST_SKIP() << "this build has no Gloo";
  }
  /// A run of three ranks.
  void start(const std::string& fault, const std::string& timeout = "60") {
    const Socket listener = listen_at({"127.0.0.1", 0});
    Launch launch{.world = 3, .master = listener.here(), .secret = "world_test"};
    for (launch.rank = 0; launch.rank < 3; ++launch.rank) {
      launch.listener = launch.rank == 0 ? listener.fd() : -1;
      ranks_.push_back(std::make_unique<Rank>(
          std::vector<std::string>{GetParam(), "40", timeout, fault}, launch));
    }
  }
  /// Rank `rank` ended with code 5 and says who it was.
  void expect_blames(int rank, const std::string& text) {
    EXPECT_EQ(ranks_[static_cast<size_t>(rank)]->wait(), 5) << rank;
    const std::string errors = ranks_[static_cast<size_t>(rank)]->errors();
    EXPECT_TRUE(errors.starts_with(
        fmt::format("error: rank {} of 3: all_reduce #21 of 10000 f32 over {} failed after ", rank,
                    GetParam())))
        << errors;
    EXPECT_NE(errors.find(text), std::string::npos) << errors;
  }

  std::vector<std::unique_ptr<Rank>> ranks_;
};

TEST_P(WorldTest, WithoutAFaultAllEndWithTheSameSum) {
  start("none");
  for (const auto& rank : ranks_) EXPECT_EQ(rank->wait(), 0) << rank->errors();
  // Sum over 40 steps of (0 + step) + (1 + step) + (2 + step).
  for (const auto& rank : ranks_) EXPECT_EQ(rank->line(), "sum 2460");
}

TEST_P(WorldTest, ARankThatIsKilledIsNamedByTheOthers) {
  start("kill@1");
  EXPECT_EQ(ranks_[1]->wait(), -SIGKILL);
  for (const int rank : {0, 2})
    expect_blames(rank, ": rank 1 gone without a word: the process or its machine died (");
}

TEST_P(WorldTest, ARankThatIsFrozenIsNamedByTheOthers) {
  start("stop@1", "5");
  for (const int rank : {0, 2})
    expect_blames(rank, ": rank 1 did not report: frozen, cut off, or still computing (");
}

TEST_P(WorldTest, ARankThatEndsWithAnErrorIsNamedByTheOthers) {
  start("throw@2");
  EXPECT_EQ(ranks_[2]->wait(), 3);
  EXPECT_EQ(ranks_[2]->errors(), "error: shard 3 is damaged\n");
  for (const int rank : {0, 1}) expect_blames(rank, ": rank 2 ended the run before the others (");
}

TEST_P(WorldTest, RankZeroIsNamedIfItIsKilled) {
  start("kill@0");
  for (const int rank : {1, 2}) expect_blames(rank, ": rank 0 at 127.0.0.1:");
}

TEST_P(WorldTest, RankZeroIsNamedIfItIsFrozen) {
  start("stop@0", "5");
  for (const int rank : {1, 2}) expect_blames(rank, ": rank 0 at 127.0.0.1:");
}

TEST_P(WorldTest, ARankThatIsLostBeforeTheFirstCollectiveIsNamed) {
  const Socket listener = listen_at({"127.0.0.1", 0});
  const auto errors = testing::run_ranks(3, [&](int rank) {
    Launch launch{.rank = rank, .world = 3, .master = listener.here()};
    if (rank == 0) launch.listener = ::dup(listener.fd());
    if (rank < 2) World(launch, {.backend = GetParam(), .timeout = 2});
    Rendezvous({.rank = rank, .world = 3, .master = launch.master});
  });
  for (const size_t rank : {0u, 1u})
    EXPECT_TRUE(errors[rank].starts_with(
        fmt::format("rank {} of 3: connecting over {} failed: rank 2 ended the run before the "
                    "others (",
                    rank, GetParam())))
        << errors[rank];
}

INSTANTIATE_TEST_SUITE_P(Groups, WorldTest, ::testing::Values("gloo", "ring"),
                         [](const auto& info) { return std::string(info.param); });

TEST(WorldOfOne, TouchesNoNetwork) {
  World world({.master = {"no such host", 1}}, {});
  EXPECT_STREQ(world.group().name(), "self");
  EXPECT_EQ(world.address(), "");
}

TEST(World, RefusesABackendThatItDoesNotHave) {
  EXPECT_EQ(testing::usage_error_of([] { World({}, {.backend = "mpi"}); }),
            "backend is 'mpi', expected gloo, ring, nccl or nccl-ring");
}

}  // namespace
}  // namespace minibert
