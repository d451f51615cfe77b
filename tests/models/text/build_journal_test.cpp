// build_journal_test.cpp: data build killed again and again goes on where it was and writes the
// bytes of an undisturbed build; what it finds damaged or of another build it does not believe.
// Expected bytes: those of the undisturbed build. Builds run in child processes, which are killed.
#include "models/text/build_journal.h"

#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "tests/models/text/build_fixture.h"

namespace minibert {
namespace {

using testing::read_bytes;
using testing::write_bytes;

class BuildJournalTest : public testing::BuildFixture {
 protected:
  BuildJournalTest() {
    options_.files = {(testing::source_folder() / "data/austen/northangerabbey.txt.gz").string(),
                      (testing::source_folder() / "data/austen/persuasion.txt.gz").string()};
    options_.settings.documents = {TextFormat::paragraphs, "^(CHAPTER|Chapter)"};
    options_.settings.examples.sequence_length = 64;
    options_.settings.hold_out_every = 4;
    options_.settings.duplicate_factor = 2;
    options_.shard_bytes = 150000;
    options_.restart_bytes = 0;
    options_.progress = [log = folder_ / "log"](const std::string& line) {
      std::ofstream(log, std::ios::app) << line << "\n";
    };
  }

  /// Starts a build in a child; this process never builds, so that a fork meets no other thread.
  pid_t start() const {
    std::filesystem::remove(folder_ / "log");
    const pid_t child = ::fork();
    if (child != 0) return child;
    try {
      build_shards(options_);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(error.exit_code());
    }
    ::_exit(0);
  }
  static int end_of(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
  }
  std::filesystem::path partial() const { return options_.output.string() + ".partial"; }
  std::string log() const {
    return std::filesystem::exists(folder_ / "log") ? read_bytes(folder_ / "log") : "";
  }

  /// Starts a build and kills it as soon as `file` is in its folder. False if it ended first.
  bool kill_at(const std::string& file) const {
    return kill_when([&] { return std::filesystem::exists(partial() / file); });
  }
  /// The same, once it has said a line.
  bool kill_after(const std::string& line) const {
    return kill_when([&] { return log().find(line) != std::string::npos; });
  }
  bool kill_when(const std::function<bool()>& now) const {
    const pid_t child = start();
    while (!now()) {
      int status = 0;
      if (::waitpid(child, &status, WNOHANG) == child) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    ::kill(child, SIGKILL);
    return WIFSIGNALED(end_of(child));
  }

  static std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file())
        files[entry.path().lexically_relative(folder).string()] = read_bytes(entry.path());
    }
    return files;
  }

  std::map<std::string, std::string> undisturbed() {
    const std::filesystem::path output = options_.output;
    options_.output = folder_ / "undisturbed";
    EXPECT_EQ(end_of(start()), 0);
    const auto files = contents(options_.output);
    options_.output = output;
    return files;
  }
  void finish_and_compare(const std::map<std::string, std::string>& expected) const {
    EXPECT_EQ(end_of(start()), 0) << log();
    const auto files = contents(options_.output);
    for (const auto& [name, bytes] : expected) {
      ASSERT_TRUE(files.contains(name)) << name;
      EXPECT_TRUE(files.at(name) == bytes) << name;
    }
    EXPECT_EQ(files.size(), expected.size());
    EXPECT_FALSE(std::filesystem::exists(partial()));
  }
};

TEST_F(BuildJournalTest, GoesOnAfterEachKill) {
  const auto expected = undisturbed();
  ASSERT_TRUE(expected.contains("shard-00005.mbs"));
  int killed = 0;
  for (const char* file :
       {".data-build", "training-tokens.spill", ".progress/text.json", "held-out/shard-00000.mbs",
        "held-out/manifest.json", "shard-00000.mbs", "shard-00001.mbs", ".progress/training.json",
        "shard-00003.mbs", "shard-00005.mbs"}) {
    killed += kill_at(file);
  }
  EXPECT_GE(killed, 8);  // a file may have been there before the build was
  EXPECT_NE(log().find("going on"), std::string::npos) << log();
  EXPECT_EQ(log().find("reading"), std::string::npos) << log();
  finish_and_compare(expected);
}

TEST_F(BuildJournalTest, GoesOnWithAShuffle) {
  options_.settings.shuffle = true;
  options_.array_memory = 100000;
  const auto expected = undisturbed();
  EXPECT_TRUE(kill_at("shard-00001.mbs"));
  EXPECT_TRUE(kill_after("creating the examples"));
  EXPECT_EQ(log().find("reading"), std::string::npos) << log();
  finish_and_compare(expected);
}

TEST_F(BuildJournalTest, ADamagedOrForeignStateIsNotBelieved) {
  const auto expected = undisturbed();
  ASSERT_TRUE(kill_at("shard-00002.mbs"));
  std::filesystem::resize_file(partial() / "training-tokens.spill", 1000);
  ASSERT_TRUE(kill_after("creating the examples"));
  EXPECT_NE(log().find("reading"), std::string::npos) << log();
  write_bytes(partial() / ".progress/text.json", "{\"training\": 5");
  ASSERT_TRUE(kill_after("creating the examples"));
  EXPECT_NE(log().find("reading"), std::string::npos) << log();

  options_.settings.seed = 99;  // another build
  ASSERT_TRUE(kill_after("creating the examples"));
  EXPECT_NE(log().find("reading"), std::string::npos) << log();
  options_.settings.seed = DataSettings{}.seed;
  finish_and_compare(expected);
  EXPECT_NE(log().find("reading"), std::string::npos) << log();
}

TEST_F(BuildJournalTest, SmallBuildsKeepNoJournal) {
  options_.restart_bytes = int64_t{64} << 20;
  ASSERT_TRUE(kill_at("shard-00001.mbs"));
  EXPECT_FALSE(std::filesystem::exists(partial() / ".progress"));
}

}  // namespace
}  // namespace minibert
