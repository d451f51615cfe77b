// elements_test.cpp: blocks cover the elements once, and sums are rounded once, to nearest even.
#include "dist/elements.h"

#include <bit>
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "core/simd.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

TEST(Elements, BlocksCoverAllElementsInOrder) {
  for (const int parts : {1, 2, 3, 8})
    for (const int64_t count : {0, 1, 7, 8, 9, 100}) {
      std::vector<float> values(static_cast<size_t>(count));
      const Elements all{std::span(values)};
      const std::byte* next = all.data;
      for (int i = 0; i < parts; ++i) {
        const Elements block = all.block(i, parts);
        EXPECT_EQ(block.data, next) << i << " of " << parts << ", " << count << " elements";
        EXPECT_LE(block.count, (count + parts - 1) / parts);
        next += block.size();
      }
      EXPECT_EQ(next, all.data + all.size()) << parts << " parts of " << count;
    }
}

TEST(Elements, NamesAndSizes) {
  int64_t numbers[3];
  const Elements all{std::span(numbers)};
  EXPECT_EQ(all.str(), "3 i64");
  EXPECT_EQ(all.size(), 24u);
  EXPECT_EQ(Elements(Tensor::empty({5}, DType::f16)).str(), "5 f16");
  EXPECT_EQ(Elements(Tensor::empty({5}, DType::bf16)).size(), 10u);
  EXPECT_EQ(testing::usage_error_of([] { Elements(Tensor::empty({5}, DType::u8)); }),
            "collective: elements are u8, expected f32, bf16, f16, f64 or i64");
}

TEST(Elements, SumsOfNativeTypesAreTheLanguages) {
  double d[] = {1, 1e-17, -3};
  const double e[] = {2, 1, 3};
  add_elements(ElementType::f64, d, d, e, 3);
  EXPECT_EQ(d[0], 3);
  EXPECT_EQ(d[1], 1);
  EXPECT_EQ(d[2], 0);
  int64_t i[] = {int64_t{1} << 40, 7};
  const int64_t j[] = {1, -9};
  add_elements(ElementType::i64, i, j, i, 2);
  EXPECT_EQ(i[0], (int64_t{1} << 40) + 1);
  EXPECT_EQ(i[1], -2);
  float f[] = {0.1f};
  const float g[] = {0.2f};
  add_elements(ElementType::f32, f, f, g, 1);
  EXPECT_EQ(f[0], 0.1f + 0.2f);
}

/// The nearest multiple of the last place of `digits` binary digits, ties to even; normal range.
double rounded(double x, int digits) {
  if (x == 0) return x;
  const double place = std::ldexp(1.0, std::ilogb(x) - digits + 1);
  return std::nearbyint(x / place) * place;
}

TEST(Elements, SixteenBitSumsAreRoundedOnce) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-4, 4);
  for (int k = 0; k < 1000; ++k) {
    const float x = uniform(random), y = uniform(random);
    bf16 a = to_bf16(x);
    const bf16 b = to_bf16(y);
    const double wide = static_cast<double>(to_float(a)) + to_float(b);
    add_elements(ElementType::bf16, &a, &a, &b, 1);
    EXPECT_EQ(to_float(a), rounded(wide, 8)) << x << " + " << y;
    f16 c = to_f16(x);
    const f16 d = to_f16(y);
    const double sum = static_cast<double>(to_float(c)) + to_float(d);
    add_elements(ElementType::f16, &c, &c, &d, 1);
    EXPECT_EQ(to_float(c), std::abs(sum) < 0x1p-14 ? sum : rounded(sum, 11)) << x << " + " << y;
  }
}

// The rule, element by element, for every instruction set and every rest of a vector: the sum in f32,
// rounded once. All pairs of some exponents, with NaN, infinity and subnormals among them.
template <typename T>
void expect_rounded_once(ElementType type, T round(float)) {
  std::vector<T> a, b;
  for (uint32_t x = 0; x < 65536; x += 13) {
    a.push_back(std::bit_cast<T>(static_cast<uint16_t>(x)));
    b.push_back(std::bit_cast<T>(static_cast<uint16_t>(x * 40503u >> 3)));
  }
  for (const size_t count : {size_t{1}, size_t{7}, size_t{33}, a.size()}) {
    std::vector<T> sum(count);
    add_elements(type, sum.data(), a.data(), b.data(), static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) {
      const float exact = to_float(a[i]) + to_float(b[i]);
      if (std::isnan(exact)) {
        EXPECT_TRUE(std::isnan(to_float(sum[i]))) << i;
      } else {
        EXPECT_EQ(std::bit_cast<uint16_t>(sum[i]), std::bit_cast<uint16_t>(round(exact)))
            << name_of(type) << " " << i;
      }
    }
  }
}

TEST(Elements, SixteenBitSumsAreRoundedOnceOnEveryInstructionSet) {
  const SimdLevel before = simd_level();
  for (const SimdLevel level : {SimdLevel::v2, SimdLevel::v3, SimdLevel::v4}) {
    if (!simd_level_supported(level)) continue;
    set_simd_level(level);
    SCOPED_TRACE(name_of(level));
    expect_rounded_once<bf16>(ElementType::bf16, to_bf16);
    expect_rounded_once<f16>(ElementType::f16, to_f16);
  }
  set_simd_level(before);
}

}  // namespace
}  // namespace minibert
