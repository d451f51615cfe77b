// gloo_group_test.cpp: sums over Gloo, the same as the ring's; a rank that dies or stays silent
// ends the others.
#include "dist/gloo_group.h"

#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "tests/dist/memory_store.h"
#include "tests/dist/ranks.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

using testing::MemoryStore;
using testing::run_ranks;

constexpr double kTimeout = 60;  // seconds; no test that passes waits for it

class GlooGroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!gloo_available()) GTEST_SKIP() << "this build has no Gloo";
  }
};

TEST_F(GlooGroupTest, EqualsSumsInDouble) {
  testing::expect_all_collectives([](int world) -> testing::GroupMaker {
    auto store = std::make_shared<MemoryStore>();
    return [store, world](int rank) {
      return gloo_group(*store, {.rank = rank, .world = world, .timeout = kTimeout});
    };
  });
}

/// The all-reduce of 37 f32 on each rank; make(rank) makes its group.
std::vector<std::vector<float>> reduced(int world, const testing::GroupMaker& make) {
  std::vector<std::vector<float>> results(static_cast<size_t>(world));
  run_ranks(world, [&](int rank) {
    std::vector<float>& values = results[static_cast<size_t>(rank)];
    values = testing::values_of<float>(rank, 37);
    make(rank)->all_reduce(Elements{std::span(values)}).wait();
  });
  return results;
}

// Two numbers have one sum; three or more are within exact_sums' bound, which holds in any order.
TEST_F(GlooGroupTest, TwoRanksHaveTheBitsOfTheRing) {
  MemoryStore store;
  auto ends = memory_transports(2, kTimeout);
  const auto gloo = reduced(2, [&](int rank) {
    return gloo_group(store, {.rank = rank, .world = 2, .timeout = kTimeout});
  });
  const auto ring = reduced(2, [&](int rank) {
    return std::make_unique<RingGroup>(std::move(ends[static_cast<size_t>(rank)]));
  });
  EXPECT_EQ(gloo, ring);
}

TEST_F(GlooGroupTest, WorksOverIpv6) {
  MemoryStore store;
  const auto results = reduced(2, [&](int rank) {
    return gloo_group(store, {.rank = rank, .world = 2, .address = "::1", .timeout = kTimeout});
  });
  EXPECT_EQ(results[0], results[1]);
}

TEST_F(GlooGroupTest, WorksOverAnInterfaceByName) {
  MemoryStore store;
  const auto results = reduced(2, [&](int rank) {
    return gloo_group(store, {.rank = rank, .world = 2, .interface = "lo", .timeout = kTimeout});
  });
  EXPECT_EQ(results[0], results[1]);
}

TEST_F(GlooGroupTest, RefusesAnAddressThatIsNotHere) {
  MemoryStore store;
  const std::string text = testing::usage_error_of([&] {
    gloo_group(store, {.rank = 1, .world = 2, .address = "192.0.2.1", .timeout = kTimeout});
  });
  EXPECT_NE(text.find("gloo: rank 1 can't listen on 192.0.2.1: "), std::string::npos) << text;
}

TEST_F(GlooGroupTest, ARankThatLeavesEndsTheOthers) {
  MemoryStore store;
  const double start = seconds_now();
  const auto errors = run_ranks(3, [&](int rank) {
    const auto group = gloo_group(
        store, {.rank = rank, .world = 3, .timeout = kTimeout, .blame = [](const std::string&) {
                  return "rank 1 is gone";
                }});
    group->barrier().wait();
    if (rank == 1) return;
    std::vector<float> values(1000);
    group->all_reduce(Elements{std::span(values)}).wait();
  });
  EXPECT_LT(seconds_now() - start, kTimeout / 2);
  EXPECT_EQ(errors[1], "");
  for (const int rank : {0, 2}) {
    const std::string& text = errors[static_cast<size_t>(rank)];
    EXPECT_TRUE(text.starts_with(
        fmt::format("rank {} of 3: all_reduce #2 of 1000 f32 over gloo failed after ", rank)))
        << text;
    EXPECT_NE(text.find("rank 1 is gone (Gloo: "), std::string::npos) << text;
  }
}

TEST_F(GlooGroupTest, ASilentRankEndsTheOthersAfterTheTimeout) {
  MemoryStore store;
  std::atomic<bool> over = false;
  const auto errors = run_ranks(2, [&](int rank) {
    const auto group = gloo_group(store, {.rank = rank, .world = 2, .timeout = 2});
    group->barrier().wait();
    if (rank == 1) {
      while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return;
    }
    Handle handle = group->barrier();
    EXPECT_FALSE(handle.wait_for(0.01));
    EXPECT_EQ(group->running()->collective.str(), "barrier #2");
    handle.wait_for(30);
    over = true;
    handle.wait();
  });
  EXPECT_TRUE(errors[0].starts_with("rank 0 of 2: barrier #2 over gloo failed after 2."))
      << errors[0];
}

TEST_F(GlooGroupTest, AMissingRankEndsTheStart) {
  MemoryStore store;
  const auto errors =
      run_ranks(1, [&](int) { gloo_group(store, {.rank = 0, .world = 2, .timeout = 0.2}); });
  EXPECT_NE(errors[0].find("was not set for 0.2 s"), std::string::npos) << errors[0];
}

TEST(GlooGroupAbsent, SaysHowToGetIt) {
  if (gloo_available()) return;  // its twin is in this build
  MemoryStore store;
  EXPECT_NE(
      testing::usage_error_of([&] { gloo_group(store, {}); }).find("apt-get install libgloo-dev"),
      std::string::npos);
}

}  // namespace
}  // namespace minibert
