// reduce_simd.h: what reduce_simd.cpp offers at each instruction set, for reduce.cpp and gemm's
// column sums. One call works on the calling thread; every sum is taken in double.
#pragma once

#include <stdint.h>

#include "core/simd.h"

namespace minibert {

/// sums[h] = sum over the rows, in ascending order.  Shapes x [rows, H]; sums [H].
MB_SIMD_DECLARE(void, sum_rows, (const float* x, int64_t rows, int64_t H, double* sums))
/// y[h] (+)= sum over the blocks, in ascending order.  Shapes partial [blocks, H].
MB_SIMD_DECLARE(void, add_partials,
                (const double* partial, int64_t blocks, int64_t H, float* y, bool accumulate))
/// Sums of n elements.
MB_SIMD_DECLARE(double, sum_chunk, (const float* x, int64_t n))
MB_SIMD_DECLARE(double, sum_of_squares_chunk, (const float* x, int64_t n))
MB_SIMD_DECLARE(bool, finite_chunk, (const float* x, int64_t n))

}  // namespace minibert
