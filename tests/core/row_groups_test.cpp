// row_groups_test.cpp: groups of an index against a search for each row, tail positions, and shapes
// that do not depend on values.
#include "core/row_groups.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "core/random.h"

namespace minibert {
namespace {

std::vector<int32_t> random_index(int64_t N, int64_t rows, uint64_t seed) {
  RandomStream stream(7, StreamPurpose::user, seed);
  std::vector<int32_t> index(static_cast<size_t>(N));
  for (int32_t& i : index) i = static_cast<int32_t>(stream.below(static_cast<uint32_t>(rows)));
  return index;
}

// What groups must be, found by looking for each row in turn.
void expect_groups(const RowGroups& got, const std::vector<int32_t>& index, int64_t rows,
                   int64_t count) {
  const int64_t N = static_cast<int64_t>(index.size()), U = std::min(N, rows);
  ASSERT_EQ(got.order.shape(), Shape({N}));
  ASSERT_EQ(got.row.shape(), Shape({U}));
  ASSERT_EQ(got.start.shape(), Shape({U + 1}));
  std::vector<int32_t> order, row, start;
  for (int32_t r = 0; r < rows; ++r) {
    const auto before = static_cast<int32_t>(order.size());
    for (int32_t t = 0; t < count; ++t)
      if (index[static_cast<size_t>(t)] == r) order.push_back(t);
    if (static_cast<int32_t>(order.size()) == before) continue;
    row.push_back(r);
    start.push_back(before);
  }
  row.resize(static_cast<size_t>(U), 0);
  start.resize(static_cast<size_t>(U) + 1, static_cast<int32_t>(order.size()));
  order.resize(static_cast<size_t>(N), 0);
  const auto equal = [](const Tensor& tensor, const std::vector<int32_t>& expected) {
    return std::ranges::equal(tensor.span<int32_t>(), expected);
  };
  EXPECT_TRUE(equal(got.order, order));
  EXPECT_TRUE(equal(got.row, row));
  EXPECT_TRUE(equal(got.start, start));
}

TEST(RowGroups, HoldThePositionsOfEachRowInOrder) {
  for (int64_t rows : {1, 2, 7, 500}) {
    for (int64_t N : {0, 1, 2, 63, 200}) {
      for (int64_t count : {int64_t{0}, N / 2, N}) {
        SCOPED_TRACE(fmt::format("rows {} N {} count {}", rows, N, count));
        const auto index = random_index(N, rows, 1);
        expect_groups(group_rows(index, rows, count), index, rows, count);
      }
    }
  }
}

TEST(RowGroups, TailPositionsMayHoldAnything) {
  std::vector<int32_t> index = {4, 1, 4, -7, 1000};
  expect_groups(group_rows(index, 5, 3), index, 5, 3);
}

TEST(RowGroups, NameTheFirstIndexOutsideTheTable) {
  for (int32_t bad : {-1, 5}) {
    try {
      group_rows(std::vector<int32_t>{0, 4, bad, -9}, 5, 4);
      FAIL() << bad << " was accepted";
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find(fmt::format("position 2 is {}", bad)),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(RowGroups, GoIntoMemoryThatIsGiven) {
  const std::vector<int32_t> index = random_index(40, 9, 2);
  const RowGroups expected = group_rows(index, 9, 33);
  std::vector<int32_t> block(40 + 9 + 10, -5);
  const std::span<int32_t> all(block);
  group_rows(index, 9, 33, {all.first(40), all.subspan(40, 9), all.subspan(49, 10)});
  EXPECT_TRUE(std::ranges::equal(all.first(40), expected.order.span<int32_t>()));
  EXPECT_TRUE(std::ranges::equal(all.subspan(40, 9), expected.row.span<int32_t>()));
  EXPECT_TRUE(std::ranges::equal(all.subspan(49, 10), expected.start.span<int32_t>()));
  EXPECT_THROW(group_rows(index, 9, 41), InternalError);
}

}  // namespace
}  // namespace minibert
