// wordpiece_test.cpp: ids and decoded text against Transformers' BertTokenizer on the conformance
// texts.
#include "models/text/wordpiece.h"

#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/models/text/tokenizer_golden.h"

namespace minibert {
namespace {

using Ids = std::vector<int32_t>;

TEST(WordPiece, UncasedIdsEqualBertTokenizer) {
  const WordPieceTokenizer tokenizer(testing::uncased_vocab(), {});
  const auto& cases = testing::tokenizer_golden()["cases"];
  ASSERT_GE(cases.size(), 370u);
  for (const auto& entry : cases) {
    EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), entry["uncased"].get<Ids>())
        << entry["text"];
  }
}

TEST(WordPiece, CasedIdsEqualBertTokenizer) {
  const WordPieceTokenizer tokenizer(testing::cased_vocab(), TokenizerOptions::cased());
  for (const auto& entry : testing::tokenizer_golden()["cases"]) {
    EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), entry["cased"].get<Ids>())
        << entry["text"];
  }
}

TEST(WordPiece, DecodedTextEqualsTheLibrary) {
  const WordPieceTokenizer tokenizer(testing::uncased_vocab(), {});
  for (const auto& entry : testing::tokenizer_golden()["cases"]) {
    EXPECT_EQ(tokenizer.decode(entry["uncased"].get<Ids>()), entry["decoded"].get<std::string>())
        << entry["text"];
  }
  EXPECT_THROW(tokenizer.decode(Ids{30522}), UsageError);
}

TEST(WordPiece, SpecialTokensFrameTheIds) {
  const WordPieceTokenizer tokenizer(testing::uncased_vocab(), {});
  EXPECT_EQ(tokenizer.encode_with_special_tokens("the"), (Ids{101, 1996, 102}));
  EXPECT_EQ(tokenizer.encode_with_special_tokens(""), (Ids{101, 102}));
}

TEST(WordPiece, EncodeIntoAppends) {
  const WordPieceTokenizer tokenizer(testing::uncased_vocab(), {});
  Ids ids = {7};
  tokenizer.encode_into("the the", ids);
  EXPECT_EQ(ids, (Ids{7, 1996, 1996}));
}

TEST(WordPiece, MaskInTextIsPlainWhereSpecialTokensAreNotRecognised) {
  const WordPieceTokenizer plain(testing::uncased_vocab(), {.recognise_special_tokens = false});
  const Vocab& vocab = plain.vocab();
  EXPECT_EQ(plain.encode("[MASK]"), (Ids{vocab.id("["), vocab.id("mask"), vocab.id("]")}));
  for (const auto& entry : testing::tokenizer_golden()["cases"]) {
    for (const int32_t id : plain.encode(entry["text"].get<std::string>())) {
      EXPECT_TRUE(id == vocab.unk_id() || !vocab.is_special(id)) << entry["text"];
    }
  }
}

TEST(WordPiece, EveryPieceOfTheVocabularyIsFoundByTheLongestMatch) {
  const Vocab vocab = testing::uncased_vocab();
  const WordPieceTrie trie(vocab.pieces(), 400);
  for (int32_t id = 0; id < vocab.size(); ++id) {
    const std::string_view token = vocab.token(id);
    const bool continues = token.starts_with("##") && token.size() > 2;
    const auto match =
        continues ? trie.longest_continuation(token.substr(2)) : trie.longest_initial(token);
    if (token == "##") continue;
    ASSERT_EQ(match.id, id) << token;
    ASSERT_EQ(match.length, token.size() - (continues ? 2 : 0)) << token;
  }
}

TEST(WordPiece, LongestMatchEqualsASearchByDecreasingLength) {
  const Vocab vocab = testing::cased_vocab();
  const WordPieceTrie trie(vocab.pieces(), 400);
  std::mt19937 random(11);
  for (int i = 0; i < 20'000; ++i) {
    std::string word;
    for (size_t n = random() % 9 + 1; n > 0; --n)
      word += static_cast<char>("aeinrstdEm~\xC3"[random() % 12]);
    for (const std::string prefix : {"", "##"}) {
      size_t length = word.size();
      while (length > 0 && vocab.id(prefix + word.substr(0, length)) < 0) --length;
      const auto match =
          prefix.empty() ? trie.longest_initial(word) : trie.longest_continuation(word);
      ASSERT_EQ(match.length, length) << prefix << word;
      ASSERT_EQ(match.id, length == 0 ? -1 : vocab.id(prefix + word.substr(0, length)))
          << prefix << word;
    }
  }
}

TEST(WordPiece, AVocabularyOfSpecialTokensAloneMakesEverythingUnknown) {
  const WordPieceTokenizer tokenizer(
      Vocab::from_tokens({"[UNK]", "[CLS]", "[SEP]", "[MASK]", "##", std::string(5000, 'a')},
                         "test"),
      {});
  EXPECT_EQ(tokenizer.encode("any word # ## " + std::string(5000, 'a')), (Ids(6, 0)));
}

TEST(WordPiece, ManyThreadsShareOneTokenizer) {
  const WordPieceTokenizer tokenizer(testing::uncased_vocab(), {});
  const auto& cases = testing::tokenizer_golden()["cases"];
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (const auto& entry : cases) {
        wrong[t] +=
            tokenizer.encode(entry["text"].get<std::string>()) != entry["uncased"].get<Ids>();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace minibert
