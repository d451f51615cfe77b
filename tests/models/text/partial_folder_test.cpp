// partial_folder_test.cpp: what data build may replace, who may write, and what a failed, a killed
// or a second build leaves. Expected values: by hand.
#include "models/text/partial_folder.h"

#include "core/error.h"
#include "models/text/shard_set.h"
#include "tests/models/text/build_fixture.h"

namespace minibert {
namespace {

using testing::read_bytes;
using testing::write_bytes;

using DataBuildFolder = testing::BuildFixture;

TEST_F(DataBuildFolder, KeepsWhatItMayNotReplace) {
  std::filesystem::create_directory(options_.output);
  build_shards(options_);  // an empty folder is fine
  EXPECT_THROW(build_shards(options_), UsageError);
  options_.force = true;
  build_shards(options_);
  EXPECT_EQ(names_in(options_.output), (std::set<std::string>{"manifest.json", "shard-00000.mbs",
                                                              "unigram.bin", "vocab.txt"}));
  EXPECT_EQ(names_in(folder_.path()), (std::set<std::string>{"lines.txt", "shards", "vocab.txt"}));
  options_.output = folder_ / "home";
  std::filesystem::create_directory(options_.output);
  write_bytes(options_.output / "letter.txt", "dear");
  EXPECT_THROW(build_shards(options_), UsageError);
  EXPECT_EQ(read_bytes(options_.output / "letter.txt"), "dear");
}

TEST_F(DataBuildFolder, ForceReplacesNothingButABuild) {
  build_shards(options_);
  options_.force = true;
  const std::filesystem::path old = options_.output.string() + ".old",
                              partial = options_.output.string() + ".partial";
  std::filesystem::create_directory(old);
  write_bytes(old / "letter.txt", "dear");
  build_shards(options_);
  EXPECT_EQ(read_bytes(old / "letter.txt"), "dear");

  std::filesystem::create_directory(partial);
  write_bytes(partial / "letter.txt", "dear");
  EXPECT_THROW(build_shards(options_), UsageError);
  EXPECT_EQ(read_bytes(partial / "letter.txt"), "dear");
  std::filesystem::remove_all(partial);

  write_bytes(options_.output / "letter.txt", "dear");
  EXPECT_THROW(build_shards(options_), UsageError);
  EXPECT_EQ(read_bytes(options_.output / "letter.txt"), "dear");
  std::filesystem::remove(options_.output / "letter.txt");
  write_bytes(options_.output / "manifest.json", R"({"name": "an app"})");
  EXPECT_THROW(build_shards(options_), UsageError);
  EXPECT_EQ(read_bytes(options_.output / "manifest.json"), R"({"name": "an app"})");
  EXPECT_FALSE(std::filesystem::exists(partial));
}

TEST_F(DataBuildFolder, RefusesASecondBuildOfTheSameOutput) {
  int refused = 0;
  BuildOptions second = options_;
  second.settings.seed = 1;
  options_.progress = [&](const std::string&) {
    try {
      build_shards(second);
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find("another data build"), std::string::npos);
      ++refused;
    }
  };
  build_shards(options_);
  EXPECT_EQ(refused, 2);  // while reading, while creating the examples
  const auto shards = ShardSet::open(options_.output);
  EXPECT_EQ(shards->manifest().settings.seed, options_.settings.seed);
  shards->verify();
}

TEST_F(DataBuildFolder, FollowsALinkToTheOutput) {
  std::filesystem::create_directory(folder_ / "disk");
  for (const char* there : {"disk", "disk/none"}) {
    std::filesystem::remove(folder_ / "link");
    std::filesystem::create_directory_symlink(there, folder_ / "link");
    options_.output = folder_ / "link";
    build_shards(options_);
    EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "link"));
    ShardSet::open(folder_ / there)->verify();
    std::filesystem::remove_all(folder_ / "disk");
    std::filesystem::create_directory(folder_ / "disk");
  }
}

TEST_F(DataBuildFolder, RefusesTheWorkingFolderBeforeItReads) {
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::create_directories(folder_ / "here/below");
  std::filesystem::current_path(folder_ / "here/below");
  options_.progress = [](const std::string& what) { ADD_FAILURE() << what; };
  for (const char* output : {".", "./", "..", "../below"}) {
    options_.output = output;
    EXPECT_THROW(build_shards(options_), UsageError) << output;
  }
  std::filesystem::current_path(before);
}

TEST_F(DataBuildFolder, KeepsACompleteBuildThatCannotBeRenamed) {
  options_.progress = [&](const std::string&) {
    std::filesystem::create_directory(options_.output);
    write_bytes(options_.output / "letter.txt", "dear");
  };
  EXPECT_THROW(build_shards(options_), DataError);
  const std::filesystem::path partial = options_.output.string() + ".partial";
  ShardSet::open(partial)->verify();
  std::filesystem::remove_all(options_.output);
  options_.progress = {};
  EXPECT_THROW(build_shards(options_), UsageError);  // nor does the next build delete it
  ShardSet::open(partial)->verify();
}

TEST_F(DataBuildFolder, AFailureLeavesTheEarlierBuild) {
  build_shards(options_);
  const std::string before = read_bytes(options_.output / "manifest.json");
  options_.force = true;
  options_.files.push_back(in("missing.txt"));
  EXPECT_THROW(build_shards(options_), DataError);
  EXPECT_EQ(read_bytes(options_.output / "manifest.json"), before);
  EXPECT_FALSE(std::filesystem::exists(options_.output.string() + ".partial"));
}

TEST_F(DataBuildFolder, StartsAfreshAfterAKilledBuild) {
  const std::filesystem::path partial = options_.output.string() + ".partial";
  std::filesystem::create_directory(partial);
  write_bytes(partial / ".data-build", "");
  write_bytes(partial / "shard-00099.mbs", "half");
  build_shards(options_);
  EXPECT_FALSE(std::filesystem::exists(partial));
  EXPECT_FALSE(std::filesystem::exists(options_.output / "shard-00099.mbs"));
  EXPECT_FALSE(std::filesystem::exists(options_.output / ".data-build"));

  // Killed between the renames of --force: the earlier build comes back and is not overwritten.
  std::filesystem::create_directory(partial);
  write_bytes(partial / ".data-build", "");
  std::filesystem::rename(options_.output, partial / ".earlier-build");
  EXPECT_THROW(build_shards(options_), UsageError);
  ShardSet::open(options_.output)->verify();
  EXPECT_FALSE(std::filesystem::exists(partial));
}

}  // namespace
}  // namespace minibert
