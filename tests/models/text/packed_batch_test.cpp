// packed_batch_test.cpp: every field of a packed batch by hand-worked values, with and without spare
// room, and what is refused by name.
#include "models/text/packed_batch.h"

#include <algorithm>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "tests/models/batch_fields.h"

namespace minibert {
namespace {

using testing::values;
using Ints = std::vector<int32_t>;

/// Two sequences: [CLS] and another token masked in the first, one token in the second.
struct TwoSequences {
  Ints a = {2, 10, 3, 11, 3}, a_masked = {0, 3}, a_labels = {20, 21};
  Ints b = {2, 4, 3}, b_masked = {1}, b_labels = {22};
  std::vector<SequenceToPack> list = {
      {a, 3, 7, a_masked, a_labels, 0},
      {b, 3, 9, b_masked, b_labels, 1},
  };
  BatchLimits limits{30, 6, 2};
};

std::string refusal(const std::vector<SequenceToPack>& sequences, const BatchLimits& limits,
                    bool nsp = true, const BatchCapacity& capacity = {}) {
  try {
    pack(sequences, limits, nsp, capacity);
  } catch (const DataError& error) {
    return error.what();
  }
  return "(accepted)";
}

TEST(PackedBatch, HoldsSequencesOneAfterTheOther) {
  const TwoSequences two;
  const PackedBatch batch = pack(two.list, two.limits, /* nsp= */ true);
  EXPECT_EQ(values(batch.ids), (Ints{2, 10, 3, 11, 3, 2, 4, 3}));
  EXPECT_EQ(values(batch.segment), (Ints{0, 0, 0, 1, 1, 0, 0, 0}));
  EXPECT_EQ(values(batch.position), (Ints{0, 1, 2, 3, 4, 0, 1, 2}));
  EXPECT_EQ(values(batch.row_sample), (Ints{7, 7, 7, 7, 7, 9, 9, 9}));
  EXPECT_EQ(values(batch.cu_seqlens), (Ints{0, 5, 8}));
  EXPECT_EQ(values(batch.sample), (Ints{7, 9}));
  EXPECT_EQ(values(batch.first_row), (Ints{0, 5}));
  EXPECT_EQ(values(batch.head_row), (Ints{0, 3, 5, 6}));  // row 0 is a first row and masked
  EXPECT_EQ(values(batch.head_position), (Ints{0, 3, 0, 1}));
  EXPECT_EQ(values(batch.head_row_sample), (Ints{7, 7, 9, 9}));
  EXPECT_EQ(values(batch.mlm_index), (Ints{0, 1, 3}));
  EXPECT_EQ(values(batch.mlm_label), (Ints{20, 21, 22}));
  EXPECT_EQ(values(batch.nsp_index), (Ints{0, 2}));
  EXPECT_EQ(values(batch.nsp_label), (Ints{0, 1}));
  EXPECT_EQ(batch.tokens(), 8);
  EXPECT_EQ(batch.rows(), 8);
  EXPECT_EQ(batch.sequences(), 2);
  EXPECT_EQ(batch.masked_rows(), 3);
  EXPECT_EQ(batch.sizes.squared_lengths, 25 + 9);
}

TEST(PackedBatch, WithoutNspTheHeadsReadMaskedRowsAlone) {
  const TwoSequences two;
  const PackedBatch batch = pack(two.list, two.limits, /* nsp= */ false);
  EXPECT_EQ(values(batch.head_row), (Ints{0, 3, 6}));
  EXPECT_EQ(values(batch.mlm_index), (Ints{0, 1, 2}));
  EXPECT_FALSE(batch.nsp_index.defined() || batch.nsp_label.defined());
}

TEST(PackedBatch, SpareRoomHoldsZerosAndNoRows) {
  const TwoSequences two;
  const PackedBatch exact = pack(two.list, two.limits, true);
  const PackedBatch batch = pack(two.list, two.limits, true, {13, 4, 5});
  const auto padded = [](const Tensor& field, size_t size, int32_t value) {
    Ints all = values(field);
    all.resize(size, value);
    return all;
  };
  EXPECT_EQ(values(batch.ids), padded(exact.ids, 13, 0));
  EXPECT_EQ(values(batch.segment), padded(exact.segment, 13, 0));
  EXPECT_EQ(values(batch.position), padded(exact.position, 13, 0));
  EXPECT_EQ(values(batch.row_sample), padded(exact.row_sample, 13, 0));
  EXPECT_EQ(values(batch.cu_seqlens), padded(exact.cu_seqlens, 5, 8));  // empty sequences
  EXPECT_EQ(values(batch.sample), padded(exact.sample, 4, 0));
  EXPECT_EQ(values(batch.first_row), padded(exact.first_row, 4, -1));
  EXPECT_EQ(values(batch.head_row), padded(exact.head_row, 9, -1));
  EXPECT_EQ(values(batch.head_position), padded(exact.head_position, 9, 0));
  EXPECT_EQ(values(batch.head_row_sample), padded(exact.head_row_sample, 9, 0));
  EXPECT_EQ(values(batch.mlm_index), padded(exact.mlm_index, 5, -1));
  EXPECT_EQ(values(batch.mlm_label), padded(exact.mlm_label, 5, -1));
  EXPECT_EQ(values(batch.nsp_index), padded(exact.nsp_index, 4, -1));
  EXPECT_EQ(values(batch.nsp_label), padded(exact.nsp_label, 4, -1));
  EXPECT_EQ(batch.tokens(), 8);
  EXPECT_EQ(batch.sequences(), 2);
  EXPECT_EQ(batch.masked_rows(), 3);
}

// Each real row stands once in the groups of each table, under its own index; tail rows in none.
TEST(PackedBatch, GroupsListEachRowUnderItsIndex) {
  const TwoSequences two;
  for (const BatchCapacity& room : {BatchCapacity{}, BatchCapacity{13, 4, 5}}) {
    const PackedBatch batch = pack(two.list, two.limits, true, room);
    const std::pair<Tensor, RowGroups> tables[] = {{batch.ids, batch.ids_groups},
                                                   {batch.position, batch.position_groups},
                                                   {batch.segment, batch.segment_groups}};
    for (const auto& [index, groups] : tables) {
      Ints seen;
      const Ints row = values(groups.row), start = values(groups.start),
                 order = values(groups.order);
      for (size_t u = 0; u < row.size(); ++u) {
        for (int32_t i = start[u]; i < start[u + 1]; ++i) {
          EXPECT_EQ(index.data<int32_t>()[order[static_cast<size_t>(i)]], row[u]);
          seen.push_back(order[static_cast<size_t>(i)]);
        }
      }
      std::sort(seen.begin(), seen.end());
      EXPECT_EQ(seen, (Ints{0, 1, 2, 3, 4, 5, 6, 7}));
    }
  }
}

TEST(PackedBatch, EmptySequencesAndNoneAtAllCanBePacked) {
  const Ints ids = {5, 6};
  const std::vector<SequenceToPack> sequences = {{.ids = {}}, {.ids = ids, .first_segment = 2}};
  const PackedBatch batch = pack(sequences, {30, 6, 1}, /* nsp= */ false);
  EXPECT_EQ(values(batch.cu_seqlens), (Ints{0, 0, 2}));
  EXPECT_EQ(values(batch.first_row), (Ints{-1, 0}));
  EXPECT_EQ(pack({}, {30, 6, 1}, true).tokens(), 0);
}

TEST(PackedBatch, NamesWhatCannotBe) {
  const auto expect = [](const std::function<void(TwoSequences&)>& spoil, const char* says) {
    TwoSequences two;
    spoil(two);
    const std::string message = refusal(two.list, two.limits);
    EXPECT_NE(message.find(says), std::string::npos) << message;
  };
  expect([](auto& t) { t.a[3] = 30; }, "id 3 of sequence 0 is 30, expected 0 to 29");
  expect([](auto& t) { t.b[1] = -1; }, "id 1 of sequence 1 is -1, expected 0 to 29");
  expect([](auto& t) { t.b_labels[0] = 30; },
         "label of masked position 1 of sequence 1 is 30, expected 0 to 29");
  expect([](auto& t) { t.b_labels[0] = -1; }, "is -1, expected 0 to 29");
  expect([](auto& t) { t.a_masked[1] = 5; }, "masked position of sequence 0 is 5, expected 1 to 4");
  expect([](auto& t) { t.a_masked[1] = 0; }, "masked position of sequence 0 is 0, expected 1 to 4");
  expect([](auto& t) { t.a_masked[0] = -1; }, "is -1, expected 0 to 4");
  expect([](auto& t) { t.limits.max_positions = 4; },
         "sequence 0 has 5 tokens, expected at most 4");
  expect([](auto& t) { t.limits.segments = 1; }, "sequence 0 has 2 segments, expected at most 1");
  expect([](auto& t) { t.list[1].nsp_label = -1; },
         "next-sentence label of sequence 1 is -1, expected 0 or 1");
  expect([](auto& t) { t.list[1].nsp_label = 2; }, "is 2, expected 0 or 1");
  expect([](auto& t) { t.list[1] = {}; }, "sequence 1 has no tokens, expected at least [CLS]");
  const TwoSequences two;
  EXPECT_EQ(refusal(two.list, two.limits), "(accepted)");
  EXPECT_NE(refusal(two.list, two.limits, true, {13, 4, 2}).find("3 masked rows"),
            std::string::npos);
}

TEST(PackedBatch, UploadCopiesEveryField) {
  const TwoSequences two;
  const PackedBatch batch = pack(two.list, two.limits, true, {13, 4, 5});
  const DeviceBatch there = upload(batch, Device::cpu);
  EXPECT_NE(there.block.raw(), batch.block.raw());
  EXPECT_EQ(values(there.block), values(batch.block));
  EXPECT_EQ(values(there.nsp_label), values(batch.nsp_label));
  EXPECT_EQ(values(there.segment_groups.start), values(batch.segment_groups.start));
  EXPECT_EQ(there.tokens(), 8);
}

}  // namespace
}  // namespace minibert
