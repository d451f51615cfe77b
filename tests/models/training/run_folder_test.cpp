// run_folder_test.cpp: who may write into a run folder, and what describes a launch.
#include "models/training/run_folder.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has, testing::message_of, testing::TemporaryFolder, testing::read_bytes,
    testing::write_bytes;

TEST(RunFolder, SecondRunInOneFolderIsRefusedByNameOfTheFirst) {
  TemporaryFolder scratch;
  FileSystem files;
  const auto path = scratch / "run";
  {
    RunFolder first(path, false, files);
    const std::string message =
        message_of<UsageError>([&] { RunFolder second(path, true, files); });
    EXPECT_TRUE(has(message, "is in use by process " + std::to_string(::getpid()))) << message;
  }
  RunFolder third(path, false, files);  // free again
}

TEST(RunFolder, NotEmptyNeedsResume) {
  TemporaryFolder scratch;
  FileSystem files;
  write_bytes(scratch / "run.json", "{}");
  EXPECT_TRUE(has(message_of<UsageError>([&] { RunFolder folder(scratch.path(), false, files); }),
                  "--resume auto"));
  RunFolder folder(scratch.path(), true, files);
}

TEST(RunFolder, FolderOfSomethingElseIsRefusedEvenToResume) {
  TemporaryFolder scratch;
  FileSystem files;
  write_bytes(scratch / "thesis.tex", "");
  EXPECT_TRUE(has(message_of<UsageError>([&] { RunFolder folder(scratch.path(), true, files); }),
                  "has thesis.tex in it, expected a run"));
}

TEST(RunFolder, FileInPlaceOfTheFolderIsRefused) {
  TemporaryFolder scratch;
  FileSystem files;
  write_bytes(scratch / "file", "");
  EXPECT_TRUE(has(message_of<UsageError>([&] { RunFolder folder(scratch / "file", true, files); }),
                  "the output folder can't be made"));
}

TEST(RunFolder, EachLaunchIsDescribed) {
  TemporaryFolder scratch;
  FileSystem files;
  const char* const environment[] = {"HOME=/x", "MINIBERT_SEED=3", nullptr};
  for (const int64_t step : {0, 40}) {
    RunFolder folder(scratch.path(), step > 0, files);
    folder.describe_launch("seed = 3\n", {"minibert", "train"}, step, environment);
  }
  EXPECT_EQ(read_bytes(scratch / "config.resolved.toml"), "seed = 3\n");
  const auto run = nlohmann::json::parse(read_bytes(scratch / "run.json"));
  ASSERT_EQ(run["launches"].size(), 2u);
  EXPECT_EQ(run["format_version"], 1);
  EXPECT_EQ(run["launches"][1]["first_step"], 40);
  EXPECT_EQ(run["launches"][1]["arguments"], (std::vector<std::string>{"minibert", "train"}));
  EXPECT_EQ(run["launches"][1]["environment"], nlohmann::json({{"MINIBERT_SEED", "3"}}));
  for (const char* key : {"version", "git_commit", "host", "cpu", "threads", "instruction_set"})
    EXPECT_TRUE(run["launches"][0].contains(key)) << key;
}

TEST(RunEnvironment, DifferencesAreNamed) {
  const RunEnvironment a = current_environment();
  RunEnvironment b = a;
  EXPECT_EQ(differences(a, b), "");
  b.threads = a.threads + 1;
  b.simd = "other";
  EXPECT_EQ(differences(a, b), "instruction set " + a.simd + " -> other, threads " +
                                   std::to_string(a.threads) + " -> " + std::to_string(b.threads));
}

}  // namespace
}  // namespace minibert
