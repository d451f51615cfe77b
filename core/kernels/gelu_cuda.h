// gelu_cuda.h: GELU and its slope on one f32 value, for .cu files: elementwise and gemm's epilogues.
// No branch, and about 15 instructions, two of them on the special-function unit: in a GEMM's epilogue
// they compete with the tensor cores for issue slots. Absolute error below 2e-7 of max(1, |x|).
// In double: gelu.h; on the CPU's vectors: gelu_simd.h. Easy to break: NaN goes in, NaN comes out
// (overflow detection relies on it). Test: ctest -R gemm_cuda.
// Source: arXiv 1606.08415; Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26.
#pragma once

#include "core/kernels/gelu_kind.h"
#include "core/ptx.h"

namespace minibert {

/// exp(-x^2 / 2).
__device__ __forceinline__ float exp_half_square(float x) {
  return exp2_approx(x * x * -0.721347520444f);  // log2(e) / 2
}

/// P(Z <= x), Z normal, given exp(-x^2 / 2). Absolute error 1.5e-7.
__device__ __forceinline__ float normal_probability(float x, float exp_half_square) {
  // P(Z > a) = exp(-a^2 / 2) t (c1 + c2 t + ... + c5 t^4), t = 1 / (1 + 0.3275911 a / sqrt 2)
  const float t = __fdividef(1.0f, fmaf(0.231641888f, fabsf(x), 1.0f));
  float above = fmaf(t, 0.5307027145f, -0.7265760135f);
  above = fmaf(t, above, 0.7107068705f);
  above = fmaf(t, above, -0.142248368f);
  above = fmaf(t, above, 0.127414796f);
  above *= t * exp_half_square;
  return x < 0 ? above : 1.0f - above;
}

__device__ __forceinline__ float gelu_erf(float x) {
  return x * normal_probability(x, exp_half_square(x));
}
__device__ __forceinline__ float gelu_erf_slope(float x) {
  const float e = exp_half_square(x);
  return fmaf(x, e * 0.398942280401f, normal_probability(x, e));
}

/// s = 1 / (1 + e^-u) of the tanh form's u = 2 sqrt(2/pi) (x + 0.044715 x^3), and s (1 - s); neither
/// is taken as a difference from 1.
struct GeluLogistic {
  float value, slope;
};
__device__ __forceinline__ GeluLogistic gelu_logistic(float x) {
  const float u = x * fmaf(x * x, 0.0713548162726f, 1.59576912161f);
  const float e = exp2_approx(fabsf(u) * -1.44269504089f);  // at most 1
  const float larger = __fdividef(1.0f, 1.0f + e), smaller = e * larger;
  return {u < 0 ? smaller : larger, smaller * larger};
}
__device__ __forceinline__ float gelu_tanh(float x) {
  return x * gelu_logistic(x).value;
}
/// s + x s (1 - s) u'. Where s (1 - s) is 0 the product is 0, though x u' may have overflowed.
__device__ __forceinline__ float gelu_tanh_slope(float x) {
  const GeluLogistic s = gelu_logistic(x);
  const float u = x * fmaf(x * x, 0.214064448818f, 1.59576912161f);
  return s.slope == 0 ? s.value : fmaf(u, s.slope, s.value);
}

template <Gelu kKind>
__device__ __forceinline__ float gelu(float x) {
  if constexpr (kKind == Gelu::erf) {
    return gelu_erf(x);
  } else {
    return gelu_tanh(x);
  }
}
/// d gelu / d x.
template <Gelu kKind>
__device__ __forceinline__ float gelu_slope(float x) {
  if constexpr (kKind == Gelu::erf) {
    return gelu_erf_slope(x);
  } else {
    return gelu_tanh_slope(x);
  }
}

}  // namespace minibert
