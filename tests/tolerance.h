// tolerance.h: the one table of tolerances, by dtype and by class of op. Tests take theirs from
// here and from nowhere else. An error is measured against the double reference, relative to the
// largest magnitude of the expected tensor: max |got - expected| / max |expected|. f32 accumulation
// over K terms grows like sqrt(K) * 2^-24: the figures allow K of a few thousand. Raising one to
// make a test pass is not a fix.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/tensor.h"

namespace minibert::testing {

struct Tolerance {
  static constexpr double exact = 0;           // copies, gathers, integer results
  static constexpr double elementwise = 5e-7;  // a few roundings an element; erf, exp, tanh to 1e-7
  static constexpr double reduction = 2e-6;    // sums of f32 products: GEMM, norms, attention
  // GEMM whose operands tensor cores round to 10 bits of mantissa: each by at most 2^-11 of itself,
  // so a product by 2^-10, and their sum by less than that of the largest sum.
  static constexpr double tf32 = 0x1p-10;
  static constexpr double gradient = 6e-6;   // backward passes: three times the forward's
  static constexpr double optimizer = 1e-6;  // a trajectory of 20 steps
  static constexpr double gradcheck = 2e-3;  // central differences in f32
  // A whole model against PyTorch: outputs and losses; |g - g64| / |g64| of a parameter's gradient,
  // where twice PyTorch's own error is less; a gradient that is zero in exact arithmetic (key.bias)
  // against its neighbour's norm; unit sentence vectors.
  static constexpr double model = 1e-5;
  static constexpr double model_gradient_floor = 1e-6;
  static constexpr double zero_gradient = 1e-5;
  // The loss of a whole model in 16 bits, relative: half the type's largest rounding error.
  static constexpr double model_loss_bf16 = 0x1p-9, model_loss_f16 = 0x1p-12;
  static constexpr double sentence_vector = 1e-6;
};

/// Largest |got - expected| over the largest |expected|; where everything expected is 0, the
/// largest |got|.
inline double relative_error(std::span<const float> got, std::span<const float> expected) {
  double largest = 0, error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    const double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
    error = std::isnan(difference) ? INFINITY : std::max(error, difference);
  }
  return largest > 0 ? error / largest : error;
}

/// EXPECT_TRUE(near(...)): prints tensor, first bad index, got, expected, largest error and where,
/// share of tolerance used.
inline ::testing::AssertionResult near(const std::string& name, std::span<const float> got,
                                       std::span<const float> expected, double tolerance) {
  if (got.size() != expected.size()) {
    return ::testing::AssertionFailure()
           << name << " has " << got.size() << " elements, expected " << expected.size();
  }
  double largest = 0;
  for (float x : expected) largest = std::max(largest, std::abs(static_cast<double>(x)));
  const double allowed = tolerance * (largest > 0 ? largest : 1);
  size_t first = got.size(), worst = 0;
  double error = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
    if (std::isnan(difference))
      difference = (std::isnan(got[i]) && std::isnan(expected[i])) ? 0 : INFINITY;
    if (difference > allowed && first == got.size()) first = i;
    if (difference > error) error = difference, worst = i;
  }
  if (first == got.size()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << fmt::format(
             "{}: first bad index {}: got {}, expected {}; largest error {:.3g} at {} (got {}, "
             "expected {}), {:.1f} times the "
             "tolerance {:.1g} of the largest {:.3g}",
             name, first, got[first], expected[first], error, worst, got[worst], expected[worst],
             error / allowed, tolerance, largest);
}

/// Values of a tensor of any floating type.
inline std::vector<float> floats_of(const Tensor& t) {
  const Tensor wide = t.dtype() == DType::f32 ? t : t.to(DType::f32);
  return {wide.span<float>().begin(), wide.span<float>().end()};
}

/// For code that stores in a 16-bit type: `exact` is what exact arithmetic gives, `plain` what plain
/// loops do that round wherever they store. Twice the largest error of `plain`, relative to the
/// largest magnitude: allowed on top of the table's figure.
inline double share_of_rounding(std::span<const float> exact, std::span<const float> plain) {
  double largest = 0, error = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    if (!std::isfinite(exact[i]) || !std::isfinite(plain[i])) continue;
    largest = std::max(largest, std::abs(static_cast<double>(exact[i])));
    error = std::max(error, std::abs(static_cast<double>(exact[i]) - plain[i]));
  }
  return largest > 0 ? 2 * error / largest : 0;
}

/// For a result that is rounded once, to the type of `got`: `expected` is what exact arithmetic gives,
/// in f32. For f32 the same as near().
inline ::testing::AssertionResult near_in(const std::string& name, const Tensor& got,
                                          const Tensor& expected, double tolerance) {
  const std::vector<float> exact = floats_of(expected);
  if (got.dtype() == DType::f32) return near(name, floats_of(got), exact, tolerance);
  const double share = share_of_rounding(exact, floats_of(expected.to(got.dtype())));
  return near(name + " " + name_of(got.dtype()), floats_of(got), exact, tolerance + share);
}

inline ::testing::AssertionResult near(const std::string& name, const Tensor& got,
                                       const Tensor& expected, double tolerance) {
  if (!(got.shape() == expected.shape())) {
    return ::testing::AssertionFailure()
           << name << " is " << got.shape().str() << ", expected " << expected.shape().str();
  }
  return near(name, got.span<float>(), expected.span<float>(), tolerance);
}

}  // namespace minibert::testing
