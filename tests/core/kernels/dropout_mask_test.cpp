// dropout_mask_test.cpp: exported dropout masks against Philox called with counters written out here,
// and their statistics.
#include "core/kernels/dropout_mask.h"

#include <cmath>

#include "tests/core/kernels/kernel_fixture.h"

namespace minibert::testing {
namespace {

constexpr uint64_t kSeed = 0x0123456789ABCDEFull;

// Whether `kept` of `n` agrees with keep probability q within five standard deviations.
bool binomial(double kept, double n, double q) {
  return std::abs(kept - n * q) <= 5 * std::sqrt(n * q * (1 - q)) + 1e-9;
}

double count(const Tensor& mask) {
  double sum = 0;
  for (uint8_t keep : mask.span<uint8_t>()) sum += keep;
  return sum;
}

// Two masks agree in about q^2 + (1 - q)^2 of all places if they are independent.
double agreement(const Tensor& a, const Tensor& b) {
  double same = 0;
  for (int64_t i = 0; i < a.numel(); ++i) same += a.data<uint8_t>()[i] == b.data<uint8_t>()[i];
  return same;
}

TEST(ExportedMask, AttentionIsPhiloxOfTheDocumentedCounter) {
  const uint32_t step = 1234567, layer = 5, purpose = 1;
  const Dropout dropout =
      make_dropout(0.25f, kSeed, data_step(step), layer, DropoutPurpose::attention);
  const Tensor mask = export_attention_dropout_mask(dropout, 53, 3, 99);
  ASSERT_EQ(mask.shape(), (Shape{53, 53}));
  for (uint32_t i = 0; i < 53; ++i) {
    for (uint32_t j = 0; j < 53; ++j) {
      const uint32_t row = i % 16 < 8 ? i : i - 8;
      const auto words =
          philox4x32({j / 2, row + 3 * 65536, 99, step * 1024 + layer * 16 + purpose}, kSeed);
      const uint32_t word = words[(i % 16 < 8 ? 0 : 2) + j % 2];
      ASSERT_EQ(mask.data<uint8_t>()[i * 53 + j], word / 65536 >= 16384) << i << " " << j;
    }
  }
}

TEST(ExportedMask, HiddenIsPhiloxOfTheDocumentedCounter) {
  const uint32_t step = 42, layer = 11, purpose = 3;
  const Dropout dropout =
      make_dropout(0.1f, kSeed, data_step(step), layer, DropoutPurpose::feed_forward);
  const Tensor position = integers({0, 511, 3}), sample = integers({7, 0, 70000});
  const Tensor mask = export_hidden_dropout_mask(dropout, position, sample, 37);
  ASSERT_EQ(mask.shape(), (Shape{3, 37}));
  for (int64_t t = 0; t < 3; ++t) {
    for (uint32_t h = 0; h < 37; ++h) {
      const auto words = philox4x32(
          {h / 4, static_cast<uint32_t>(position.data<int32_t>()[t]),
           static_cast<uint32_t>(sample.data<int32_t>()[t]), step * 1024 + layer * 16 + purpose},
          kSeed);
      ASSERT_EQ(mask.data<uint8_t>()[t * 37 + h], words[h % 4] / 65536 >= 6554);
    }
  }
}

TEST(ExportedMask, KeepsTheQuantisedShare) {
  for (float p : {0.0f, 0.1f, 0.5f, 0.9f}) {
    const Dropout dropout = make_dropout(p, kSeed, data_step(1), 0, DropoutPurpose::attention);
    const double q = 1 - dropout.threshold / 65536.0;
    const Tensor mask = export_attention_dropout_mask(dropout, 512, 0, 1);
    EXPECT_TRUE(binomial(count(mask), 512.0 * 512, q)) << p << ": " << count(mask);
    std::vector<int32_t> position(512), sample(512, 1);
    for (int32_t t = 0; t < 512; ++t) position[static_cast<size_t>(t)] = t;
    const Tensor hidden =
        export_hidden_dropout_mask(dropout, integers(position), integers(sample), 768);
    EXPECT_TRUE(binomial(count(hidden), 512.0 * 768, q)) << p << ": " << count(hidden);
  }
}

TEST(ExportedMask, HeadsSamplesStepsLayersAndSeedsAreIndependent) {
  const float p = 0.3f;
  const auto mask = [&](uint64_t seed, uint32_t step, int layer, int64_t head, int32_t sample) {
    return export_attention_dropout_mask(
        make_dropout(p, seed, data_step(step), layer, DropoutPurpose::attention), 256, head,
        sample);
  };
  const Tensor base = mask(1, 1, 1, 1, 1);
  const double q = base.numel() > 0 ? 1 - std::round(p * 65536) / 65536 : 0;
  for (const Tensor& other : {mask(2, 1, 1, 1, 1), mask(1, 2, 1, 1, 1), mask(1, 1, 2, 1, 1),
                              mask(1, 1, 1, 2, 1), mask(1, 1, 1, 1, 2)}) {
    EXPECT_TRUE(binomial(agreement(base, other), 65536, q * q + (1 - q) * (1 - q)));
  }
  // Neighbouring rows and columns too: the mask against itself, moved by one row.
  EXPECT_TRUE(binomial(agreement(base.rows(0, 255), base.rows(1, 255)), 255 * 256,
                       q * q + (1 - q) * (1 - q)));
}

TEST(ExportedMask, RefusesWhatTheCounterCannotHold) {
  const Dropout dropout = make_dropout(0.1f, 1, data_step(1), 0, DropoutPurpose::attention);
  EXPECT_EQ(export_attention_dropout_mask(dropout, 0, 0, 0).numel(), 0);
  EXPECT_THROW(export_attention_dropout_mask(dropout, -1, 0, 0), UsageError);
  EXPECT_THROW(export_attention_dropout_mask(dropout, 65537, 0, 0), UsageError);
  EXPECT_THROW(export_attention_dropout_mask(dropout, 4, 65536, 0), UsageError);
  EXPECT_THROW(export_attention_dropout_mask(dropout, 4, -1, 0), UsageError);
  EXPECT_THROW(export_hidden_dropout_mask(dropout, integers({1, 2}), integers({1}), 4), UsageError);
  EXPECT_THROW(export_hidden_dropout_mask(dropout, Tensor(), integers({1}), 4), UsageError);
  EXPECT_THROW(export_hidden_dropout_mask(dropout, integers({1}), integers({1}), -1), UsageError);
  EXPECT_THROW(export_hidden_dropout_mask(dropout, Tensor::zeros({1}), integers({1}), 4),
               UsageError);
  EXPECT_THROW(export_hidden_dropout_mask(dropout, integers({1}), Tensor::zeros({1}), 4),
               UsageError);
  EXPECT_EQ(export_hidden_dropout_mask(dropout, integers({1}), integers({1}), 0).numel(), 0);
  EXPECT_EQ(export_attention_dropout_mask(dropout, 1, 65535, 0).numel(), 1);
}

}  // namespace
}  // namespace minibert::testing
