// reduce_simd.h: partial sums of columns, which gemm's epilogue shares with column_sum.
// Implemented by reduce_simd.cpp at each instruction set and by reduce.cpp.
#pragma once

#include <stdint.h>

#include "core/simd.h"

namespace minibert {

/// One row of sums a block, [blocks, H].
struct PartialSums {
  const double* data;
  int64_t blocks, H;
};

/// y[h] (+)= sum over the blocks, in ascending order, for columns begin .. end - 1.
MB_SIMD_DECLARE(void, add_partials,
                (const PartialSums& sums, float* y, bool accumulate, int64_t begin, int64_t end))
/// The same for all columns, on all threads.
void add_columns(const PartialSums& sums, float* y, bool accumulate);

}  // namespace minibert
