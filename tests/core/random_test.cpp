// random_test.cpp: Philox against the published known answers (Random123's kat_vectors), the
// counters' layout, and draws.
#include "core/random.h"

#include <array>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/data_step.h"

namespace minibert {
namespace {

TEST(Philox, EqualsThePublishedKnownAnswers) {
  EXPECT_EQ(philox4x32({{0, 0, 0, 0}}, 0),
            (PhiloxOutput{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
  EXPECT_EQ(philox4x32({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffffffffffffull),
            (PhiloxOutput{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
  EXPECT_EQ(philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822ull),
            (PhiloxOutput{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

// The third vector above, with the keys of the rounds made beforehand.
TEST(Philox, RoundKeysMadeBeforehandGiveTheSame) {
  constexpr uint64_t kSeed = 0x299f31d0a4093822ull;
  const PhiloxCounter counter{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}};
  EXPECT_EQ(philox4x32(counter, philox_keys(kSeed)),
            (PhiloxOutput{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

TEST(Philox, NoTwoAttentionElementsShareAnOutput) {
  const Dropout d = make_dropout(0.1f, 7, testing::data_step(3), 2, DropoutPurpose::attention);
  std::set<std::pair<std::array<uint32_t, 4>, int>> seen;
  for (uint32_t head = 0; head < 3; ++head) {
    for (uint32_t query = 0; query < 37; ++query) {
      for (uint32_t key = 0; key < 37; ++key) {
        const PhiloxCounter c = attention_counter(d, query, key, head, 5);
        EXPECT_TRUE(
            seen.insert({{c[0], c[1], c[2], c[3]}, attention_output_index(query, key)}).second);
      }
    }
  }
}

TEST(Philox, AQuadOfAttentionSharesOneCall) {
  const Dropout d = make_dropout(0.1f, 7, testing::data_step(3), 2, DropoutPurpose::attention);
  const PhiloxCounter first = attention_counter(d, 17, 6, 1, 5);
  EXPECT_EQ(attention_counter(d, 17, 7, 1, 5), first);
  EXPECT_EQ(attention_counter(d, 25, 6, 1, 5), first);
  EXPECT_EQ(attention_counter(d, 25, 7, 1, 5), first);
  EXPECT_EQ(attention_output_index(17, 6), 0);
  EXPECT_EQ(attention_output_index(17, 7), 1);
  EXPECT_EQ(attention_output_index(25, 6), 2);
  EXPECT_EQ(attention_output_index(25, 7), 3);
}

TEST(Philox, StepLayerAndPurposeNeverCollide) {
  std::set<uint32_t> words;
  for (uint32_t step : {0u, 1u, 1000u, kMaxDataStep}) {
    for (int layer : {0, 1, kMaxDropoutLayer}) {
      for (auto purpose : {DropoutPurpose::embedding, DropoutPurpose::attention,
                           DropoutPurpose::feed_forward, DropoutPurpose::user}) {
        EXPECT_TRUE(words
                        .insert(make_dropout(0.1f, 0, testing::data_step(step), layer, purpose)
                                    .step_layer_purpose())
                        .second);
      }
    }
  }
}

TEST(Dropout, ProbabilityIsQuantisedAndScaleIsItsExactInverse) {
  for (float p : {0.0f, 0.1f, 0.25f, 0.5f, 0.9f}) {
    const Dropout d = make_dropout(p, 1, testing::data_step(0), 0, DropoutPurpose::user);
    EXPECT_NEAR(d.threshold / 65536.0, p, 0.5 / 65536);
    EXPECT_FLOAT_EQ(d.scale, static_cast<float>(65536.0 / (65536.0 - d.threshold)));
    EXPECT_EQ(d.active(), p > 0);
  }
}

TEST(Dropout, RejectsWhatTheCounterCannotHold) {
  EXPECT_THROW(make_dropout(1.0f, 0, testing::data_step(0), 0, DropoutPurpose::user), UsageError);
  EXPECT_THROW(make_dropout(-0.1f, 0, testing::data_step(0), 0, DropoutPurpose::user), UsageError);
  EXPECT_THROW(make_dropout(NAN, 0, testing::data_step(0), 0, DropoutPurpose::user), UsageError);
  EXPECT_THROW(
      make_dropout(0.1f, 0, testing::data_step(0), kMaxDropoutLayer + 1, DropoutPurpose::user),
      UsageError);
}

TEST(RandomStream, IsItsNameAlone) {
  RandomStream a(42, StreamPurpose::masking, 1000, 3), b(42, StreamPurpose::masking, 1000, 3);
  RandomStream other_index(42, StreamPurpose::masking, 1001, 3),
      other_epoch(42, StreamPurpose::masking, 1000, 4);
  RandomStream other_purpose(42, StreamPurpose::shuffle, 1000, 3),
      high_index(42, StreamPurpose::masking, 1000 + (1ull << 32), 3);
  for (int i = 0; i < 100; ++i) {
    const uint32_t x = a.next_u32();
    EXPECT_EQ(x, b.next_u32());
    EXPECT_NE(x, other_index.next_u32());
    EXPECT_NE(x, other_epoch.next_u32());
    EXPECT_NE(x, other_purpose.next_u32());
    EXPECT_NE(x, high_index.next_u32());
  }
}

TEST(RandomStream, BelowIsUniform) {
  RandomStream stream(1, StreamPurpose::user, 0);
  for (uint32_t bound : {1u, 2u, 3u, 7u, 1000u}) {
    std::map<uint32_t, int> counts;
    const int draws = 20000;
    for (int i = 0; i < draws; ++i) {
      const uint32_t x = stream.below(bound);
      ASSERT_LT(x, bound);
      ++counts[x];
    }
    double chi2 = 0;
    const double expected = static_cast<double>(draws) / bound;
    for (uint32_t v = 0; v < bound; ++v)
      chi2 += (counts[v] - expected) * (counts[v] - expected) / expected;
    EXPECT_LT(chi2, bound + 5 * std::sqrt(2.0 * bound))
        << bound;  // mean bound - 1, sigma sqrt(2 (bound - 1))
  }
}

TEST(RandomStream, IntegerIncludesBothEnds) {
  RandomStream stream(1, StreamPurpose::user, 1);
  std::set<int64_t> seen;
  for (int i = 0; i < 200; ++i) seen.insert(stream.integer(-2, 1));
  EXPECT_EQ(seen, (std::set<int64_t>{-2, -1, 0, 1}));
}

TEST(RandomStream, UniformAndNormalHaveTheirMoments) {
  RandomStream stream(9, StreamPurpose::user, 2);
  const int n = 100000;
  double sum = 0, squares = 0, normal_sum = 0, normal_squares = 0;
  for (int i = 0; i < n; ++i) {
    const double u = stream.uniform(), z = stream.normal();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u, squares += u * u, normal_sum += z, normal_squares += z * z;
  }
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
  EXPECT_NEAR(normal_sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(normal_squares / n, 1, 5 * std::sqrt(2.0 / n));
}

}  // namespace
}  // namespace minibert
