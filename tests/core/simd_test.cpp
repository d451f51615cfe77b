// simd_test.cpp: levels by name, which of three functions runs, and MINIBERT_SIMD, which the binary
// is given, since a process reads it once.
#include "core/simd.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/run_minibert.h"

namespace minibert {

// What a *_simd.cpp file offers: one function at each level.
MB_SIMD_DECLARE(int, simd_test_level, ())
namespace simd_v2 {
int simd_test_level() {
  return 2;
}
}  // namespace simd_v2
namespace simd_v3 {
int simd_test_level() {
  return 3;
}
}  // namespace simd_v3
namespace simd_v4 {
int simd_test_level() {
  return 4;
}
}  // namespace simd_v4

namespace {

constexpr SimdLevel kLevels[] = {SimdLevel::v2, SimdLevel::v3, SimdLevel::v4};

TEST(Simd, LevelsHaveNames) {
  EXPECT_STREQ(name_of(SimdLevel::v2), "v2");
  EXPECT_STREQ(name_of(SimdLevel::v3), "v3");
  EXPECT_STREQ(name_of(SimdLevel::v4), "v4");
}

TEST(Simd, EachLevelIncludesTheLowerOnes) {
  EXPECT_TRUE(simd_level_supported(SimdLevel::v2));
  EXPECT_TRUE(simd_level_supported(SimdLevel::v3) || !simd_level_supported(SimdLevel::v4));
  EXPECT_TRUE(simd_level_supported(simd_level()));
}

TEST(Simd, TheLevelSetIsTheFunctionThatRuns) {
  const SimdLevel before = simd_level();
  int expected = 2;
  for (const SimdLevel level : kLevels) {
    if (simd_level_supported(level)) {
      set_simd_level(level);
      EXPECT_EQ(simd_level(), level);
      EXPECT_EQ(MB_SIMD(simd_test_level)(), expected);
    } else {
      const SimdLevel last = simd_level();
      EXPECT_THROW(set_simd_level(level), UsageError);
      EXPECT_EQ(simd_level(), last) << "what was refused must change nothing";
    }
    ++expected;
  }
  set_simd_level(before);
}

TEST(Simd, TheEnvironmentChoosesALevelOrIsRefused) {
  for (const SimdLevel level : kLevels) {
    setenv("MINIBERT_SIMD", name_of(level), 1);
    const testing::Outcome run = testing::run_minibert("env --json");
    if (simd_level_supported(level)) {
      EXPECT_EQ(run.code, 0) << run.output;
      const std::string chosen = "\"simd\":\"" + std::string(name_of(level)) + "\"";
      EXPECT_NE(run.output.find(chosen), std::string::npos) << run.output;
    } else {
      EXPECT_EQ(run.code, 2) << run.output;
    }
  }
  for (const char* wrong : {"v9", "V3", "avx2"}) {
    setenv("MINIBERT_SIMD", wrong, 1);
    const testing::Outcome run = testing::run_minibert("env --json");
    EXPECT_EQ(run.code, 2) << run.output;
    EXPECT_NE(run.output.find("MINIBERT_SIMD is \"" + std::string(wrong)), std::string::npos)
        << run.output;
  }
  unsetenv("MINIBERT_SIMD");
}

}  // namespace
}  // namespace minibert
