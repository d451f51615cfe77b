// roll_call_test.cpp: each fault of a start has its sentence.
#include "dist/roll_call.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

Arrival arrival(int rank, int world, std::vector<Fingerprint> fingerprints = {}) {
  return {.rank = rank,
          .world = world,
          .from = "10.0.0.1:" + std::to_string(4000 + rank),
          .fingerprints = std::move(fingerprints)};
}

TEST(RollCall, SaysWhoIsHereAndWhoIsMissing) {
  RollCall roll(4);
  EXPECT_EQ(roll.str(), "0 of 4 ranks are here, ranks 0-3 missing");
  for (const int rank : {3, 0, 1}) EXPECT_FALSE(roll.arrive(arrival(rank, 4)));
  EXPECT_EQ(roll.str(), "3 of 4 ranks are here, rank 2 missing");
  EXPECT_FALSE(roll.complete());
  EXPECT_FALSE(roll.arrive(arrival(2, 4)));
  EXPECT_EQ(roll.str(), "4 of 4 ranks are here");
  EXPECT_TRUE(roll.complete());
  roll.leave(1);
  EXPECT_EQ(roll.missing(), std::vector<int>{1});
}

TEST(RollCall, NamesRanksInShort) {
  EXPECT_EQ(text_of_ranks({5}), "rank 5");
  EXPECT_EQ(text_of_ranks({0, 1}), "ranks 0-1");
  EXPECT_EQ(text_of_ranks({0, 2, 3, 4, 7}), "ranks 0, 2-4, 7");
}

TEST(RollCall, RefusesAWrongWorldARankTwiceAndARankThatIsNone) {
  RollCall roll(4);
  EXPECT_EQ(roll.arrive(arrival(1, 2)),
            "world size is 2 on rank 1 (10.0.0.1:4001), but 4 on rank 0. Start every rank with the "
            "same world size");
  EXPECT_EQ(roll.arrive(arrival(4, 4)),
            "rank 4 (10.0.0.1:4004) is not a rank of 4, expected 0 to 3");
  EXPECT_TRUE(roll.arrive(arrival(-1, 4)));
  EXPECT_FALSE(roll.arrive(arrival(2, 4)));
  Arrival again = arrival(2, 4);
  again.from = "10.0.0.9:1";
  EXPECT_EQ(
      roll.arrive(again),
      "rank 2 is here twice: from 10.0.0.1:4002 and from 10.0.0.9:1. Give every rank a number "
      "of its own");
  roll.leave(2);
  EXPECT_FALSE(roll.arrive(again)) << "a rank that was started again";
}

TEST(RollCall, NamesWhatDiffersOnWhichRankAndBothValues) {
  RollCall roll(4);
  for (const int rank : {0, 1, 2, 3})
    roll.arrive(arrival(rank, 4, {{"version", "0.1.0"}, {"data", rank == 2 ? "ff00" : "1234"}}));
  EXPECT_EQ(
      roll.disagreement(),
      "data differs: 1234 on ranks 0-1, 3, ff00 on rank 2. It must be the same on every rank");
  roll.leave(2);
  EXPECT_FALSE(roll.disagreement());
  roll.arrive(arrival(2, 4, {{"version", "0.1.0"}}));
  EXPECT_EQ(
      roll.disagreement(),
      "data differs: 1234 on ranks 0-1, 3, none on rank 2. It must be the same on every rank");
}

}  // namespace
}  // namespace minibert
