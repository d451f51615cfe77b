// half_math.h: the functions on __half and __nv_bfloat16 that NVIDIA's headers keep for nvcc: fused
// multiply-add, elementary functions, roundings to whole numbers; each for one value and for two.
// Computed in f32 or f64 and rounded once. Called by kernels under CUDA's names. Easy to break: a
// fused multiply-add of 16-bit values must not round its product, so it runs in f64.
// Source: CUDA Math API 13.0, half and bfloat16. Test: ctest -R simt_engine_device_math.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tools/simt/device_math.h"

namespace simt {

inline float widen(__half x) {
  return __half2float(x);
}
inline float widen(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
template <typename T>
T narrow(double x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __double2half(x);
  } else {
    return __double2bfloat16(x);
  }
}
/// f applied to both halves of T2 = __half2 or __nv_bfloat162.
template <typename T2, typename Function>
T2 each(const T2& x, const Function& f) {
  T2 y;
  y.x = f(x.x);
  y.y = f(x.y);
  return y;
}
/// max(x, 0); NaN becomes the type's NaN.
template <typename T>
T relu(T x) {
  return widen(x) < 0 ? narrow<T>(0) : x;
}
template <typename T>
T saturate(T x) {
  return narrow<T>(__saturatef(widen(x)));
}

}  // namespace simt

#define SIMT_FUSED(T, T2)                                                            \
  inline T __hfma(T a, T b, T c) {                                                   \
    return simt::narrow<T>(std::fma(static_cast<double>(simt::widen(a)),             \
                                    static_cast<double>(simt::widen(b)),             \
                                    static_cast<double>(simt::widen(c))));           \
  }                                                                                  \
  inline T __hfma_relu(T a, T b, T c) {                                              \
    return simt::relu(__hfma(a, b, c));                                              \
  }                                                                                  \
  inline T __hfma_sat(T a, T b, T c) {                                               \
    return simt::saturate(__hfma(a, b, c));                                          \
  }                                                                                  \
  inline T2 __hfma2(T2 a, T2 b, T2 c) {                                              \
    T2 d;                                                                            \
    d.x = __hfma(a.x, b.x, c.x);                                                     \
    d.y = __hfma(a.y, b.y, c.y);                                                     \
    return d;                                                                        \
  }                                                                                  \
  inline T2 __hfma2_relu(T2 a, T2 b, T2 c) {                                         \
    return simt::each(__hfma2(a, b, c), [](T x) { return simt::relu(x); });          \
  }                                                                                  \
  inline T2 h2div(T2 a, T2 b) {                                                      \
    T2 c;                                                                            \
    c.x = simt::narrow<T>(static_cast<double>(simt::widen(a.x)) / simt::widen(b.x)); \
    c.y = simt::narrow<T>(static_cast<double>(simt::widen(a.y)) / simt::widen(b.y)); \
    return c;                                                                        \
  }
SIMT_FUSED(__half, __half2)
SIMT_FUSED(__nv_bfloat16, __nv_bfloat162)
#undef SIMT_FUSED

/// hNAME(x) and h2NAME(x): `expression` of the double x.
#define SIMT_UNARY(name, expression)                                     \
  inline __half h##name(__half value) {                                  \
    const double x = simt::widen(value);                                 \
    return simt::narrow<__half>(expression);                             \
  }                                                                      \
  inline __nv_bfloat16 h##name(__nv_bfloat16 value) {                    \
    const double x = simt::widen(value);                                 \
    return simt::narrow<__nv_bfloat16>(expression);                      \
  }                                                                      \
  inline __half2 h2##name(__half2 both) {                                \
    return simt::each(both, [](__half x) { return h##name(x); });        \
  }                                                                      \
  inline __nv_bfloat162 h2##name(__nv_bfloat162 both) {                  \
    return simt::each(both, [](__nv_bfloat16 x) { return h##name(x); }); \
  }
SIMT_UNARY(exp, std::exp(x))
SIMT_UNARY(exp2, std::exp2(x))
SIMT_UNARY(exp10, std::pow(10.0, x))
SIMT_UNARY(log, std::log(x))
SIMT_UNARY(log2, std::log2(x))
SIMT_UNARY(log10, std::log10(x))
SIMT_UNARY(sqrt, std::sqrt(x))
SIMT_UNARY(rsqrt, 1 / std::sqrt(x))
SIMT_UNARY(rcp, 1 / x)
SIMT_UNARY(sin, std::sin(x))
SIMT_UNARY(cos, std::cos(x))
SIMT_UNARY(tanh, std::tanh(x))
SIMT_UNARY(floor, std::floor(x))
SIMT_UNARY(ceil, std::ceil(x))
SIMT_UNARY(rint, std::nearbyint(x))
SIMT_UNARY(trunc, std::trunc(x))
#undef SIMT_UNARY

#define SIMT_TO_INTEGER(T, name)                                 \
  inline int __##name##2int_rn(T x) {                            \
    return simt::saturated<int>(std::nearbyint(simt::widen(x))); \
  }                                                              \
  inline int __##name##2int_rd(T x) {                            \
    return simt::saturated<int>(std::floor(simt::widen(x)));     \
  }                                                              \
  inline int __##name##2int_ru(T x) {                            \
    return simt::saturated<int>(std::ceil(simt::widen(x)));      \
  }
SIMT_TO_INTEGER(__half, half)
SIMT_TO_INTEGER(__nv_bfloat16, bfloat16)
#undef SIMT_TO_INTEGER
