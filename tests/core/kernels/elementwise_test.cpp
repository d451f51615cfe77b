// elementwise_test.cpp: maps against formulas in double, at every instruction set and in each compute
// type; the functions of math_simd.h and philox_simd.h are tested here, through the blocks that use
// them.
#include "core/kernels/elementwise.h"

#include <cmath>
#include <limits>

#include "core/kernels/dropout_mask.h"
#include "core/kernels/elementwise_simd.h"
#include "core/kernels/reference.h"
#include "core/profile.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
const int64_t kSizes[] = {0, 1, 3, 7, 15, 16, 17, 31, 33, 1021, 16383, 16384, 16385, 40009};

class Elementwise : public EachLevel {};
class MathSimd : public EachLevel {};
class DropoutRows : public EachLevel {};

std::vector<float> sweep(float low, float high, int64_t steps) {
  std::vector<float> x(static_cast<size_t>(steps));
  for (int64_t i = 0; i < steps; ++i)
    x[i] = low + (high - low) * static_cast<float>(i) / static_cast<float>(steps - 1);
  return x;
}

using Block = void (*)(const float*, float*, int64_t);

// Largest |block(x) - expected(x)| / scale(expected).
template <typename Expected, typename Scale>
double largest_error(Block block, const std::vector<float>& x, Expected expected, Scale scale) {
  std::vector<float> y(x.size());
  block(x.data(), y.data(), static_cast<int64_t>(x.size()));
  double error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double e = expected(static_cast<double>(x[i]));
    const double difference = std::abs(y[i] - e) / scale(e);
    error = std::isnan(difference) ? INFINITY : std::max(error, difference);
  }
  return error;
}

TEST_P(MathSimd, ErfIsWithin1e7OfDouble) {
  const auto one = [](double) { return 1.0; };
  const auto erf = [](double x) { return std::erf(x); };
  EXPECT_LT(largest_error(MB_SIMD(erf_block), sweep(-6, 6, 3000001), erf, one), 1e-7);
  EXPECT_LT(largest_error(MB_SIMD(erf_block), sweep(-200, 200, 100001), erf, one), 1e-7);
  EXPECT_LT(largest_error(MB_SIMD(erf_block), sweep(-1e-6f, 1e-6f, 10001), erf, one), 1e-12);
}

TEST_P(MathSimd, ExpIsWithinTwoUnitsOfDouble) {
  const auto relative = [](double e) { return std::max(e, 1e-38); };
  const auto exp = [](double x) { return std::exp(x); };
  EXPECT_LT(largest_error(MB_SIMD(exp_block), sweep(-87.3f, 88.7f, 3000001), exp, relative),
            0x1p-23);
  const float special[] = {0.0f, 89.0f, kInfinity, -104.0f, -kInfinity, kNaN, -100.0f, 1e30f};
  float y[8];
  MB_SIMD(exp_block)(special, y, 8);
  EXPECT_EQ(y[0], 1.0f);
  EXPECT_EQ(y[1], kInfinity);
  EXPECT_EQ(y[2], kInfinity);
  EXPECT_EQ(y[3], 0.0f);
  EXPECT_EQ(y[4], 0.0f);
  EXPECT_TRUE(std::isnan(y[5]));
  EXPECT_NEAR(y[6], std::exp(-100.0), 1.5e-45);  // a subnormal
  EXPECT_EQ(y[7], kInfinity);
}

TEST_P(MathSimd, TanhIsWithin3e7OfDoubleRelatively) {
  const auto relative = [](double e) { return std::max(std::abs(e), 1e-30); };
  const auto tanh = [](double x) { return std::tanh(x); };
  EXPECT_LT(largest_error(MB_SIMD(tanh_block), sweep(-12, 12, 3000001), tanh, relative), 3e-7);
  const float special[] = {kInfinity, -kInfinity, kNaN, 200.0f, -0.0f};
  float y[5];
  MB_SIMD(tanh_block)(special, y, 5);
  EXPECT_EQ(y[0], 1.0f);
  EXPECT_EQ(y[1], -1.0f);
  EXPECT_TRUE(std::isnan(y[2]));
  EXPECT_EQ(y[3], 1.0f);
  EXPECT_TRUE(y[4] == 0.0f && std::signbit(y[4]));
}

TEST_P(Elementwise, GeluIsWithin2e7OfDoubleAtEveryX) {
  const auto x = sweep(-15, 15, 1000001);
  const Tensor in = Tensor::from<float>(x, {1000001});
  const Tensor y = Tensor::empty(in.shape()), dx = Tensor::empty(in.shape());
  const Tensor ones = Tensor::empty(in.shape());
  fill(ones, 1.0f);
  for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
    gelu_forward({in, y, kind});
    gelu_backward({in, ones, dx, kind});
    double value_error = 0, slope_error = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = x[i], k = std::sqrt(2 / M_PI);
      const double u = k * (v + 0.044715 * v * v * v), t = std::tanh(u);
      const double value =
          kind == Gelu::erf ? 0.5 * v * (1 + std::erf(v / std::sqrt(2.0))) : 0.5 * v * (1 + t);
      const double slope = kind == Gelu::erf ? 0.5 * (1 + std::erf(v / std::sqrt(2.0))) +
                                                   v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI)
                                             : 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * k *
                                                                   (1 + 3 * 0.044715 * v * v);
      const double size = std::max(1.0, std::abs(v));
      value_error = std::max(value_error, std::abs(y.data<float>()[i] - value) / size);
      slope_error = std::max(slope_error, std::abs(dx.data<float>()[i] - slope));
    }
    EXPECT_LT(value_error, 2e-7);
    EXPECT_LT(slope_error, 5e-7);
  }
}

TEST_P(Elementwise, GeluKeepsNaNAndLargeFiniteValues) {
  const Tensor x = Tensor::from<float>(std::vector<float>{kNaN, 1e30f, -1e30f, kInfinity}, {4});
  const Tensor y = Tensor::empty({4}), dx = Tensor::empty({4}), ones = Tensor::empty({4});
  fill(ones, 1.0f);
  for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
    gelu_forward({x, y, kind});
    gelu_backward({x, ones, dx, kind});
    EXPECT_TRUE(std::isnan(y.data<float>()[0]));
    EXPECT_TRUE(std::isnan(dx.data<float>()[0]));
    EXPECT_EQ(y.data<float>()[1], 1e30f);
    EXPECT_EQ(dx.data<float>()[1], 1.0f);
    EXPECT_EQ(y.data<float>()[2], 0.0f);
    EXPECT_EQ(dx.data<float>()[2], 0.0f);
    EXPECT_EQ(y.data<float>()[3], kInfinity);
  }
}

// Runs one map of x and z at all sizes, in each type: against its reference on the same values in
// f32, in place, accumulating, at 1 and 2 threads, between guards and off alignment.
template <typename Run, typename Reference>
void check_map(Run run, Reference reference, double tolerance, bool can_accumulate = true) {
  for (DType dtype : kComputeTypes) {
    for (int64_t n : kSizes) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(dtype), n));
      const Tensor x = random_tensor({n}, 1, 2.0f, dtype), z = random_tensor({n}, 2, 1.0f, dtype),
                   before = random_tensor({n}, 3, 1.0f, dtype);
      const Tensor exact_x = x.to(DType::f32), exact_z = z.to(DType::f32);
      for (int accumulate = 0; accumulate <= (can_accumulate ? 1 : 0); ++accumulate) {
        const Guarded y({n}, /* misaligned= */ true, dtype);
        const Tensor expected = before.to(DType::f32);
        reference(exact_x, exact_z, expected, accumulate != 0);
        EXPECT_TRUE(threads_do_not_matter(*y, [&] {
          y->copy_from(before);
          run(x, z, *y, accumulate != 0);
        }));
        EXPECT_TRUE(near_in("y", *y, expected, tolerance));
        EXPECT_TRUE(y.intact());
      }
      const Tensor in_place = x.clone(), expected = Tensor::empty({n});
      run(in_place, z, in_place, false);
      reference(exact_x, exact_z, expected, false);
      EXPECT_TRUE(near_in("in place", in_place, expected, tolerance));
    }
  }
}

TEST_P(Elementwise, GeluMatchesReference) {
  for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
    check_map(
        [&](auto& x, auto& dy, auto& out, bool accumulate) {
          gelu_backward({x, dy, out, kind, accumulate});
        },
        [&](auto& x, auto& dy, auto& out, bool accumulate) {
          gelu_backward_reference({x, dy, out, kind, accumulate});
        },
        Tolerance::elementwise);
    check_map(
        [&](auto& x, auto&, auto& y, bool) {
          gelu_forward({x, y, kind});
        },
        [&](auto& x, auto&, auto& y, bool) {
          gelu_forward_reference({x, y, kind});
        },
        Tolerance::elementwise, /* can_accumulate= */ false);
  }
}

TEST_P(Elementwise, TanhMatchesReference) {
  check_map(
      [](auto& y, auto& dy, auto& out, bool accumulate) {
        tanh_backward({y, dy, out, accumulate});
      },
      [](auto& y, auto& dy, auto& out, bool accumulate) {
        tanh_backward_reference({y, dy, out, accumulate});
      },
      Tolerance::elementwise);
  check_map(
      [](auto& x, auto&, auto& y, bool) {
        tanh_forward({x, y});
      },
      [](auto& x, auto&, auto& y, bool) {
        tanh_forward_reference({x, y});
      },
      Tolerance::elementwise, /* can_accumulate= */ false);
}

// out[i] (+)= value(x[i], z[i]) in double.
template <typename Value>
auto formula(Value value) {
  return [value](const Tensor& x, const Tensor& z, const Tensor& out, bool accumulate) {
    for (int64_t i = 0; i < out.numel(); ++i) {
      float& o = out.data<float>()[i];
      const double v = value(double{x.data<float>()[i]}, double{z.data<float>()[i]});
      o = static_cast<float>((accumulate ? o : 0.0) + v);
    }
  };
}

TEST_P(Elementwise, SumsProductsAndScalingMatchFormulas) {
  check_map(
      [](auto& x, auto& z, auto& y, bool accumulate) {
        multiply({z, x, y, accumulate});
      },
      formula([](double x, double z) { return x * z; }), Tolerance::elementwise);
  check_map(
      [](auto& x, auto&, auto& y, bool accumulate) {
        scale({x, -1.7f, y, accumulate});
      },
      formula([](double x, double) { return x * double{-1.7f}; }), Tolerance::elementwise);
  check_map(
      [](auto& x, auto& z, auto& y, bool) {
        add_forward({x, z, y});
      },
      formula([](double x, double z) { return x + z; }), Tolerance::elementwise,
      /* can_accumulate= */ false);
  for (int64_t n : kSizes) {  // one operation of f32 is rounded once: to the bit
    const Tensor a = random_tensor({n}, 7), b = random_tensor({n}, 8), expected = a.clone();
    const Guarded y({n}, /* misaligned= */ true);
    add_forward({a, b, *y});
    formula([](double x, double z) { return x + z; })(a, b, expected, false);
    EXPECT_TRUE(same_bits(*y, expected));
    multiply({a, b, *y});
    formula([](double x, double z) { return x * z; })(a, b, expected, false);
    EXPECT_TRUE(same_bits(*y, expected));
    EXPECT_TRUE(y.intact());
  }
}

TEST_P(Elementwise, ReferencesOfSumsAndProductsAreTheFormulas) {
  const Tensor a = random_tensor({3, 7}, 7), b = random_tensor({3, 7}, 8),
               bias = random_tensor({7}, 9), y = Tensor::empty({3, 7});
  const auto at = [](const Tensor& t, int64_t i) { return t.data<float>()[i]; };
  const auto expect = [&](auto value) {
    for (int64_t i = 0; i < 21; ++i) EXPECT_FLOAT_EQ(at(y, i), value(i)) << i;
  };
  add_forward_reference({a, b, y});
  expect([&](int64_t i) { return at(a, i) + at(b, i); });
  multiply_reference({a, b, y});
  expect([&](int64_t i) { return at(a, i) * at(b, i); });
  scale_reference({a, 3.0f, y});
  expect([&](int64_t i) { return at(a, i) * 3; });
  add_bias_reference({a, bias, y});
  expect([&](int64_t i) { return at(a, i) + at(bias, i % 7); });
  fill_reference({y, 2.5f});
  expect([&](int64_t) { return 2.5f; });
  fill_from_reference({Tensor::from<float>(std::vector<float>{-1.25f}, {}), y, true});
  expect([&](int64_t) { return 1.25f; });
}

TEST_P(Elementwise, FillsWithAValueAndFromAScalar) {
  const Tensor scalar = Tensor::from<float>(std::vector<float>{-1.25f}, {});
  for (DType dtype : kComputeTypes) {
    for (int64_t n : kSizes) {
      const Guarded y({n}, /* misaligned= */ true, dtype);
      fill(*y, 3.5f);
      for (float value : floats_of(*y)) ASSERT_EQ(value, 3.5f);
      fill_from({scalar, *y, /* accumulate= */ true});
      for (float value : floats_of(*y)) ASSERT_EQ(value, 2.25f);
      fill_from({scalar, *y});
      for (float value : floats_of(*y)) ASSERT_EQ(value, -1.25f);
      EXPECT_TRUE(y.intact());
    }
  }
}

TEST_P(Elementwise, AddBiasAddsItToEveryRow) {
  for (DType dtype : kComputeTypes) {
    for (int64_t T : {0, 1, 5, 37}) {
      for (int64_t H : {0, 1, 17, 768, 20000}) {
        SCOPED_TRACE(fmt::format("{} T {} H {}", name_of(dtype), T, H));
        const Tensor x = random_tensor({T, H}, 9, 1.0f, dtype),
                     bias = random_tensor({H}, 10, 1.0f, dtype), expected = Tensor::empty({T, H});
        const Guarded y({T, H}, /* misaligned= */ false, dtype);
        EXPECT_TRUE(threads_do_not_matter(*y, [&] { add_bias({x, bias, *y}); }));
        const std::vector<float> wide_x = floats_of(x), wide_bias = floats_of(bias);
        for (int64_t i = 0; i < T * H; ++i)
          expected.data<float>()[i] = wide_x[i] + wide_bias[i % H];
        EXPECT_TRUE(near_in("y", *y, expected, Tolerance::exact));
        EXPECT_TRUE(y.intact());
      }
    }
  }
}

TEST_P(DropoutRows, DrawsTheWordsOfPhiloxAndScalesWhatIsKept) {
  for (float p : {0.0f, 0.1f, 0.9f}) {
    const Dropout dropout = make_dropout(p, 0xFEDCBA9876543210ull, data_step(kMaxDataStep), 11,
                                         DropoutPurpose::attention_output);
    for (int64_t H : {1, 3, 4, 5, 31, 32, 33, 127, 768, 1021}) {
      const int64_t T = 37;
      std::vector<int32_t> position, sample;
      for (int64_t t = 0; t < T; ++t) {
        position.push_back(static_cast<int32_t>((t * 7) % 512));
        sample.push_back(static_cast<int32_t>(t / 5 + 100000 * (t % 2)));
      }
      const Tensor at = integers(position), of = integers(sample);
      for (DType dtype : kComputeTypes) {
        SCOPED_TRACE(fmt::format("{} p {} H {}", name_of(dtype), p, H));
        const Tensor x = random_tensor({T, H}, 11, 1.0f, dtype),
                     before = random_tensor({T, H}, 12, 1.0f, dtype);
        for (bool accumulate : {false, true}) {
          const Guarded y({T, H}, /* misaligned= */ true, dtype);
          const Tensor expected = before.to(DType::f32);
          dropout_rows_reference({x.to(DType::f32), at, of, dropout, expected, accumulate});
          EXPECT_TRUE(threads_do_not_matter(*y, [&] {
            y->copy_from(before);
            dropout_rows({x, at, of, dropout, *y, accumulate});
          }));
          EXPECT_TRUE(near_in("y", *y, expected, Tolerance::elementwise));
          EXPECT_TRUE(y.intact());
          for (int64_t i = 0; i < T * H && !accumulate; ++i)
            ASSERT_EQ(get(*y, i) == 0, expected.data<float>()[i] == 0) << "element " << i;
        }
      }
    }
  }
}

// The mask in words of its own: the exported one, which dropout_mask_test.cpp checks.
TEST_P(DropoutRows, DropsNaNAndInfinityButKeepsThem) {
  const Dropout dropout = make_dropout(0.5f, 7, data_step(3), 0, DropoutPurpose::user);
  const Tensor zero = integers(std::vector<int32_t>(8, 0));
  const Tensor mask = export_hidden_dropout_mask(dropout, zero, zero, 64);
  for (DType dtype : kComputeTypes) {
    for (float poison : {kNaN, kInfinity, -kInfinity}) {
      const Tensor x = Tensor::empty({8, 64}, dtype), y = x.like({8, 64}), e = x.like({8, 64});
      fill(x, poison);
      dropout_rows({x, zero, zero, dropout, y});
      dropout_rows_reference({x, zero, zero, dropout, e});
      int64_t kept = 0;
      for (int64_t i = 0; i < 512; ++i) {
        const bool keep = mask.data<uint8_t>()[i] != 0;
        kept += keep;
        for (const Tensor& got : {y, e}) {
          ASSERT_EQ(std::isfinite(get(got, i)), !keep) << i;
          ASSERT_TRUE(keep || get(got, i) == 0) << i;
        }
      }
      EXPECT_GT(kept, 0);
      EXPECT_LT(kept, 512);
    }
  }
}

TEST(ElementwiseCost, IsTheOperandsOnceAndWhatIsAddedToTwice) {
  const Tensor x = random_tensor({3, 8}, 1, 1.0f, DType::bf16), y = x.like({3, 8});
  const auto expect = [](const Cost& cost, double flops, double bytes) {
    EXPECT_EQ(cost.flops, flops);
    EXPECT_EQ(cost.bytes, bytes);
  };
  expect(gelu_forward_cost({x, y}), kGeluFlops * 24, 2 * 48);
  expect(gelu_backward_cost({x, x, y, Gelu::erf, true}), (kGeluFlops + 2) * 24, 4 * 48);
  expect(add_bias_cost({x, x.rows(0, 1).reshape({8}), y}), 24, 2 * 48 + 16);
  expect(fill_from_cost({Tensor::zeros({}), y}), 0, 48 + 4);
  set_profiling(true);
  gelu_forward({x, y});
  set_profiling(false);
  const ProfileEntry entry = profile_entries().at("gelu_forward");
  expect({entry.flops, entry.bytes}, kGeluFlops * 24, 2 * 48);
}

TEST(ElementwiseErrors, NameBothShapes) {
  const Tensor x = Tensor::zeros({3, 4}), y = Tensor::zeros({4, 3});
  try {
    gelu_forward({x, y});
    FAIL() << "a wrong shape was taken";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("[4, 3]"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("[3, 4]"), std::string::npos) << error.what();
  }
  EXPECT_THROW(add_forward(x, y, x), UsageError);
  EXPECT_THROW(multiply({x, x, y}), UsageError);
  EXPECT_THROW(scale(x, 1, Tensor(), false), UsageError);
  EXPECT_THROW(tanh_forward(Tensor::zeros({3, 4}, DType::bf16), x), UsageError);
  EXPECT_THROW(add_bias({x, Tensor::zeros({3}), x}), UsageError);
  EXPECT_THROW(add_bias({x, Tensor::zeros({4}, DType::bf16), x}), UsageError);
  EXPECT_THROW(dropout_rows({x, integers({0, 1}), integers({0, 0, 0}), Dropout{}, x}), UsageError);
  EXPECT_THROW(fill(integers({1}), 0), UsageError);
  EXPECT_THROW(fill_from({x, y}), UsageError);
  EXPECT_THROW(fill_from({Tensor::zeros({}, DType::bf16), y}), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Levels, MathSimd, ::testing::ValuesIn(simd_levels()), level_name);
INSTANTIATE_TEST_SUITE_P(Levels, Elementwise, ::testing::ValuesIn(simd_levels()), level_name);
INSTANTIATE_TEST_SUITE_P(Levels, DropoutRows, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
