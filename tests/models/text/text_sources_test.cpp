// text_sources_test.cpp: files, folders and patterns as arguments. Expected order: written out by hand.
#include "models/text/text_sources.h"

#include "core/error.h"
#include "tests/models/text/shard_fixture.h"

namespace minibert {
namespace {

class TextSources : public ::testing::Test {
 protected:
  TextSources() {
    for (const char* folder : {"b", "b/inner", "b/.git", "empty"})
      std::filesystem::create_directory(folder_ / folder);
    for (const char* name : {"a.txt", "z.txt", "b/2.txt", "b/10.txt", "b/inner/1.gz", "b/.hidden",
                             "b/.git/x", "od[d].txt"})
      testing::write_bytes(folder_ / name, "text\n");
  }
  std::string in(const std::string& name) const { return (folder_ / name).string(); }
  /// With the folder's own path removed.
  std::vector<std::string> expand(std::vector<std::string> arguments) const {
    for (std::string& argument : arguments) {
      if (argument != "-") argument = in(argument);
    }
    std::vector<std::string> found = expand_sources(arguments);
    for (std::string& path : found) {
      if (path != "-") path = path.substr(in("").size());
    }
    return found;
  }
  testing::TemporaryFolder folder_;
};

TEST_F(TextSources, ArgumentsKeepTheirOrderAndFoldersAreSorted) {
  using Paths = std::vector<std::string>;
  EXPECT_EQ(expand({"z.txt", "-", "a.txt"}), (Paths{"z.txt", "-", "a.txt"}));
  EXPECT_EQ(expand({"z.txt", "b", "a.txt"}),
            (Paths{"z.txt", "b/10.txt", "b/2.txt", "b/inner/1.gz", "a.txt"}));
  EXPECT_EQ(expand({"*.txt"}), (Paths{"a.txt", "od[d].txt", "z.txt"}));
  EXPECT_EQ(expand({"b/?.txt", "z.txt"}), (Paths{"b/2.txt", "z.txt"}));
  EXPECT_EQ(expand({"od[d].txt"}), Paths{"od[d].txt"});  // a file, not a pattern
}

TEST_F(TextSources, NamesAllFilesThatAreMissing) {
  try {
    expand({"z.txt", "missing.txt", "{z,a}.txt"});  // braces alone are no pattern
    FAIL() << "accepted";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(in("missing.txt") + ", " + in("{z,a}.txt")),
              std::string::npos)
        << error.what();
  }
}

TEST_F(TextSources, SaysWhatHoldsNoFiles) {
  EXPECT_THROW(expand({"empty"}), DataError);
  EXPECT_THROW(expand({"*.jsonl"}), DataError);
}

}  // namespace
}  // namespace minibert
