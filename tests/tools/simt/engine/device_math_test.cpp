// device_math_test.cpp: the maths that g++ lacks, against formulas in double and in whole numbers;
// for 16-bit floats every bit pattern.
#include <cmath>
#include <random>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

template <typename T>
T of_bits(uint32_t bits) {
  return __builtin_bit_cast(T, static_cast<uint16_t>(bits));
}
template <typename T>
uint16_t bits_of(T x) {
  return __builtin_bit_cast(uint16_t, x);
}
double value(__half x) {
  return __half2float(x);
}
double value(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
template <typename T>
T rounded(double x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __double2half(x);
  } else {
    return __double2bfloat16(x);
  }
}

template <typename T, typename Function, typename Exact>
void expect_each(const char* name, const Function& function, const Exact& exact) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const T x = of_bits<T>(bits);
    const double wanted = exact(value(x));
    const T got = function(x);
    if (std::isnan(wanted)) {
      ASSERT_TRUE(std::isnan(value(got))) << name << " of " << value(x);
    } else {
      ASSERT_EQ(bits_of(got), bits_of(rounded<T>(wanted))) << name << " of " << value(x);
    }
  }
}

template <typename T>
void expect_functions() {
  expect_each<T>(
      "hexp", [](T x) { return hexp(x); }, [](double x) { return std::exp(x); });
  expect_each<T>(
      "hlog2", [](T x) { return hlog2(x); }, [](double x) { return std::log2(x); });
  expect_each<T>(
      "hsqrt", [](T x) { return hsqrt(x); }, [](double x) { return std::sqrt(x); });
  expect_each<T>(
      "hrsqrt", [](T x) { return hrsqrt(x); }, [](double x) { return 1 / std::sqrt(x); });
  expect_each<T>(
      "hrcp", [](T x) { return hrcp(x); }, [](double x) { return 1 / x; });
  expect_each<T>(
      "htanh", [](T x) { return htanh(x); }, [](double x) { return std::tanh(x); });
  expect_each<T>(
      "hfloor", [](T x) { return hfloor(x); }, [](double x) { return std::floor(x); });
  expect_each<T>(
      "hrint", [](T x) { return hrint(x); }, [](double x) { return std::nearbyint(x); });
}

TEST(SimtDeviceMath, FunctionsOfEverySixteenBitFloat) {
  expect_functions<__half>();
  expect_functions<__nv_bfloat16>();
}

TEST(SimtDeviceMath, PairsAreTwoSingles) {
  const __half2 h = __floats2half2_rn(0.5f, 2.0f), e = h2exp(h);
  EXPECT_EQ(bits_of(e.x), bits_of(hexp(h.x)));
  EXPECT_EQ(bits_of(e.y), bits_of(hexp(h.y)));
  const __nv_bfloat162 b = __floats2bfloat162_rn(3.0f, -1.0f), f = __hfma2_relu(b, b, b);
  EXPECT_EQ(value(f.x), 12);
  EXPECT_EQ(value(f.y), 0);
  const __half2 q = h2div(__floats2half2_rn(1, 1), h);
  EXPECT_EQ(value(q.x), 2);
  EXPECT_EQ(value(q.y), 0.5);
}

/// Through float the product would be rounded to 24 bits first, and some sums would come out wrong.
TEST(SimtDeviceMath, FusedMultiplyAddRoundsOnce) {
  std::mt19937 random(5);
  for (int i = 0; i < 200000; ++i) {
    const __half a = of_bits<__half>(random() & 0x7BFF), b = of_bits<__half>(random() & 0xFBFF),
                 c = of_bits<__half>(random() & 0xFBFF);
    const long double exact = static_cast<long double>(value(a)) * value(b) + value(c);
    // 64 bits of mantissa hold the exact sum unless its parts are 2^40 apart; then any order will do.
    ASSERT_EQ(value(__hfma(a, b, c)), value(__double2half(static_cast<double>(exact))));
  }
  EXPECT_EQ(value(__hfma_sat(rounded<__half>(2), rounded<__half>(2), rounded<__half>(0))), 1);
  EXPECT_EQ(value(__hfma_relu(rounded<__half>(-2), rounded<__half>(2), rounded<__half>(0))), 0);
}

TEST(SimtDeviceMath, WholeNumbersSaturate) {
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(__float2int_rn(-3.5f), -4);
  EXPECT_EQ(__float2int_rz(-3.9f), -3);
  EXPECT_EQ(__float2int_rd(-3.1f), -4);
  EXPECT_EQ(__float2int_ru(3.1f), 4);
  EXPECT_EQ(__float2int_rn(3e9f), std::numeric_limits<int>::max());
  EXPECT_EQ(__float2int_rn(-INFINITY), std::numeric_limits<int>::min());
  EXPECT_EQ(__float2int_rn(NAN), 0);
  EXPECT_EQ(__float2uint_rn(-1.0f), 0u);
  EXPECT_EQ(__float2uint_rz(4e9f), 4000000000u);
  EXPECT_EQ(__half2int_rn(rounded<__half>(-2.5)), -2);
  EXPECT_EQ(__bfloat162int_ru(rounded<__nv_bfloat16>(2.25)), 3);
}

TEST(SimtDeviceMath, BitsAndHighProducts) {
  std::mt19937_64 random(6);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t x = random(), y = random();
    const auto a = static_cast<uint32_t>(x), b = static_cast<uint32_t>(y);
    ASSERT_EQ(__umulhi(a, b), static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32));
    ASSERT_EQ(
        __mulhi(static_cast<int>(a), static_cast<int>(b)),
        static_cast<int>(static_cast<int64_t>(static_cast<int>(a)) * static_cast<int>(b) >> 32));
    // By parts of 32 bits, without a 128-bit type.
    const uint64_t lo = x & 0xFFFFFFFF, hi = x >> 32, yl = y & 0xFFFFFFFF, yh = y >> 32;
    const uint64_t middle = hi * yl + (lo * yl >> 32), other = lo * yh + (middle & 0xFFFFFFFF);
    ASSERT_EQ(__umul64hi(x, y), hi * yh + (middle >> 32) + (other >> 32));
    ASSERT_EQ(__brev(__brev(a)), a);
    ASSERT_EQ(__popc(a) + __popc(~a), 32);
    ASSERT_EQ(__funnelshift_l(a, b, 0), b);
    ASSERT_EQ(__funnelshift_l(a, b, 4), b << 4 | a >> 28);
    ASSERT_EQ(__funnelshift_r(a, b, 4), a >> 4 | b << 28);
    ASSERT_EQ(__byte_perm(a, b, 0x3210), a);
    ASSERT_EQ(__byte_perm(a, b, 0x7654), b);
    ASSERT_EQ(__byte_perm(a, b, 0x0123), __builtin_bswap32(a));
  }
  EXPECT_EQ(__byte_perm(0x80, 0x7F, 0xC8C8), 0x00FF00FFu) << "the sign of bytes 4 and 0";
  EXPECT_EQ(__brev(1), 0x80000000u);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__float_as_uint(1.0f), 0x3F800000u);
  EXPECT_EQ(__int_as_float(0x40000000), 2.0f);
}

TEST(SimtDeviceMath, RootsSaturationAndExtremes) {
  for (float x = 1e-30f; x < 1e30f; x *= 3.7f)
    EXPECT_NEAR(rsqrtf(x) * std::sqrt(static_cast<double>(x)), 1, 0x1p-23) << x;
  EXPECT_EQ(__saturatef(NAN), 0);
  EXPECT_EQ(__saturatef(1.5f), 1);
  EXPECT_EQ(__saturatef(-0.5f), 0);
  EXPECT_EQ(min(3, -2), -2);
  EXPECT_EQ(max(3u, 7u), 7u);
  EXPECT_EQ(max(NAN, 1.0f), 1.0f) << "a NaN loses";
  EXPECT_EQ(min(2.0f, NAN), 2.0f);
  EXPECT_NEAR(normcdff(1.0f), 0.8413447f, 1e-6);
  EXPECT_EQ(__exp10f(3.0f), 1000.0f);
}

/// Every bit pattern through to_float and from_float of core/cuda_kernel.h.
TEST(SimtDeviceMath, ConversionsOfTheKernelHeaderRoundToNearestEven) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float f = to_float(of_bits<__nv_bfloat16>(bits));
    ASSERT_EQ(__builtin_bit_cast(uint32_t, f), bits << 16);
    const float h = to_float(of_bits<__half>(bits));
    if (!std::isnan(h)) {
      ASSERT_EQ(bits_of(from_float<__half>(h)), bits);
    }
    // Halfway to the next bf16: the even one.
    const float half = __builtin_bit_cast(float, bits << 16 | 0x8000u);
    if (!std::isfinite(half)) continue;
    ASSERT_EQ(bits_of(from_float<__nv_bfloat16>(half)), static_cast<uint16_t>(bits + (bits & 1)));
  }
  EXPECT_TRUE(std::isinf(to_float(from_float<__half>(65520.0f))));
  EXPECT_EQ(to_float(from_float<__half>(65519.9f)), 65504.0f);
  const float2 pair = unpack2<__half>(pack2<__half>(1.5f, -2.0f));
  EXPECT_EQ(pair.x, 1.5f);
  EXPECT_EQ(pair.y, -2.0f);
  EXPECT_EQ(pack2<__nv_bfloat16>(1.0f, 2.0f), 0x40003F80u);
}

}  // namespace
}  // namespace minibert
