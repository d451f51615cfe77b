// elementwise_simd.h: what elementwise_simd.cpp offers at each instruction set, for elementwise.cpp
// and gemm's epilogues. One call works on one block on the calling thread; arrays may be the same
// (in place), but not overlap otherwise.
#pragma once

#include <stdint.h>

#include "core/simd.h"

namespace minibert {

/// The fields of Dropout (core/random.h) that the kernel reads, without its inline functions.
struct DropoutSite {
  uint64_t seed;
  uint32_t step_layer_purpose, threshold;
  float scale;
};

MB_SIMD_DECLARE(void, exp_block, (const float* x, float* y, int64_t n))
MB_SIMD_DECLARE(void, erf_block, (const float* x, float* y, int64_t n))
MB_SIMD_DECLARE(void, tanh_block, (const float* x, float* y, int64_t n))
/// `erf` chooses the erf form, else the tanh form.
MB_SIMD_DECLARE(void, gelu_block, (const float* x, float* y, int64_t n, bool erf))
/// dx (+)= dy * gelu'(x)
MB_SIMD_DECLARE(void, gelu_slope_block,
                (const float* x, const float* dy, float* dx, int64_t n, bool erf, bool accumulate))
/// dx (+)= dy * (1 - y^2)
MB_SIMD_DECLARE(void, tanh_slope_block,
                (const float* y, const float* dy, float* dx, int64_t n, bool accumulate))
MB_SIMD_DECLARE(void, add_block, (const float* a, const float* b, float* y, int64_t n))
MB_SIMD_DECLARE(void, multiply_block,
                (const float* a, const float* b, float* y, int64_t n, bool accumulate))
MB_SIMD_DECLARE(void, scale_block,
                (const float* x, float factor, float* y, int64_t n, bool accumulate))
MB_SIMD_DECLARE(void, fill_block, (float* y, float value, int64_t n))
/// One row of dropout_rows: x, y [H].
MB_SIMD_DECLARE(void, dropout_row,
                (const float* x, float* y, int64_t H, uint32_t position, uint32_t sample,
                 const DropoutSite& site, bool accumulate))

}  // namespace minibert
