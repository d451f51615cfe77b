// casing_test.cpp: whether a vocabulary is cased, from what stands beside it, and shards that were read
// in another way than a model reads.
#include "models/text/casing.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "models/text/shard_build.h"
#include "models/text/shard_set.h"
#include "models/text/tokenizer_folder.h"
#include "tests/models/text/shard_fixture.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder, testing::write_bytes, testing::read_bytes, testing::message_of,
    testing::has;

constexpr const char* kTokens =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nParis\nparis\nZürich\nzurich\nzürich\nthe\nriver\n";

class Casing : public ::testing::Test {
 protected:
  Casing() {
    write_bytes(scratch_ / "vocab.txt", kTokens);
    std::string text;
    for (int i = 0; i < 40; ++i) text += "the river Paris\nZürich the river\n\n";
    write_bytes(scratch_ / "text", text);
  }

  /// A folder of a model with that tokenizer_config.json.
  fs::path model(const std::string& config) {
    fs::create_directories(scratch_ / "model");
    write_bytes(scratch_ / "model/vocab.txt", kTokens);
    write_bytes(scratch_ / "model/tokenizer_config.json", config);
    return scratch_ / "model";
  }
  fs::path build(const std::string& name, const TokenizerOptions& options) {
    BuildOptions build;
    build.vocabulary = scratch_ / "vocab.txt";
    build.files = {(scratch_ / "text").string()};
    build.output = scratch_ / name;
    build.settings.examples.sequence_length = 16;
    build.settings.masking.max_predictions = 3;
    set_options(build.settings, options);
    build_shards(build);
    return build.output;
  }
  static TokenizerOptions options_at(const fs::path& vocabulary, bool cased, std::string& note) {
    return options_for(vocabulary, open_tokenizer_folder(vocabulary).tokenizer, cased, note);
  }
  TemporaryFolder scratch_;
};

TEST_F(Casing, WhatStandsBesideAVocabularyDecides) {
  std::string note;
  EXPECT_FALSE(options_beside(scratch_ / "vocab.txt"));
  EXPECT_TRUE(
      same_words(options_at(scratch_ / "vocab.txt", true, note), TokenizerOptions::cased()));
  EXPECT_EQ(note, "");
  EXPECT_TRUE(same_words(options_at(scratch_ / "vocab.txt", false, note), {}));
  EXPECT_TRUE(has(note, "add --cased")) << "the vocabulary has capitals: " << note;
  note.clear();
  const fs::path vocab = model(R"({"do_lower_case": false})") / "vocab.txt";
  EXPECT_TRUE(same_words(options_at(vocab, false, note), TokenizerOptions::cased()));
  EXPECT_TRUE(has(note, "tokenizer_config.json says: cased")) << note;
  model(R"({"do_lower_case": true})");
  const std::string refused =
      message_of<UsageError>([&] { options_at(vocab, /* cased= */ true, note); });
  EXPECT_TRUE(has(refused, "says uncased") && has(refused, "Leave out --cased")) << refused;
  EXPECT_TRUE(same_words(options_at(vocab, false, note), {})) << "as advised";
  // Shards know how they were read, and the vocabulary in them is used for further ones.
  const fs::path data = build("cased", TokenizerOptions::cased());
  EXPECT_TRUE(same_words(options_at(data / "vocab.txt", false, note), TokenizerOptions::cased()));
}

TEST_F(Casing, AllThreeKeysReachShardsAndComeBack) {
  for (const bool lower : {false, true}) {
    for (const bool strip : {false, true}) {
      for (const bool chinese : {false, true}) {
        const TokenizerOptions options{
            .lowercase = lower, .strip_accents = strip, .split_chinese = chinese};
        const fs::path data =
            build(fmt::format("data-{:d}{:d}{:d}", lower, strip, chinese), options);
        const auto set = ShardSet::open(data);
        EXPECT_TRUE(same_words(options_of(set->manifest().settings), options));
        const TokenizerOptions other{
            .lowercase = lower, .strip_accents = !strip, .split_chinese = chinese};
        EXPECT_EQ(casing_fault(data, set->manifest(), options, data / "vocab.txt"), "");
        EXPECT_NE(casing_fault(data, set->manifest(), other, data / "vocab.txt"), "");
      }
    }
  }
  // Lower case without stripping: Zürich is the token zürich, in its 40 sentences; never zurich.
  const Vocab vocab = Vocab::load(scratch_ / "vocab.txt");
  const auto counts = ShardSet::open(scratch_ / "data-101")->unigram_counts();
  EXPECT_GT(counts[static_cast<size_t>(vocab.id("zürich"))], 0u);
  EXPECT_EQ(counts[static_cast<size_t>(vocab.id("zurich"))], 0u);
}

TEST_F(Casing, OrdinaryShardsHaveTheManifestThatTheyAlwaysHad) {
  const std::string manifest = read_bytes(build("plain", {}) / "manifest.json");
  EXPECT_FALSE(has(manifest, "strip_accents")) << manifest;
  EXPECT_FALSE(has(manifest, "tokenize_chinese_chars"));
}

TEST_F(Casing, ShardsReadInAnotherWayAreRefused) {
  const fs::path data = build("data", {});
  const fs::path folder = model(R"({"do_lower_case": false})");
  const ExpectedData expected{.tokenizer = TokenizerOptions::cased(),
                              .vocabulary = folder / "vocab.txt"};
  const std::string message = message_of<DataError>([&] { ShardSet::open(data, expected); });
  EXPECT_TRUE(has(message, "the data are uncased, but the model is cased (" +
                               (folder / "tokenizer_config.json").string() + ")"))
      << message;
  EXPECT_TRUE(has(message, fmt::format("`minibert data build --vocab {} --output {}-rebuilt "
                                       "--sequence-length 16 --max-predictions 3 {}`",
                                       (folder / "vocab.txt").string(), data.string(),
                                       (scratch_ / "text").string())))
      << message;
}

TEST_F(Casing, CommandsQuoteWhatAShellWouldSplit) {
  Manifest manifest;
  manifest.settings.documents.document_break = "^CHAPTER [IVX]+'";
  manifest.settings.hold_out_every = 5;
  manifest.held_out = true;
  manifest.sources.push_back({.path = "a text.txt"});
  const std::string command = rebuild_command("shards/held-out", manifest, "m/vocab.txt");
  EXPECT_TRUE(has(command, "--output shards-rebuilt ")) << command;
  EXPECT_TRUE(has(command, R"(--document-break '^CHAPTER [IVX]+'\''')")) << command;
  EXPECT_TRUE(has(command, " --hold-out-every 5 ")) << command;
  EXPECT_TRUE(command.ends_with(" 'a text.txt'")) << command;
}

TEST_F(Casing, AFewCapitalsSayNothing) {
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"};
  for (int i = 0; i < 300; ++i) tokens.push_back("w" + std::to_string(i));
  tokens.push_back("USA");
  EXPECT_FALSE(looks_cased(Vocab::from_tokens(tokens, "test")));
  for (const char* word : {"Paris", "London", "Rome"}) tokens.emplace_back(word);
  EXPECT_TRUE(looks_cased(Vocab::from_tokens(tokens, "test")));
}

}  // namespace
}  // namespace minibert
