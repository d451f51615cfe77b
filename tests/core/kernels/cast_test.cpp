// cast_test.cpp: casts at every instruction set, exhaustively: each 16-bit pattern to f32 and back,
// f32 values at, between and around the halfway points of neighbours, against core/dtype.h and
// against nearest() below, which knows the formats by their definition and compares in double.
#include "core/kernels/cast.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/kernels/reference.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr uint32_t kPatterns = 0x10000;

// A 16-bit format: sign, exponent, fraction.
struct Format {
  DType dtype;
  int fraction_bits, bias;
  uint16_t infinity;
};
constexpr Format kBf16{DType::bf16, 7, 127, 0x7F80}, kF16{DType::f16, 10, 15, 0x7C00};

// The value of a pattern without its sign bit, by definition. What would follow the largest finite
// number stands for infinity: halfway to it, rounding overflows.
double magnitude_of(const Format& f, uint16_t bits) {
  const int exponent = bits >> f.fraction_bits, fraction = bits & ((1 << f.fraction_bits) - 1);
  const int first = 1 - f.bias - f.fraction_bits;  // of the last place of a subnormal
  if (exponent == 0) return std::ldexp(fraction, first);
  return std::ldexp((1 << f.fraction_bits) + fraction, first + exponent - 1);
}

bool is_nan(const Format& f, uint16_t bits) {
  return (bits & 0x7FFF) > f.infinity;
}

// The pattern nearest to x, which is no NaN; of two, the one with an even last bit.
class Nearest {
 public:
  explicit Nearest(const Format& f) : f_(f) {
    for (uint32_t bits = 0; bits <= f.infinity; ++bits)
      values_.push_back(magnitude_of(f, static_cast<uint16_t>(bits)));
  }
  uint16_t operator()(float x) const {
    const auto sign = static_cast<uint16_t>(std::signbit(x) ? 0x8000 : 0);
    const double a = std::abs(static_cast<double>(x));
    const auto above = std::lower_bound(values_.begin(), values_.end(), a) - values_.begin();
    if (above >= f_.infinity + 1) return sign | f_.infinity;
    if (above == 0) return sign;
    const auto high = static_cast<uint16_t>(above), low = static_cast<uint16_t>(above - 1);
    const double down = a - values_[low], up = values_[high] - a;
    if (down != up) return sign | (down < up ? low : high);
    return sign | (low % 2 == 0 ? low : high);
  }

 private:
  Format f_;
  std::vector<double> values_;  // ascending with the pattern
};

uint16_t from_dtype_h(const Format& f, float x) {
  return f.dtype == DType::bf16 ? to_bf16(x).bits : to_f16(x).bits;
}

std::span<const uint16_t> patterns_of(const Tensor& t) {
  return {static_cast<const uint16_t*>(t.raw()), static_cast<size_t>(t.numel())};
}

Tensor all_patterns(const Format& f) {
  const Tensor t = Tensor::empty({kPatterns}, f.dtype);
  for (uint32_t i = 0; i < kPatterns; ++i)
    static_cast<uint16_t*>(t.raw())[i] = static_cast<uint16_t>(i);
  return t;
}

void expect_rounded(const Format& f, const Nearest& nearest, const std::vector<float>& values) {
  const auto n = static_cast<int64_t>(values.size());
  const Tensor x = Tensor::from<float>(values, {n}), y = Tensor::empty({n}, f.dtype);
  cast({x, y});
  const auto got = patterns_of(y);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(got[i], from_dtype_h(f, values[i])) << std::hexfloat << values[i];
    if (std::isnan(values[i])) {
      ASSERT_TRUE(is_nan(f, got[i])) << std::hex << std::bit_cast<uint32_t>(values[i]);
    } else {
      ASSERT_EQ(got[i], nearest(values[i])) << std::hexfloat << values[i];
    }
  }
}

class Cast : public EachLevel {};

TEST_P(Cast, EachPatternWidensToItsValueAndComesBack) {
  for (const Format& f : {kBf16, kF16}) {
    const Tensor narrow = all_patterns(f), wide = Tensor::empty({kPatterns}),
                 back = Tensor::empty({kPatterns}, f.dtype);
    cast({narrow, wide});
    cast({wide, back});
    for (uint32_t i = 0; i < kPatterns; ++i) {
      const auto bits = static_cast<uint16_t>(i), magnitude = static_cast<uint16_t>(bits & 0x7FFF);
      const float got = wide.data<float>()[i];
      ASSERT_EQ(std::signbit(got), bits >= 0x8000);
      if (is_nan(f, bits)) {
        ASSERT_TRUE(std::isnan(got)) << i;
        ASSERT_TRUE(is_nan(f, patterns_of(back)[i])) << i;
        continue;
      }
      const double value = magnitude == f.infinity ? std::numeric_limits<double>::infinity()
                                                   : magnitude_of(f, magnitude);
      ASSERT_EQ(std::abs(static_cast<double>(got)), value) << i;
      ASSERT_EQ(static_cast<double>(got), get(narrow, i)) << i;
      ASSERT_EQ(patterns_of(back)[i], bits);
    }
  }
}

// Halfway between two neighbours, and one f32 step to each side. The halfway points of subnormal
// bf16 are subnormal f32; the last is where rounding overflows to infinity.
TEST_P(Cast, EveryHalfwayPointGoesToTheEvenNeighbour) {
  for (const Format& f : {kBf16, kF16}) {
    const Nearest nearest(f);
    std::vector<float> values;
    for (uint16_t low = 0; low < f.infinity; ++low) {
      const double half =
          (magnitude_of(f, low) + magnitude_of(f, static_cast<uint16_t>(low + 1))) / 2;
      const auto middle = static_cast<float>(half);
      ASSERT_EQ(static_cast<double>(middle), half) << "f32 holds every halfway point";
      for (float sign : {1.0f, -1.0f}) {
        values.push_back(sign * middle);
        values.push_back(sign * std::nextafter(middle, 0.0f));
        values.push_back(sign * std::nextafter(middle, std::numeric_limits<float>::infinity()));
      }
    }
    expect_rounded(f, nearest, values);
  }
}

TEST_P(Cast, RandomBitsRoundToTheNearest) {
  constexpr int64_t kCount = 10000000, kAtOnce = 1000000;
  RandomStream stream(99, StreamPurpose::user, 1);
  for (const Format& f : {kBf16, kF16}) {
    const Nearest nearest(f);
    std::vector<float> values(kAtOnce);
    for (int64_t done = 0; done < kCount; done += kAtOnce) {
      for (float& x : values) {
        uint32_t bits = stream.next_u32();
        // f16 ends at 2^16: half of its exponents lie within what it can hold.
        if (f.dtype == DType::f16 && (bits & 1))
          bits = (bits & 0x807FFFFF) | ((98 + (bits >> 23) % 46) << 23);
        x = std::bit_cast<float>(bits);
      }
      expect_rounded(f, nearest, values);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Cast, SpecialValuesAreKept) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {0.0f,
                                     -0.0f,
                                     infinity,
                                     -infinity,
                                     65519.99f,
                                     65520.0f,
                                     std::numeric_limits<float>::max(),
                                     std::numeric_limits<float>::denorm_min(),
                                     std::bit_cast<float>(0x7F800001u),  // a signalling NaN
                                     std::bit_cast<float>(0xFF800001u),
                                     std::bit_cast<float>(0x7FFFFFFFu),
                                     std::bit_cast<float>(0x7F80FFFFu)};
  for (const Format& f : {kBf16, kF16}) expect_rounded(f, Nearest(f), values);
}

// Every pair of types, at sizes around a vector and around a block, off alignment.
TEST_P(Cast, MatchesTheReferenceAndStaysInside) {
  for (DType from : kComputeTypes) {
    for (DType to : kComputeTypes) {
      for (int64_t n : {0, 1, 3, 7, 8, 15, 16, 17, 31, 33, 1021, 32767, 32768, 32769, 70001}) {
        SCOPED_TRACE(fmt::format("{} to {}, {}", name_of(from), name_of(to), n));
        const Tensor x = random_tensor({n}, 1, 1.0f, from),
                     before = random_tensor({n}, 2, 1.0f, to);
        for (bool accumulate : {false, true}) {
          const Guarded source({n}, /* misaligned= */ true, from),
              y({n}, /* misaligned= */ true, to);
          source->copy_from(x);
          const Tensor expected = before.clone();
          cast_reference({x, expected, accumulate});
          EXPECT_TRUE(threads_do_not_matter(*y, [&] {
            y->copy_from(before);
            cast({*source, *y, accumulate});
          }));
          // f32 values of 16-bit numbers: their sum in double, rounded to f32, is the sum in f32.
          EXPECT_TRUE(same_bits(*y, expected));
          EXPECT_TRUE(y.intact() && source.intact());
        }
      }
    }
  }
}

TEST_P(Cast, AccumulatesInF32AndRoundsOnce) {
  const Tensor x = Tensor::from<float>(std::vector<float>{0x1p-9f, 0x1p-9f + 0x1p-20f, -1.0f}, {3});
  const Tensor y = Tensor::from<float>(std::vector<float>{1, 1, 1}, {3}).to(DType::bf16);
  cast(x, y, /* accumulate= */ true);  // bf16 after 1: 1 + 2^-7; halfway 1 + 2^-8
  EXPECT_EQ(floats_of(y), (std::vector<float>{1, 1, 0}));
  const Tensor z = Tensor::from<float>(std::vector<float>{1, 1, 1}, {3}).to(DType::bf16);
  const Tensor half =
      Tensor::from<float>(std::vector<float>{0x1p-8f, 0x1p-8f + 0x1p-20f, 0x1p-7f}, {3});
  cast(half, z, /* accumulate= */ true);
  EXPECT_EQ(floats_of(z), (std::vector<float>{1, 1 + 0x1p-7f, 1 + 0x1p-7f}));
}

TEST(CastErrors, NameTypesAndShapes) {
  const Tensor x = Tensor::zeros({3, 4});
  EXPECT_THROW(cast({x, Tensor::zeros({4, 3})}), UsageError);
  EXPECT_THROW(cast({x, Tensor::zeros({3, 4}, DType::i32)}), UsageError);
  EXPECT_THROW(cast({Tensor::zeros({3, 4}, DType::u8), x}), UsageError);
  EXPECT_THROW(cast({x, Tensor()}), UsageError);
}

TEST(CastCost, IsBothOperandsAndTheSumTwice) {
  const Tensor x = Tensor::zeros({3, 4}), y = Tensor::zeros({3, 4}, DType::bf16);
  EXPECT_EQ(cast_cost({x, y}).bytes, 48 + 24);
  EXPECT_EQ(cast_cost({x, y, true}).bytes, 48 + 2 * 24);
  EXPECT_EQ(cast_cost({x, y, true}).flops, 12);
}

INSTANTIATE_TEST_SUITE_P(Levels, Cast, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
