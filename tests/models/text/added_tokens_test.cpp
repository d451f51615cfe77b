// added_tokens_test.cpp: tokens that are cut out of texts, against `tokenizers` 0.23.3
// (tools/goldens/added_tokens.py), and what the matcher refuses.
#include "models/text/added_tokens.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "models/text/wordpiece.h"
#include "tests/models/text/tokenizer_golden.h"

namespace minibert {
namespace {

using nlohmann::json;

TokenizerOptions options_of(const json& flags) {
  return {.lowercase = flags["lowercase"],
          .strip_accents = flags["strip_accents"],
          .split_chinese = flags["split_chinese"],
          .clean_text = flags["clean_text"]};
}

std::vector<AddedToken> tokens_of(const json& list) {
  std::vector<AddedToken> tokens;
  for (const json& t : list)
    tokens.push_back({t["content"], t["id"], t["single_word"], t["lstrip"], t["rstrip"],
                      t["normalized"], t["special"]});
  return tokens;
}

TEST(AddedTokens, IdsAndNormalizedTextsAreTheLibrarys) {
  std::ifstream file(testing::tokenizer_goldens() / "added_tokens.json");
  const json golden = json::parse(file);
  int64_t texts = 0, found = 0;
  for (const json& c : golden["cases"]) {
    const TokenizerOptions options = options_of(c["options"]);
    Vocab vocab = Vocab::from_tokens(golden["vocab"], "golden");
    for (const AddedToken& token : tokens_of(c["tokens"]))
      vocab.add(token.content, token.id, /* listed= */ true);
    const WordPieceTokenizer tokenizer(vocab, options, tokens_of(c["tokens"]));
    const BasicTokenizer words(options);
    for (const json& text : c["texts"]) {
      const std::string input = text[0], normalized = text[1];
      const std::vector<int32_t> ids = text[2];
      ASSERT_EQ(words.normalize(input), normalized) << json(input);
      ASSERT_EQ(words.split(normalized), words.split(input)) << json(input);
      ASSERT_EQ(tokenizer.encode(input), ids) << json(input) << c["tokens"] << c["options"];
      ++texts;
      for (const json& token : c["tokens"])
        found += std::ranges::count(ids, token["id"].get<int32_t>());
    }
  }
  EXPECT_EQ(texts, 720);
  EXPECT_GT(found, texts / 3);  // the golden is about something
}

// Of a normalized text, words are those of the text itself: added tokens are looked for in it.
TEST(AddedTokens, SplittingANormalizedTextGivesItsWords) {
  for (const TokenizerOptions& options :
       {TokenizerOptions{}, TokenizerOptions{.strip_accents = false, .clean_text = false}}) {
    const BasicTokenizer words(options);
    for (uint32_t c = 1; c < 0x110000; ++c) {
      if (c == 0xD800) c = 0xE000;
      std::string text = "a\xCC\x81";
      append_utf8(c, text);
      text += "\xCC\xA3z";
      ASSERT_EQ(words.split(words.normalize(text)), words.split(text)) << std::hex << c;
    }
  }
}

TEST(AddedTokens, SpecialOnesAreCharactersWhereTheOptionsSaySo) {
  const Vocab vocab = Vocab::from_tokens({"[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "q"}, "test");
  const std::vector<AddedToken> added = {{.content = "[MASK]", .id = 3, .special = true},
                                         {.content = "q", .id = 5}};
  const TokenizerOptions options{.recognise_special_tokens = false};
  EXPECT_EQ(WordPieceTokenizer(vocab, options, added).encode("aqa [MASK]"),
            (std::vector<int32_t>{4, 5, 4, 0, 0, 0}));
}

TEST(AddedTokens, RefusesWhatWouldBeFoundEverywhereOrIsTooLong) {
  const Vocab vocab = Vocab::from_tokens({"[UNK]", "[CLS]", "[SEP]", "[MASK]"}, "test");
  EXPECT_THROW(WordPieceTokenizer(vocab, {}, {{.content = "\xCC\x81", .id = 4}}), DataError);
  EXPECT_THROW(AddedTokenMatcher({{.content = std::string(5000, 'a'), .id = 4}}), DataError);
  const std::string longest(AddedTokenMatcher::kLongest, 'a');
  const WordPieceTokenizer tokenizer(vocab, {}, {{.content = longest, .id = 4}});
  EXPECT_EQ(tokenizer.encode("b" + longest + "a"), (std::vector<int32_t>{0, 4, 0}));
}

}  // namespace
}  // namespace minibert
