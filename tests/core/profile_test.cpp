// profile_test.cpp: what is counted under which name, and when.
#include "core/profile.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

namespace minibert {
namespace {

void wait_2_ms() {
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

TEST(Profile, CountsCallsTimeFlopsAndBytesByName) {
  set_profiling(true);
  for (int i = 0; i < 3; ++i) {
    ProfileRange range("thrice", {10, 20});
    wait_2_ms();
  }
  { ProfileRange range("once", {1, 2}); }
  set_profiling(false);
  const auto entries = profile_entries();
  ASSERT_EQ(entries.size(), 2u);
  const ProfileEntry &thrice = entries.at("thrice"), &once = entries.at("once");
  EXPECT_EQ(thrice.calls, 3);
  EXPECT_EQ(thrice.flops, 30);
  EXPECT_EQ(thrice.bytes, 60);
  EXPECT_GE(thrice.seconds, 0.006);
  EXPECT_EQ(once.calls, 1);
  EXPECT_EQ(once.flops, 1);
  EXPECT_EQ(once.bytes, 2);
}

TEST(Profile, TimeInsideAnotherRangeCountsOnce) {
  set_profiling(true);
  {
    ProfileRange outer("outer", {5, 7});
    wait_2_ms();
    ProfileRange inner("inner", {2, 3});
    wait_2_ms();
  }
  set_profiling(false);
  const auto entries = profile_entries();
  const ProfileEntry &outer = entries.at("outer"), &inner = entries.at("inner");
  EXPECT_GE(inner.seconds, 0.002);
  EXPECT_GE(outer.seconds, 0.002);
  EXPECT_LT(outer.seconds, 0.002 + inner.seconds) << "the inner range's time counts twice";
  EXPECT_EQ(outer.calls, 1);
  EXPECT_EQ(outer.flops, 5) << "the inner range's work must not be added to the outer one's";
  EXPECT_EQ(inner.flops, 2);
}

TEST(Profile, NothingIsCountedWhileItIsOff) {
  set_profiling(true);
  { ProfileRange range("before", {}); }
  set_profiling(false);
  EXPECT_FALSE(profiling());
  { ProfileRange range("off", {}); }
  EXPECT_EQ(profile_entries().count("before"), 1u) << "stopping must keep what was counted";
  EXPECT_EQ(profile_entries().count("off"), 0u);
  {
    ProfileRange half("half", {});  // begins while it is off: its time is not known
    set_profiling(true);
  }
  EXPECT_TRUE(profiling());
  EXPECT_TRUE(profile_entries().empty()) << "starting must clear";
  set_profiling(false);
}

}  // namespace
}  // namespace minibert
