// tokenizer_folder_test.cpp: which files of a folder count, what is written back, and what is refused.
// That ids are Transformers' is shown by tests/tools/peer_folders_test.py.
#include "models/text/tokenizer_folder.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using nlohmann::json;
using testing::read_bytes;
using testing::TemporaryFolder;
using testing::write_bytes;
using Ids = std::vector<int32_t>;

constexpr const char* kLines = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\nB\n";

json tokenizer_json() {
  json special = json::array();
  for (const char* name : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"})
    special.push_back({{"id", special.size()}, {"content", name}, {"special", true}});
  return {{"added_tokens", special},
          {"normalizer", {{"type", "BertNormalizer"}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           {{"type", "BertProcessing"},
            {"sep", json::array({"[SEP]", 3})},
            {"cls", json::array({"[CLS]", 2})}}},
          {"model",
           {{"type", "WordPiece"},
            {"vocab",
             {{"[PAD]", 0},
              {"[UNK]", 1},
              {"[CLS]", 2},
              {"[SEP]", 3},
              {"[MASK]", 4},
              {"a", 5},
              {"##b", 6}}}}}};
}

class TokenizerFolder : public ::testing::Test {
 protected:
  void write(const char* name, const json& contents) {
    write_bytes(folder_ / name,
                contents.is_string() ? contents.get<std::string>() : contents.dump());
  }
  Ids encode(const std::string& text) {
    return open_tokenizer_folder(folder_.path()).tokenizer.encode(text);
  }
  std::string refusal() {
    try {
      open_tokenizer_folder(folder_.path());
    } catch (const DataError& error) {
      return error.what();
    }
    return "";
  }
  void expect_refused(const std::string& says) {
    const std::string message = refusal();
    EXPECT_NE(message.find(says), std::string::npos) << message << "\nlacks " << says;
  }

  TemporaryFolder folder_;
};

TEST_F(TokenizerFolder, AVocabularyAloneIsUncasedByWhateverPath) {
  write("vocab.txt", kLines);
  EXPECT_EQ(encode("AB b"), (Ids{5, 6, 1}));
  EXPECT_EQ(open_tokenizer_folder(folder_ / "vocab.txt").tokenizer.encode("AB"), (Ids{5, 6}));
  write("other.txt", kLines);
  EXPECT_EQ(open_vocabulary(folder_ / "other.txt").size(), 8);
  EXPECT_FALSE(has_tokenizer_settings(folder_ / "vocab.txt"));
  EXPECT_TRUE(open_tokenizer_folder(folder_.path()).is_plain());
}

TEST_F(TokenizerFolder, FilesBesideTheVocabularyCount) {
  write("vocab.txt", kLines);
  write("tokenizer_config.json", {{"do_lower_case", false}});
  write("added_tokens.json", {{"a b", 8}});
  EXPECT_EQ(encode("B xa bx"), (Ids{7, 1, 8, 1}));
  EXPECT_EQ(open_tokenizer_folder(folder_ / "vocab.txt").tokenizer.encode("B"), (Ids{7}));
  EXPECT_FALSE(open_tokenizer_folder(folder_.path()).is_plain());
  EXPECT_EQ(open_vocabulary(folder_.path()).size(), 9);
}

TEST_F(TokenizerFolder, TokenizerJsonWinsOverVocabTxtAndSaysSo) {
  write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nq\na\n");
  write("tokenizer.json", tokenizer_json());
  const FolderTokenizer found = open_tokenizer_folder(folder_ / "tokenizer.json");
  EXPECT_EQ(found.tokenizer.encode("ab"), (Ids{5, 6}));
  ASSERT_EQ(found.notes.size(), 1u);
  EXPECT_NE(found.notes[0].find("token 'a' is in line 7, but its id in tokenizer.json is 5"),
            std::string::npos)
      << found.notes[0];
  EXPECT_TRUE(found.is_plain());
}

TEST_F(TokenizerFolder, FilesAreKeptByteForByteAndVocabTxtIsMadeIfMissing) {
  write("tokenizer.json", tokenizer_json());
  write("special_tokens_map.json", {{"mask_token", "[MASK]"}});
  const std::vector<NamedText> files = tokenizer_files(folder_.path());
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0], (NamedText{"vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n"}));
  EXPECT_EQ(files[1], (NamedText{"tokenizer.json", tokenizer_json().dump()}));
  EXPECT_EQ(files[2].first, "special_tokens_map.json");
  EXPECT_EQ(files_for_shards(folder_.path()), std::vector<NamedText>{files[0]});
  // What the vocabulary alone does not say goes along.
  json added = tokenizer_json();
  added["added_tokens"].push_back({{"id", 7}, {"content", "[E1]"}});
  write("tokenizer.json", added);
  EXPECT_EQ(files_for_shards(folder_.path()).size(), 3u);
}

TEST_F(TokenizerFolder, ASpecialTokenThatNoFileListsHasAnIdButNoRow) {
  write("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n");
  write("tokenizer_config.json", json::object());
  EXPECT_EQ(encode("a[PAD]"), (Ids{4, 5}));
  const FolderTokenizer found = open_tokenizer_folder(folder_.path());
  found.check_rows(folder_.path(), 5);
  EXPECT_EQ(found.tokenizer.vocab().hash(), Vocab::load(folder_ / "vocab.txt").hash());
  EXPECT_THROW(found.check_rows(folder_.path(), 4), DataError);
}

TEST_F(TokenizerFolder, ClassesThatTransformersReadsAsTheyAre) {
  json file = tokenizer_json();
  file["normalizer"] = {{"type", "Lowercase"}};
  file["model"]["max_input_chars_per_word"] = 3;
  write("tokenizer.json", file);
  write("tokenizer_config.json",
        {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"mask_token", "[MASK]"}});
  EXPECT_EQ(encode("ABB ABBB"), (Ids{5, 6, 6, 1}));
  file["normalizer"] = {{"type", "Sequence"},
                        {"normalizers", {{{"type", "StripAccents"}}, {{"type", "NFD"}}}}};
  write("tokenizer.json", file);
  expect_refused("normalizer is StripAccents, NFD, expected BertNormalizer");
  file = tokenizer_json();
  file["model"]["continuing_subword_prefix"] = "@@";
  file["post_processor"]["cls"] = json::array({"[CLS]", 7});
  write("tokenizer.json", file);
  expect_refused("continuing_subword_prefix is @@, expected ##");
  file["model"].erase("continuing_subword_prefix");
  write("tokenizer.json", file);
  expect_refused("post_processor writes [CLS] (id 7)");
}

TEST_F(TokenizerFolder, BertTokenizerNotesWhatItDoesNotTakeFromTokenizerJson) {
  json file = tokenizer_json();
  file["normalizer"] = {{"type", "NFC"}};
  file["model"]["max_input_chars_per_word"] = 3;
  write("tokenizer.json", file);
  write("tokenizer_config.json", {{"tokenizer_class", "BertTokenizerFast"}});
  EXPECT_EQ(encode("abbbbb"), (Ids{5, 6, 6, 6, 6, 6}));
  const auto notes = open_tokenizer_folder(folder_.path()).notes;
  ASSERT_EQ(notes.size(), 3u);
  EXPECT_NE(notes[0].find("normalizer is NFC"), std::string::npos);
  EXPECT_NE(notes[1].find("max_input_chars_per_word is 3, used is 100"), std::string::npos);
}

TEST_F(TokenizerFolder, RefusesByName) {
  expect_refused("has no vocab.txt and no tokenizer.json");
  write("vocab.txt", kLines);
  write("tokenizer_config.json", {{"tokenizer_class", "XLNetTokenizer"}});
  expect_refused("tokenizer_class is XLNetTokenizer");
  write("tokenizer_config.json", {{"tokenizer_class", "PreTrainedTokenizerFast"}});
  expect_refused("which needs tokenizer.json");
  write("tokenizer_config.json", {{"cls_token", nullptr}});
  expect_refused("cls_token is null");
  write("tokenizer_config.json", {{"added_tokens_decoder", {{"x", {{"content", "y"}}}}}});
  expect_refused("id is \"x\"");
  write("tokenizer_config.json", {{"added_tokens_decoder", {{"9", {{"content", "y"}}}}}});
  expect_refused("added token 'y' has id 9, but Transformers gives it 8");
  write("tokenizer_config.json", {{"mask_token", 5}});
  expect_refused("mask_token: is 5, expected a token");
  write("tokenizer_config.json", json::object());
  write("added_tokens.json", {{"y", "8"}});
  expect_refused("token 'y' has id \"8\"");
  write("added_tokens.json", json::object());
  for (const char* contents :
       {"", "[]", "{\"model\": {}}", "{\"model\": {\"vocab\": {\"a\": 1.5}}}",
        "{\"model\": {\"vocab\": {\"a\": 4294967296}}}"}) {
    write("tokenizer.json", contents);
    EXPECT_NE(refusal(), "") << contents;
  }
  json file = tokenizer_json();
  file["model"]["type"] = "Unigram";
  write("tokenizer.json", file);
  expect_refused("model is Unigram, expected WordPiece");
}

// Each advice of RefusesByName that names an edit, carried out.
TEST_F(TokenizerFolder, AdviceWorks) {
  write("vocab.txt", kLines);
  write("tokenizer_config.json", {{"tokenizer_class", "PreTrainedTokenizerFast"}});
  expect_refused("Set it to BertTokenizer");
  write("tokenizer_config.json", {{"tokenizer_class", "BertTokenizer"}});
  EXPECT_EQ(refusal(), "");
  write("added_tokens.json", {{"y", 9}});
  expect_refused("Set its id to 8");
  write("added_tokens.json", {{"y", 8}});
  EXPECT_EQ(encode("y"), Ids{8});
  write("tokenizer_config.json", {{"split_special_tokens", true}});
  expect_refused("Set it to false");
  write("tokenizer_config.json", {{"split_special_tokens", false}});
  EXPECT_EQ(refusal(), "");
}

}  // namespace
}  // namespace minibert
