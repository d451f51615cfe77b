// gelu_simd.h: GELU and its slope on f32 vectors, for elementwise_simd.cpp and gemm_simd.cpp.
// Everything is inlined into minibert::MB_SIMD_NAMESPACE. The double form: gelu.h.
#pragma once

#include "core/kernels/math_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {

HWY_INLINE FloatVec gelu_erf(FloatVec x) {
  const FloatTag d;
  return hn::Mul(x, normal_probability(d, x, exp_half_square(d, x)));
}

HWY_INLINE FloatVec gelu_erf_slope(FloatVec x) {
  const FloatTag d;
  const auto e = exp_half_square(d, x);
  const auto density = hn::Mul(e, hn::Set(d, 0.398942280401f));
  return hn::MulAdd(x, density, normal_probability(d, x, e));
}

/// 2 sqrt(2/pi) (x + 0.044715 x^3), as x (k + l x^2).
HWY_INLINE FloatVec gelu_tanh_argument(FloatVec x) {
  const FloatTag d;
  return hn::Mul(x, polynomial(d, hn::Mul(x, x), 1.59576912161f, 0.0713548162726f));
}

HWY_INLINE FloatVec gelu_tanh(FloatVec x) {
  const FloatTag d;
  return hn::Mul(x, logistic(d, gelu_tanh_argument(x)).value);
}

/// s + x s (1 - s) u'(x), u' = k + 3 l x^2.
HWY_INLINE FloatVec gelu_tanh_slope(FloatVec x) {
  const FloatTag d;
  const auto s = logistic(d, gelu_tanh_argument(x));
  const auto slope = polynomial(d, hn::Mul(x, x), 1.59576912161f, 0.214064448818f);
  // Where s (1 - s) is 0, its product with x u' is 0 too, though x u' may have overflowed.
  const auto second =
      hn::IfThenElseZero(hn::Ne(s.slope, hn::Zero(d)), hn::Mul(hn::Mul(x, slope), s.slope));
  return hn::Add(s.value, second);
}

}  // namespace minibert::MB_SIMD_NAMESPACE
