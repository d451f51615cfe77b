// inference_test.cpp: packing texts, candidates and sentence vectors, by hand-worked values.
#include "models/bert/inference.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/models/batch_fields.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::values;

constexpr BatchLimits kLimits = {10, 8, 1};

TEST(PackSequences, LaysThemOneAfterTheOther) {
  const std::vector<std::vector<int32_t>> sequences = {{7, 8, 9}, {}, {5}};
  const PackedBatch batch = pack_sequences(sequences, kLimits);
  EXPECT_EQ(values(batch.ids), (std::vector<int32_t>{7, 8, 9, 5}));
  EXPECT_EQ(values(batch.position), (std::vector<int32_t>{0, 1, 2, 0}));
  EXPECT_EQ(values(batch.row_sample), (std::vector<int32_t>{0, 0, 0, 2}));
  EXPECT_EQ(values(batch.cu_seqlens), (std::vector<int32_t>{0, 3, 3, 4}));
  EXPECT_EQ(values(batch.segment), (std::vector<int32_t>{0, 0, 0, 0}));
  EXPECT_EQ(batch.masked_rows(), 0);
  EXPECT_EQ(pack_sequences({}, kLimits).tokens(), 0);
}

TEST(GroupByTokens, KeepsOrderAndCapacity) {
  const auto lengths = [](std::vector<size_t> all) {
    std::vector<std::vector<int32_t>> sequences;
    for (const size_t n : all) sequences.emplace_back(n, 1);
    return sequences;
  };
  EXPECT_EQ(group_by_tokens(lengths({3, 3, 4, 1, 12, 2}), 10), (std::vector<size_t>{3, 4, 5, 6}));
  EXPECT_EQ(group_by_tokens(lengths({11}), 10), (std::vector<size_t>{1}));
  EXPECT_EQ(group_by_tokens(lengths({}), 10), (std::vector<size_t>{}));
}

TEST(TopCandidates, AreSortedAndSumOverTheWholeVocabulary) {
  // exp of the first row: 1, 3, 3, 8, 1; of the second, after a shift of 1000, the same.
  const float l3 = std::log(3.0f), l8 = std::log(8.0f);
  const std::vector<float> logits = {0, l3, l3, l8, 0, 1000, 1000 + l3, 1000 + l3, 1000 + l8, 1000};
  const auto all = top_candidates(Tensor::from<float>(logits, {2, 5}), 3, 4);
  ASSERT_EQ(all.size(), 2u);
  for (const auto& candidates : all) {
    ASSERT_EQ(candidates.size(), 3u);
    const int32_t ids[] = {3, 1, 2};
    const double probabilities[] = {0.5, 3.0 / 16, 3.0 / 16};
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(candidates[i].id, ids[i]);
      EXPECT_NEAR(candidates[i].probability, probabilities[i], 1e-4 * probabilities[i]);
    }
  }
  EXPECT_EQ(top_candidates(Tensor::from<float>(logits, {2, 5}), 99, 3)[1].size(), 3u);
  const int32_t among[] = {0, 2};
  for (const auto& candidates : top_candidates(Tensor::from<float>(logits, {2, 5}), 3, 4, among)) {
    ASSERT_EQ(candidates.size(), 2u);
    EXPECT_EQ(candidates[0].id, 2);
    EXPECT_NEAR(candidates[0].probability, 3.0 / 16, 1e-4 * 3.0 / 16);
    EXPECT_EQ(candidates[1].id, 0);
    EXPECT_NEAR(candidates[1].probability, 1.0 / 16, 1e-4 / 16);
  }
  EXPECT_TRUE(top_candidates(Tensor::zeros({0, 5}), 3, 5).empty());
}

// Finite weights that are too large give logits inf - inf; an order of them is undefined.
TEST(TopCandidates, RefuseLogitsThatAreNaN) {
  std::vector<float> logits = {0, 1, 2, 3, 4, 5};
  EXPECT_EQ(top_candidates(Tensor::from<float>(logits, {2, 3}), 1, 3)[1][0].id, 2);
  logits[4] = std::nanf("");
  try {
    top_candidates(Tensor::from<float>(logits, {2, 3}), 1, 3);
    FAIL() << "accepted";
  } catch (const NumericError& error) {
    EXPECT_NE(std::string(error.what()).find("logit 1 of row 1 is NaN"), std::string::npos)
        << error.what();
  }
}

TEST(SentenceVectors, PoolAndNormalize) {
  const std::vector<float> rows = {1, 2, 3, 4, 5, 12, -6, 8};
  const Tensor hidden = Tensor::from<float>(rows, {4, 2});
  const std::vector<std::vector<int32_t>> sequences = {{1, 1, 1}, {1}};
  const PackedBatch batch = pack_sequences(sequences, kLimits);
  const auto vectors = [&](Pooling pooling, bool normalize) {
    const Tensor t = sentence_vectors(hidden, batch, pooling, normalize);
    return std::vector<float>(t.span<float>().begin(), t.span<float>().end());
  };
  EXPECT_EQ(vectors(Pooling::mean, false), (std::vector<float>{3, 6, -6, 8}));
  EXPECT_EQ(vectors(Pooling::cls, false), (std::vector<float>{1, 2, -6, 8}));
  const std::vector<float> unit = vectors(Pooling::mean, true);
  EXPECT_FLOAT_EQ(unit[0], 1 / std::sqrt(5.0f));
  EXPECT_FLOAT_EQ(unit[2], -0.6f);
  EXPECT_FLOAT_EQ(vectors(Pooling::cls, true)[1], 2 / std::sqrt(5.0f));
  const std::vector<std::vector<int32_t>> with_empty = {{1, 1, 1}, {}};
  EXPECT_THROW(sentence_vectors(hidden, pack_sequences(with_empty, kLimits), Pooling::cls, false),
               UsageError);
  EXPECT_EQ(parse_pooling("cls"), Pooling::cls);
  EXPECT_THROW(parse_pooling("max"), UsageError);
}

}  // namespace
}  // namespace minibert
