// peak_flops_test.cpp: the probe gives a rate that a machine can have.
#include "models/training/peak_flops.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

TEST(PeakFlops, IsPositive) {
  EXPECT_GT(probe_peak_flops({}), 1e7);
}

}  // namespace
}  // namespace minibert
