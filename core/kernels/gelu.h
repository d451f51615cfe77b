// gelu.h: GELU and its slope in double, for the references of gemm and elementwise.
// The fast f32 forms: gelu_simd.h, gelu_cuda.h. Source: arXiv 1606.08415, sec. 2.
#pragma once

#include <cmath>
#include <numbers>

#include "core/kernels/gelu_kind.h"

namespace minibert {

inline constexpr double kGeluTanhCubic = 0.044715;  // arXiv 1606.08415, sec. 2

/// erf form  x P(Z <= x);  tanh form  x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)).
inline double gelu_value(double x, Gelu kind) {
  if (kind == Gelu::erf) return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
  const double u = std::sqrt(2 / std::numbers::pi) * (x + kGeluTanhCubic * x * x * x);
  return x / (1 + std::exp(-2 * u));
}

/// d gelu / d x.
inline double gelu_slope(double x, Gelu kind) {
  if (kind == Gelu::erf) {
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    return 0.5 * std::erfc(-x / std::numbers::sqrt2) + x * density;
  }
  const double k = std::sqrt(2 / std::numbers::pi);
  const double s = 1 / (1 + std::exp(-2 * k * (x + kGeluTanhCubic * x * x * x)));
  return s + x * s * (1 - s) * 2 * k * (1 + 3 * kGeluTanhCubic * x * x);
}

}  // namespace minibert
