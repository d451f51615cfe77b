// arena_test.cpp: where slices lie, what they count, and that they are views of flat buffers.
#include "core/arena.h"

#include <gtest/gtest.h>

#include "core/random.h"

namespace minibert {
namespace {

TEST(ParameterTable, SlicesAreAlignedAndAdjacentOnesTouch) {
  ParameterTable table;
  const int embedding = table.add("word", {100, 8}, {128, 8});
  const int query = table.add("query", {3, 3});
  const int key = table.add("key", {3, 3}, {3, 3}, /* adjacent= */ true);
  const int after = table.add("after", {5});
  EXPECT_EQ(table[embedding].offset, 0);
  EXPECT_EQ(table[query].offset, 128 * 8);
  EXPECT_EQ(table[key].offset, table[query].offset + 9);
  EXPECT_EQ(table[after].offset, 128 * 8 + 64);
  EXPECT_EQ(table.size(), 128 * 8 + 64 + 64);
  EXPECT_EQ(table.parameters(), 800 + 9 + 9 + 5);
  EXPECT_EQ(table[embedding].used(), 800);
  EXPECT_EQ(table.find("key"), key);
  EXPECT_EQ(table.find("value"), -1);
}

// Whatever the sizes: in order, without overlap, on multiples of 64 with the least gap, or none.
TEST(ParameterTable, LosesNothingButTheAlignment) {
  RandomStream random(/* seed= */ 3, StreamPurpose::user, 0);
  ParameterTable table;
  int64_t end = 0, used = 0;  // of the slices so far
  for (int i = 0; i < 200; ++i) {
    const int64_t rows = random.integer(1, 90), padding = random.integer(0, 3);
    const bool adjacent = i > 0 && random.below(3) == 0;
    ASSERT_EQ(table.add("p" + std::to_string(i), {rows, 3}, {rows + padding, 3}, adjacent), i);
    const int64_t offset = table[i].offset;
    if (adjacent) {
      ASSERT_EQ(offset, end) << i;
    } else {
      ASSERT_EQ(offset % 64, 0) << i;
      ASSERT_GE(offset, end) << i;
      ASSERT_LT(offset, end + 64) << i;
    }
    end = offset + 3 * (rows + padding);
    used += 3 * rows;
    ASSERT_EQ(table.size() % 64, 0) << i;
    ASSERT_GE(table.size(), end) << i;
    ASSERT_LT(table.size(), end + 64) << i;
    ASSERT_EQ(table.parameters(), used) << i;
  }
  EXPECT_EQ(table.count(), 200);
}

TEST(ParameterTable, RefusesANameTwiceAndStorageThatIsTooSmall) {
  ParameterTable table;
  table.add("query", {3, 3});
  try {
    table.add("query", {1});
    FAIL() << "a name was taken twice";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("\"query\""), std::string::npos) << error.what();
  }
  EXPECT_THROW(table.add("key", {4, 3}, {3, 3}), InternalError);
  EXPECT_EQ(table.count(), 1) << "what was refused must leave no trace";
  EXPECT_EQ(table.parameters(), 9);
}

TEST(ParameterTable, MayBeEmpty) {
  const ParameterTable table;
  EXPECT_EQ(table.size(), 0);
  EXPECT_EQ(table.parameters(), 0);
  EXPECT_EQ(table.find(""), -1);
}

TEST(Arena, SlicesAreViewsOfFlatBuffers) {
  ParameterTable table;
  table.add("word", {5, 2}, {8, 2});
  table.add("bias", {3});
  Arena arena(table);
  EXPECT_FALSE(arena.gradients().defined());
  EXPECT_THROW(arena.gradient(0), InternalError);
  arena.with_gradients();
  for (const Tensor& flat : {arena.masters(), arena.gradients()}) {
    EXPECT_EQ(flat.shape(), Shape({table.size()}));
    for (const float x : flat.span<float>()) EXPECT_EQ(x, 0.0f);
  }
  EXPECT_EQ(arena.weight(0).shape(), Shape({8, 2}));
  EXPECT_EQ(arena.gradient(1).shape(), Shape({3}));
  arena.weight(1).data<float>()[2] = 4;
  arena.gradient(1).data<float>()[0] = 5;
  EXPECT_EQ(arena.masters().data<float>()[64 + 2], 4.0f);
  EXPECT_EQ(arena.gradients().data<float>()[64], 5.0f);
  arena.with_gradients();
  EXPECT_EQ(arena.gradients().data<float>()[64], 5.0f) << "a second call must keep the buffer";
}

}  // namespace
}  // namespace minibert
