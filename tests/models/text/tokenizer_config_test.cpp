// tokenizer_config_test.cpp: tokenizer_config.json as Transformers writes and reads it.
#include "models/text/tokenizer_config.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/atomic_file.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::read_bytes;
using testing::TemporaryFolder;
using testing::write_bytes;

TokenizerOptions load(const std::string& contents) {
  const TemporaryFolder folder;
  write_bytes(folder / kTokenizerConfigFile, contents);
  return load_tokenizer_config(folder.path());
}

TEST(TokenizerConfig, SavedOptionsAreLoadedAgain) {
  for (const TokenizerOptions& options :
       {TokenizerOptions{}, TokenizerOptions::cased(), TokenizerOptions{.strip_accents = false},
        TokenizerOptions{.lowercase = false}, TokenizerOptions{.split_chinese = false}}) {
    const TemporaryFolder folder;
    write_file_atomically(folder.path() / kTokenizerConfigFile,
                          tokenizer_config_json(options, 128));
    EXPECT_EQ(load_tokenizer_config(folder.path()), options);
  }
}

TEST(TokenizerConfig, FileHasTheKeysOfTransformers) {
  const TemporaryFolder folder;
  write_file_atomically(folder.path() / kTokenizerConfigFile,
                        tokenizer_config_json(TokenizerOptions::cased(), 512));
  const auto config = nlohmann::json::parse(read_bytes(folder / kTokenizerConfigFile));
  EXPECT_EQ(config["tokenizer_class"], "BertTokenizer");
  EXPECT_EQ(config["do_lower_case"], false);
  EXPECT_TRUE(config["strip_accents"].is_null());
  EXPECT_EQ(config["mask_token"], "[MASK]");
  EXPECT_EQ(config["model_max_length"], 512);
}

TEST(TokenizerConfig, AbsentFileAndKeysMeanUncased) {
  EXPECT_EQ(load_tokenizer_config(TemporaryFolder().path()), TokenizerOptions{});
  EXPECT_EQ(load("{}"), TokenizerOptions{});
}

TEST(TokenizerConfig, StripAccentsFollowsLowerCaseUnlessSaid) {
  EXPECT_EQ(load(R"({"do_lower_case": false})"), TokenizerOptions::cased());
  EXPECT_EQ(load(R"({"do_lower_case": true, "strip_accents": null})"), TokenizerOptions{});
  EXPECT_EQ(load(R"({"do_lower_case": true, "strip_accents": false})"),
            TokenizerOptions{.strip_accents = false});
}

TEST(TokenizerConfig, RejectsWhatIsNoSettingsFile) {
  for (const char* contents :
       {"", "[1]", "{\"do_lower_case\": ", "{\"do_lower_case\": \"yes\"}", "\xFF\xFE"}) {
    EXPECT_THROW(load(contents), DataError) << contents;
  }
}

}  // namespace
}  // namespace minibert
