// gelu_cuda.h: GELU and its slope on one f32 value, for .cu files: elementwise and gemm's epilogues.
// The double form: gelu.h; on the CPU's vectors: gelu_simd.h. Absolute error below 2e-7 of
// max(1, |x|). Easy to break: an infinite x must give no NaN where the limit is finite.
// Test: ctest -R kernels_elementwise_cuda.
#pragma once

#include "core/cuda_kernel.h"
#include "core/kernels/gelu_kind.h"

namespace minibert {

/// P(Z <= x), Z normal. In the left tail erff rounds near -1, so the error is absolute: 6e-8.
__device__ __forceinline__ float normal_probability(float x) {
  return 0.5f + 0.5f * erff(x * 0.707106781187f);
}
__device__ __forceinline__ float gelu_erf(float x) {
  return x * normal_probability(x);
}
/// __expf errs by |argument| / 2^24 relatively; e^-a a stays below 0.37, so that is little.
__device__ __forceinline__ float gelu_erf_slope(float x) {
  const float density = 0.398942280401f * __expf(-0.5f * x * x);
  return normal_probability(x) + x * density;
}

/// s = 1 / (1 + e^-u) of the tanh form's u = 2 sqrt(2/pi) (x + 0.044715 x^3), and s (1 - s); neither
/// is taken as a difference from 1.
struct GeluLogistic {
  float value, slope;
};
__device__ __forceinline__ GeluLogistic gelu_logistic(float x) {
  const float u = x * (1.59576912161f + 0.0713548162726f * x * x);
  const float e = __expf(-fabsf(u));  // at most 1
  const float larger = __fdividef(1.0f, 1.0f + e), smaller = e * larger;
  return {u < 0 ? smaller : larger, smaller * larger};
}
__device__ __forceinline__ float gelu_tanh(float x) {
  return x * gelu_logistic(x).value;
}
/// s + x s (1 - s) u'. Where s (1 - s) is 0 the product is 0, though u' may have overflowed.
__device__ __forceinline__ float gelu_tanh_slope(float x) {
  const GeluLogistic s = gelu_logistic(x);
  const float slope = 1.59576912161f + 0.214064448818f * x * x;
  return s.value + (s.slope == 0.0f ? 0.0f : x * slope * s.slope);
}

template <Gelu kKind>
__device__ __forceinline__ float gelu(float x) {
  if constexpr (kKind == Gelu::erf) {
    return gelu_erf(x);
  } else {
    return gelu_tanh(x);
  }
}
template <Gelu kKind>
__device__ __forceinline__ float gelu_slope(float x) {
  if constexpr (kKind == Gelu::erf) {
    return gelu_erf_slope(x);
  } else {
    return gelu_tanh_slope(x);
  }
}

}  // namespace minibert
