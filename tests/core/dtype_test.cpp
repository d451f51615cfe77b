// dtype_test.cpp: 16-bit conversions, over every 16-bit pattern and over the ties and edges of
// every exponent. Expected values: bf16 from its definition in double; f16 from the compiler's
// _Float16, which rounds to nearest even.
#include "core/dtype.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace minibert {
namespace {

float from_bits(uint32_t bits) {
  return std::bit_cast<float>(bits);
}

// Nearest of the two bf16 neighbours, ties to the one with an even last bit; by comparison in
// double.
uint16_t nearest_bf16(float x) {
  const uint16_t low = static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16),
                 high = static_cast<uint16_t>(low + 1);
  const auto value = [](uint16_t bits) {
    if ((bits & 0x7FFF) == 0x7F80)
      return std::copysign(std::ldexp(1.0, 128), (bits & 0x8000) ? -1.0 : 1.0);
    return static_cast<double>(from_bits(uint32_t{bits} << 16));
  };
  const double below = std::abs(x - value(low)), above = std::abs(value(high) - x);
  if (below != above) return below < above ? low : high;
  return (low & 1) ? high : low;
}

TEST(DType, Bf16RoundsToNearestEvenAtEveryExponent) {
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    for (uint32_t lower : {0x0000u, 0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const float x = from_bits((upper << 16) | lower);
      if (std::isnan(x)) {
        EXPECT_TRUE(std::isnan(to_float(to_bf16(x)))) << std::hex << upper << lower;
      } else if (std::isinf(x)) {
        EXPECT_EQ(to_bf16(x).bits, upper);
      } else {
        ASSERT_EQ(to_bf16(x).bits, nearest_bf16(x)) << std::hex << upper << " " << lower;
      }
    }
  }
}

TEST(DType, F16EqualsTheCompilersForEveryPattern) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float expected = static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(bits)));
    const float got = to_float(f16{static_cast<uint16_t>(bits)});
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got));
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected))
          << std::hex << bits;
    }
  }
}

TEST(DType, F16RoundsAsTheCompilerDoes) {
  for (uint32_t upper = 0; upper < 0x80000;
       ++upper) {  // sign, exponent and 10 bits, and what follows them
    for (uint32_t lower : {0x0000u, 0x0001u, 0x0FFFu, 0x1000u, 0x1001u, 0x1FFFu}) {
      const float x = from_bits((upper << 13) | lower);
      const uint16_t got = to_f16(x).bits;
      if (std::isnan(x)) {
        ASSERT_TRUE(std::isnan(to_float(f16{got})));
      } else {
        ASSERT_EQ(got, std::bit_cast<uint16_t>(static_cast<_Float16>(x)))
            << std::hex << upper << " " << lower;
      }
    }
  }
}

TEST(DType, SizesAndNames) {
  EXPECT_EQ(size_of(DType::f32), 4u);
  EXPECT_EQ(size_of(DType::bf16), 2u);
  EXPECT_EQ(size_of(DType::f16), 2u);
  EXPECT_EQ(size_of(DType::i32), 4u);
  EXPECT_EQ(size_of(DType::u8), 1u);
  EXPECT_STREQ(name_of(DType::bf16), "bf16");
}

}  // namespace
}  // namespace minibert
