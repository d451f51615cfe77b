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
  write_bytes(scratch / "metrics.jsonl", "{\"step\": 1}\n");
  EXPECT_TRUE(has(message_of<UsageError>([&] { RunFolder folder(scratch.path(), false, files); }),
                  "--resume auto"));
  RunFolder folder(scratch.path(), true, files);
}

TEST(RunFolder, FilesOfALaunchWithoutAStepAreIgnored) {
  FileSystem files;
  for (const bool described : {false, true}) {  // it failed before or after run.json was there
    TemporaryFolder scratch;
    std::filesystem::create_directory(scratch / "logs");
    write_bytes(scratch / "logs/rank-0.log", "error: no space");
    write_bytes(scratch / ".tmp-run.json", "{");
    if (described) RunFolder(scratch.path(), false, files).describe_launch({}, "", {}, 0, nullptr);
    write_bytes(scratch / "metrics.jsonl", "");
    for (const bool may_exist : {false, true}) {
      RunFolder::check(scratch.path(), may_exist);
      RunFolder folder(scratch.path(), may_exist, files);
    }
  }
}

TEST(RunFolder, CheckRefusesTheSameAndWritesNothing) {
  TemporaryFolder scratch;
  FileSystem files;
  const auto message = [](const std::filesystem::path& path) {
    return message_of<UsageError>([&] { RunFolder::check(path, false); });
  };
  EXPECT_EQ(message(scratch / "not/yet/there"), "");
  EXPECT_FALSE(std::filesystem::exists(scratch / "not"));
  write_bytes(scratch / "file", "");
  EXPECT_TRUE(has(message(scratch / "file"), "the output folder can't be created"));
  EXPECT_TRUE(has(message(scratch / "file/run"), "the output folder can't be created"));
  EXPECT_TRUE(has(message(scratch.path()), "holds file, expected"));
  EXPECT_FALSE(std::filesystem::exists(scratch / ".lock"));
  RunFolder other(scratch / "run", false, files);
  EXPECT_TRUE(has(message(scratch / "run"), "is in use by process"));
}

TEST(RunFolder, FolderOfSomethingElseIsRefusedEvenToResume) {
  TemporaryFolder scratch;
  FileSystem files;
  write_bytes(scratch / "thesis.tex", "");
  EXPECT_TRUE(has(message_of<UsageError>([&] { RunFolder folder(scratch.path(), true, files); }),
                  "holds thesis.tex, expected a run"));
}

TEST(RunFolder, FileInPlaceOfTheFolderIsRefused) {
  TemporaryFolder scratch;
  FileSystem files;
  write_bytes(scratch / "file", "");
  EXPECT_TRUE(has(message_of<UsageError>([&] { RunFolder folder(scratch / "file", true, files); }),
                  "the output folder can't be created"));
}

TEST(RunFolder, EachLaunchIsDescribed) {
  TemporaryFolder scratch;
  FileSystem files;
  const char* const environment[] = {"HOME=/x", "MINIBERT_SEED=3", nullptr};
  for (const int64_t step : {0, 40}) {
    RunFolder folder(scratch.path(), step > 0, files);
    folder.describe_launch({}, "seed = 3\n", {"minibert", "train"}, step, environment);
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

}  // namespace
}  // namespace minibert
