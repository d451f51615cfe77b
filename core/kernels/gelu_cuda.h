// gelu_cuda.h: GELU and its slope in f32 on the device, for the epilogues of gemm and for elementwise.
// About 15 instructions a value, two of them on the special-function unit, and no branch: in a GEMM's
// epilogue they compete with the tensor cores for issue slots. Absolute errors below 2e-7 |x|.
// Easy to break: NaN goes in, NaN comes out (overflow detection relies on it). In double: gelu.h.
// Source: arXiv 1606.08415; Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26.
#pragma once

#include "core/kernels/gelu_kind.h"
#include "core/ptx.h"

namespace minibert {

/// exp(-x^2 / 2).
__device__ __forceinline__ float exp_half_square(float x) {
  return exp2_approx(x * x * -0.721347520444f);  // log2(e) / 2
}

/// P(Z <= x), absolute error 1.5e-7; `e` = exp(-x^2 / 2).
__device__ __forceinline__ float normal_probability(float x, float e) {
  // P(Z > a) = e t (c1 + c2 t + ... + c5 t^4), t = 1 / (1 + 0.3275911 a / sqrt 2), a = |x|
  const float t = __fdividef(1.0f, fmaf(0.231641888f, fabsf(x), 1.0f));
  float above = fmaf(t, 0.5307027145f, -0.7265760135f);
  above = fmaf(t, above, 0.7107068705f);
  above = fmaf(t, above, -0.142248368f);
  above = fmaf(t, above, 0.127414796f);
  above *= t * e;
  return x < 0 ? above : 1.0f - above;
}

/// 1 / (1 + exp(-x)).
__device__ __forceinline__ float logistic(float x) {
  return __fdividef(1.0f, 1.0f + exp2_approx(x * -1.44269504089f));
}

/// 2 sqrt(2/pi) (x + 0.044715 x^3), whose logistic is the tanh form's share of x.
__device__ __forceinline__ float gelu_tanh_argument(float x) {
  return x * fmaf(x * x, 0.0713548162726f, 1.59576912161f);
}

template <Gelu kKind>
__device__ __forceinline__ float gelu_f32(float x) {
  if constexpr (kKind == Gelu::erf) {
    return x * normal_probability(x, exp_half_square(x));
  } else {
    return x * logistic(gelu_tanh_argument(x));
  }
}

/// d gelu / d x.
template <Gelu kKind>
__device__ __forceinline__ float gelu_slope_f32(float x) {
  if constexpr (kKind == Gelu::erf) {
    const float e = exp_half_square(x);
    return fmaf(x, e * 0.398942280401f, normal_probability(x, e));
  } else {
    const float s = logistic(gelu_tanh_argument(x));
    const float slope = s * (1.0f - s);
    // Where s (1 - s) is 0, its product with x u' is 0 too, though x u' may have overflowed.
    const float u = x * fmaf(x * x, 0.214064448818f, 1.59576912161f);
    return slope == 0 ? s : fmaf(u, slope, s);
  }
}

}  // namespace minibert
