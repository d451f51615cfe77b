// masking_test.cpp: how many tokens are masked, which ones may be, and what replaces them.
// Expected values: Python's round() by hand, and binomial bounds (six standard deviations).
#include "models/text/masking.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "models/text/vocab.h"

namespace minibert {
namespace {

constexpr int32_t kVocabulary = 1000, kCls = 2, kSep = 3, kMask = 4;

TokenTable table() {
  TokenTable table{kVocabulary, kCls, kSep, kMask, 1, std::vector<uint8_t>(kVocabulary)};
  for (int32_t id = 500; id < kVocabulary; ++id) table.continues_word[static_cast<size_t>(id)] = 1;
  return table;
}

/// [CLS] words [SEP] words [SEP], no word id twice.
std::vector<int32_t> tokens(int words) {
  std::vector<int32_t> ids = {kCls};
  for (int i = 0; i < words; ++i) {
    if (i == words / 2) ids.push_back(kSep);
    ids.push_back(10 + i);
  }
  ids.push_back(kSep);
  return ids;
}

DrawSource draws(uint64_t index) {
  return DrawSource(RandomStream(11, StreamPurpose::user, index));
}

TEST(Masking, TokenTableHasTheIdsOfTheVocabulary) {
  const TokenTable table = token_table(
      Vocab::from_tokens({"a", "##b", "[MASK]", "[SEP]", "[UNK]", "[CLS]", "c##", "##"}, "test"));
  EXPECT_EQ(table.vocab_size, 8);
  EXPECT_EQ(table.mask, 2);
  EXPECT_EQ(table.sep, 3);
  EXPECT_EQ(table.unk, 4);
  EXPECT_EQ(table.cls, 5);
  EXPECT_EQ(table.continues_word, (std::vector<uint8_t>{0, 1, 0, 0, 0, 0, 0, 1}));
}

TEST(Masking, CountsAsPythonRounds) {
  const MaskingOptions options{0.15, 20, false};
  EXPECT_EQ(masked_count(4, options), 1);     // 0.6 -> 1
  EXPECT_EQ(masked_count(3, options), 1);     // 0.45 -> 0, but at least 1
  EXPECT_EQ(masked_count(10, options), 2);    // 1.5 -> 2
  EXPECT_EQ(masked_count(30, options), 4);    // 4.5 -> 4: half to even
  EXPECT_EQ(masked_count(50, options), 8);    // 7.5 -> 8
  EXPECT_EQ(masked_count(128, options), 19);  // 19.2
  EXPECT_EQ(masked_count(512, options), 20);  // 76.8, at most 20
}

TEST(Masking, NeverMasksClsOrSepAndKeepsTheLabels) {
  for (uint64_t i = 0; i < 200; ++i) {
    const auto ids = tokens(20);
    DrawSource source = draws(i);
    const MaskedTokens masked = mask_tokens(ids, table(), {0.5, 20, false}, source);
    EXPECT_EQ(masked.positions.size(), 12u);  // round(23 * 0.5 = 11.5) to even
    EXPECT_TRUE(std::is_sorted(masked.positions.begin(), masked.positions.end()));
    EXPECT_EQ(std::set<int32_t>(masked.positions.begin(), masked.positions.end()).size(), 12u);
    for (size_t p = 0; p < masked.positions.size(); ++p) {
      const auto at = static_cast<size_t>(masked.positions[p]);
      EXPECT_GE(ids[at], 10);
      EXPECT_EQ(masked.labels[p], ids[at]);
    }
    for (size_t at = 0; at < ids.size(); ++at) {
      const bool chosen = std::count(masked.positions.begin(), masked.positions.end(),
                                     static_cast<int32_t>(at)) > 0;
      if (!chosen) {
        EXPECT_EQ(masked.ids[at], ids[at]);
      }
    }
  }
}

TEST(Masking, SharesAre80To10To10AndPlacesAreEven) {
  constexpr int kRuns = 20000;
  const auto ids = tokens(20);
  int mask = 0, kept = 0, random = 0;
  std::vector<int> places(ids.size());
  double random_sum = 0;
  for (uint64_t i = 0; i < kRuns; ++i) {
    DrawSource source = draws(i);
    const MaskedTokens masked = mask_tokens(ids, table(), {0.15, 20, false}, source);
    for (const int32_t position : masked.positions) {
      const auto at = static_cast<size_t>(position);
      ++places[at];
      if (masked.ids[at] == kMask) {
        ++mask;
      } else if (masked.ids[at] == ids[at]) {
        ++kept;
      } else {
        ++random;
        random_sum += masked.ids[at];
      }
    }
  }
  const double n = 3.0 * kRuns;  // round(23 * 0.15 = 3.45)
  EXPECT_EQ(mask + kept + random, static_cast<int>(n));
  const auto expect_share = [&](int count, double share) {
    EXPECT_LT(std::abs(count - n * share), 6 * std::sqrt(n * share * (1 - share)));
  };
  // A random id is the token itself or [MASK] once in a thousand each.
  expect_share(mask, 0.8 + 0.1 / kVocabulary);
  expect_share(kept, 0.1 + 0.1 / kVocabulary);
  expect_share(random, 0.1 - 0.2 / kVocabulary);
  // Uniform over 0 .. 999: mean 499.5, standard deviation 288.7.
  EXPECT_LT(std::abs(random_sum / random - 499.5), 6 * 288.7 / std::sqrt(random));
  const double p = 3.0 / 20;
  for (size_t at = 0; at < ids.size(); ++at) {
    if (ids[at] < 10) {
      EXPECT_EQ(places[at], 0);
    } else {
      EXPECT_LT(std::abs(places[at] - kRuns * p), 6 * std::sqrt(kRuns * p * (1 - p)));
    }
  }
}

TEST(Masking, WholeWordsAreMaskedTogetherAndNeverTooMany) {
  // Words of 1, 3, 2, 1, 1 and 7 pieces.
  const std::vector<int32_t> ids = {kCls, 10, 11,  500, 501, 12,  502, kSep, 13,
                                    14,   15, 600, 601, 602, 603, 604, 605,  kSep};
  const std::vector<std::vector<int32_t>> words = {{1}, {2, 3, 4}, {5, 6},
                                                   {8}, {9},       {10, 11, 12, 13, 14, 15, 16}};
  std::set<size_t> seen;
  for (uint64_t i = 0; i < 300; ++i) {
    DrawSource source = draws(i);
    const MaskedTokens masked = mask_tokens(ids, table(), {0.2, 20, true}, source);
    EXPECT_LE(masked.positions.size(), 4u);  // round(18 * 0.2 = 3.6)
    for (size_t w = 0; w < words.size(); ++w) {
      const auto chosen = std::count_if(words[w].begin(), words[w].end(), [&](int32_t position) {
        return std::binary_search(masked.positions.begin(), masked.positions.end(), position);
      });
      EXPECT_TRUE(chosen == 0 || chosen == static_cast<int64_t>(words[w].size())) << "word " << w;
      if (chosen > 0) seen.insert(w);
    }
  }
  EXPECT_EQ(seen, (std::set<size_t>{0, 1, 2, 3, 4}));  // the last is longer than the number wanted
}

TEST(Masking, ShuffleIsPythons) {
  // random.shuffle of [0, 1, 2, 3] asks for randint(0, 3), (0, 2), (0, 1) and swaps from the end.
  std::vector<Draw> record;
  DrawSource source(RandomStream(1, StreamPurpose::user, 0), &record);
  std::vector<int> x = {0, 1, 2, 3}, expected = x;
  source.shuffle(x);
  ASSERT_EQ(record.size(), 3u);
  for (int i = 3; i >= 1; --i) {
    const auto j = static_cast<size_t>(record[static_cast<size_t>(3 - i)].value);
    std::swap(expected[static_cast<size_t>(i)], expected[j]);
  }
  EXPECT_EQ(x, expected);
}

TEST(Masking, RecordingChangesNoDraw) {
  std::vector<Draw> record;
  const auto ids = tokens(30);
  DrawSource plain = draws(5), recorded(RandomStream(11, StreamPurpose::user, 5), &record);
  const MaskedTokens a = mask_tokens(ids, table(), {}, plain),
                     b = mask_tokens(ids, table(), {}, recorded);
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_GT(record.size(), 29u);
}

}  // namespace
}  // namespace minibert
