// build_fixture.h: a small text and its vocabulary in a folder, for tests of data build.
// Used by shard_build_test.cpp and partial_folder_test.cpp.
#pragma once

#include <algorithm>
#include <set>
#include <string>

#include "models/text/shard_build.h"
#include "tests/models/text/text_fixture.h"

namespace minibert::testing {

/// A folder with a vocabulary and a text of twelve documents, and the options to build it.
class BuildFixture : public ::testing::Test {
 protected:
  BuildFixture() {
    write_bytes(folder_ / "vocab.txt", small_vocabulary());
    // Twelve documents; the sentences of document d are "dX sY" with letters for numbers.
    std::string text;
    for (char d = 'a'; d < 'm'; ++d) {
      for (char s = 'a'; s < 'a' + 10; ++s) text += std::string(1, d) + " " + s + " the end\n";
      text += "\n";
    }
    write_bytes(folder_ / "lines.txt", text);
    options_.vocabulary = folder_ / "vocab.txt";
    options_.files = {(folder_ / "lines.txt").string()};
    options_.output = folder_ / "shards";
    options_.settings.examples.sequence_length = 32;
    options_.settings.masking.max_predictions = 5;
  }
  int32_t id(const std::string& token) const {
    const std::string vocabulary = small_vocabulary();
    const size_t at = ("\n" + vocabulary).find("\n" + token + "\n");
    return static_cast<int32_t>(
        std::count(vocabulary.begin(), vocabulary.begin() + static_cast<long>(at), '\n'));
  }
  CommandResult minibert(const std::string& arguments) const {
    const char* binary = std::getenv("MINIBERT_BINARY");
    return run_command(std::string(binary ? binary : "minibert") + " " + arguments);
  }
  static std::set<std::string> names_in(const std::filesystem::path& folder) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      names.insert(entry.path().filename().string());
    return names;
  }
  std::string in(const std::string& name) const { return (folder_ / name).string(); }

  TemporaryFolder folder_;
  BuildOptions options_;
};

}  // namespace minibert::testing
