// wordpiece_test.cpp: ids and decoded text against Transformers' BertTokenizer on the conformance
// texts.
#include "models/text/wordpiece.h"

#include <optional>
#include <random>
#include <set>
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

TEST(WordPiece, WhereATextStandsInABlockChangesNothing) {
  const WordPieceTokenizer tokenizer(testing::uncased_vocab(), {});
  for (const auto& entry : testing::tokenizer_golden()["cases"]) {
    const auto text = entry["text"].get<std::string>();
    for (const size_t blanks : {1, 31, 50, 58, 60, 61, 62, 63, 64}) {
      ASSERT_EQ(tokenizer.encode(std::string(blanks, ' ') + text), entry["uncased"].get<Ids>())
          << blanks << " blanks, then " << entry["text"];
    }
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

/// Greedy by decreasing length; nullopt if a word has no pieces.
std::optional<Ids> cut_by_search(const Vocab& vocab, const std::string& word) {
  Ids ids;
  for (size_t at = 0; at < word.size();) {
    const std::string prefix = at > 0 ? "##" : "";
    size_t length = word.size() - at;
    while (length > 0 && vocab.id(prefix + word.substr(at, length)) < 0) --length;
    if (length == 0) return std::nullopt;
    ids.push_back(vocab.id(prefix + word.substr(at, length)));
    at += length;
  }
  return ids;
}

TEST(WordPiece, PiecesEqualThoseOfASearchInRandomVocabularies) {
  std::mt19937 random(5);
  const auto draw = [&](size_t longest) {
    std::string word;
    for (size_t n = random() % longest + 1; n > 0; --n)
      word += static_cast<char>("aab"[random() % 3]);
    return word;
  };
  int64_t unknown = 0, known = 0;
  for (int i = 0; i < 2'000; ++i) {
    std::set<std::string> tokens = {"[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    for (size_t n = random() % 16; n > 0; --n) tokens.insert((random() % 2 ? "##" : "") + draw(9));
    const Vocab vocab = Vocab::from_tokens({tokens.begin(), tokens.end()}, "test");
    const WordPieceCutter cutter(vocab.pieces(), 400);
    for (int j = 0; j < 100; ++j) {
      const std::string word = draw(20);
      const std::optional<Ids> expected = cut_by_search(vocab, word);
      Ids ids = {-7};  // is kept
      ASSERT_EQ(cutter.cut(word, ids), expected.has_value()) << word;
      ASSERT_EQ(Ids(ids.begin() + 1, ids.end()), expected.value_or(Ids{})) << word;
      ++(expected ? known : unknown);
    }
  }
  EXPECT_GT(known, 10'000);
  EXPECT_GT(unknown, 10'000);
}

TEST(WordPiece, PiecesEqualThoseOfASearchInARealVocabulary) {
  const Vocab vocab = testing::uncased_vocab();
  const WordPieceCutter cutter(vocab.pieces(), 400);
  std::mt19937 random(6);
  for (int i = 0; i < 50'000; ++i) {
    std::string word;
    for (size_t n = random() % 3 + 1; n > 0;
         --n) {  // parts of pieces, so that matches end inside some
      const auto& piece = vocab.pieces()[random() % vocab.pieces().size()].first;
      word += piece.substr(piece.starts_with("##") ? 2 : 0).substr(0, random() % 8 + 1);
    }
    Ids ids;
    if (word.empty()) continue;
    const std::optional<Ids> expected = cut_by_search(vocab, word);
    ASSERT_EQ(cutter.cut(word, ids), expected.has_value()) << word;
    ASSERT_EQ(ids, expected.value_or(Ids{})) << word;
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
