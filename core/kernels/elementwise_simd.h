// elementwise_simd.h: functions of math_simd.h over f32 arrays at each instruction set, for their
// tests. One call works on the calling thread; y may be an input, but not overlap one
// otherwise.
#pragma once

#include <stdint.h>

#include "core/simd.h"

namespace minibert {

MB_SIMD_DECLARE(void, exp_block, (const float* x, float* y, int64_t n))
MB_SIMD_DECLARE(void, erf_block, (const float* x, float* y, int64_t n))
MB_SIMD_DECLARE(void, tanh_block, (const float* x, float* y, int64_t n))

}  // namespace minibert
