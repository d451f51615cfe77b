// environment_test.cpp: what differs between two machines or builds, and what is read of this one.
#include "models/training/environment.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

TEST(RunEnvironment, DifferencesAreNamed) {
  const RunEnvironment a = current_environment();
  RunEnvironment b = a;
  EXPECT_EQ(differences(a, b), "");
  b.threads = a.threads + 1;
  b.simd = "other";
  EXPECT_EQ(differences(a, b), "instruction set " + a.simd + " -> other, threads " +
                                   std::to_string(a.threads) + " -> " + std::to_string(b.threads));
}

TEST(Environment, NamesTheCpuAndLimitsTheMemory) {
  EXPECT_FALSE(cpu_name().empty());
  EXPECT_GT(memory_limit(), int64_t{1} << 20);
}

}  // namespace
}  // namespace minibert
