// labelled_loader_test.cpp: each pass shows each sequence once, in an order that the seed names; cuts
// change neither samples nor labels; spans as lines of scores, by hand-worked values; what is refused.
#include "models/text/labelled_loader.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/models/batch_fields.h"

namespace minibert {
namespace {

using testing::values;
using Ints = std::vector<int32_t>;

constexpr BatchLimits kLimits{50, 16, 2, 7};

/// Sequence i has ids [2, i + 10, ..., 3], label i mod 7 and the answer at its tokens 1 to 1 + i mod 2.
std::vector<LabelledSequence> sequences(int count) {
  std::vector<LabelledSequence> all;
  for (int i = 0; i < count; ++i) {
    LabelledSequence& s = all.emplace_back();
    s.ids = Ints(static_cast<size_t>(4 + i % 5), i + 10);
    s.ids.front() = 2;
    s.ids.back() = 3;
    s.first_segment = 2;
    s.label = i % 7;
    s.span_start = 1;
    s.span_end = 1 + i % 2;
  }
  return all;
}

LabelledLoader loader(LabelKind kind, int64_t global, int64_t micro, int64_t capacity = 0,
                      uint64_t seed = 3) {
  return {sequences(13),
          kind,
          kLimits,
          {.global_batch_size = global,
           .micro_batch_size = micro,
           .token_capacity = capacity,
           .seed = seed}};
}

GlobalStep step(const LabelledLoader& from, int64_t number) {
  StepPlan plan = from.plan(number);
  std::vector<int64_t> all;
  for (size_t i = 0; i < plan.cuts.size(); ++i) all.push_back(static_cast<int64_t>(i));
  return from.load(std::move(plan), std::move(all));
}

/// Samples of a step with what they teach, whatever the cuts.
std::map<int32_t, Ints> lessons(const GlobalStep& step) {
  std::map<int32_t, Ints> result;
  for (const PackedBatch& batch : step.micro_batches) {
    const Ints ends = values(batch.cu_seqlens), samples = values(batch.sample),
               ids = values(batch.ids);
    for (size_t b = 0; b < samples.size(); ++b) {
      Ints& lesson = result[samples[b]];
      lesson.assign(ids.begin() + ends[b], ids.begin() + ends[b + 1]);
      if (batch.sizes.nsp) lesson.push_back(values(batch.nsp_label)[b]);
      if (batch.sizes.spans)
        for (size_t which = 0; which < 2; ++which)
          lesson.push_back(values(batch.span_label)[2 * b + which]);
    }
  }
  return result;
}

TEST(LabelledLoader, EachPassShowsEachSequenceOnce) {
  const LabelledLoader from = loader(LabelKind::class_of_sequence, 1, 1);
  std::vector<Ints> passes(3);
  for (int64_t n = 0; n < 39; ++n)
    passes[static_cast<size_t>(n / 13)].push_back(values(step(from, n).micro_batches[0].ids)[1]);
  EXPECT_NE(passes[0], passes[1]);
  for (Ints& pass : passes) {
    std::ranges::sort(pass);
    for (int i = 0; i < 13; ++i) EXPECT_EQ(pass[static_cast<size_t>(i)], i + 10);
  }
  EXPECT_DOUBLE_EQ(from.epoch_of(26), 2);
  EXPECT_NE(lessons(step(loader(LabelKind::span, 8, 8), 0)),
            lessons(step(loader(LabelKind::span, 8, 8, 0, 4), 0)));
}

TEST(LabelledLoader, CutsChangeNothingButTheCuts) {
  for (const LabelKind kind : {LabelKind::class_of_sequence, LabelKind::span}) {
    const GlobalStep whole = step(loader(kind, 8, 8), 2);
    const GlobalStep four = step(loader(kind, 8, 2), 2);
    const GlobalStep tight = step(loader(kind, 8, 8, 9), 2);
    EXPECT_EQ(whole.micro_batches.size(), 1u);
    EXPECT_EQ(four.micro_batches.size(), 4u);
    EXPECT_GT(tight.micro_batches.size(), 4u);
    EXPECT_EQ(lessons(four), lessons(whole));
    EXPECT_EQ(lessons(tight), lessons(whole));
    EXPECT_EQ(whole.masked_rows, kind == LabelKind::span ? 16 : 8);
    for (const PackedBatch& batch : tight.micro_batches) EXPECT_LE(batch.tokens(), 9);
  }
}

TEST(LabelledLoader, FingerprintsIdsAndLabels) {
  std::vector<LabelledSequence> other = sequences(13);
  const auto print = [](std::vector<LabelledSequence> s) {
    return LabelledLoader(std::move(s), LabelKind::span, kLimits, {.micro_batch_size = 32})
        .fingerprint();
  };
  const std::string before = print(other);
  EXPECT_EQ(print(sequences(13)), before);
  other[12].span_end = 2;
  EXPECT_NE(print(other), before);
}

TEST(LabelledLoader, RefusesWhatTheModelDoesNotHave) {
  const auto refusal = [](LabelledSequence bad, LabelKind kind) -> std::string {
    try {
      std::vector<LabelledSequence> all = sequences(3);
      all.push_back(std::move(bad));
      LabelledLoader(std::move(all), kind, kLimits, {});
    } catch (const DataError& error) {
      return error.what();
    }
    return "(accepted)";
  };
  const LabelledSequence good = sequences(1)[0];
  EXPECT_EQ(refusal(good, LabelKind::span), "(accepted)");
  LabelledSequence bad = good;
  bad.ids[1] = 50;
  EXPECT_NE(refusal(bad, LabelKind::span).find("is 50, expected 0 to 49"), std::string::npos);
  bad = good;
  bad.label = 7;
  EXPECT_NE(refusal(bad, LabelKind::class_of_sequence).find("is 7, expected 0 to 6"),
            std::string::npos);
  bad = good;
  bad.span_end = 4;
  EXPECT_NE(refusal(bad, LabelKind::span).find("tokens 1 to 4"), std::string::npos);
  bad = good;
  bad.ids = Ints(17, 5);
  EXPECT_NE(refusal(bad, LabelKind::span).find("has 17 tokens"), std::string::npos);
  EXPECT_THROW(LabelledLoader({}, LabelKind::span, kLimits, {}), DataError);
  EXPECT_THROW(loader(LabelKind::span, 8, 3), UsageError);
  EXPECT_THROW(loader(LabelKind::span, 8, 8, 5), UsageError);
}

TEST(PackedSpans, LayScoresOutAsLines) {
  const Ints a = {2, 10, 3}, b = {2, 3};
  const SequenceToPack two[] = {{.ids = a, .first_segment = 3, .span_start = 1, .span_end = 2},
                                {.ids = b, .first_segment = 2, .span_start = 0, .span_end = 0}};
  const PackedBatch batch = pack(two, kLimits, /* nsp= */ false, {.rows = 6, .sequences = 3}, true);
  // Scores [6, 2]: start and end of rows 0 to 2 (a), 3 and 4 (b), and a tail row; 12: beyond the end.
  EXPECT_EQ(batch.span_source.shape(), (Shape{6, 3}));
  EXPECT_EQ(values(batch.span_source.reshape({18})),
            (Ints{0, 2, 4, 1, 3, 5, 6, 8, 12, 7, 9, 12, 12, 12, 12, 12, 12, 12}));
  EXPECT_EQ(batch.span_place.shape(), (Shape{6, 2}));
  EXPECT_EQ(values(batch.span_place.reshape({12})), (Ints{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, -1, -1}));
  EXPECT_EQ(values(batch.span_label), (Ints{1, 2, 0, 0, -1, -1}));
}

}  // namespace
}  // namespace minibert
