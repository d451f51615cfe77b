// optimizer_simd.h: what optimizer.cpp asks of optimizer_simd.cpp: one chunk of one tensor at a
// time. Plain values and pointers only: the other side is compiled once per instruction set
// (core/simd.h).
#pragma once

#include <cstdint>

#include "core/simd.h"

namespace minibert {

/// `n` elements of each buffer, n up to kOptimizerChunk and of any alignment.
struct AdamChunk {
  float* w = nullptr;
  const float* g = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  int64_t n = 0;
};
/// Section 1's letters, and what one tensor's update needs.
struct AdamConstants {
  float c = 1, b1 = 0, one_minus_b1 = 0, b2 = 0, one_minus_b2 = 0, cm = 1, cv = 1, eps = 0;
  float decay = 0;  // added to the direction as decay * w
  float keep = 1;   // w is multiplied with it first: 1 - lr decay in PyTorch's order
  float step = 0;   // lr, or lr * trust ratio
};
struct SquareSums {
  double weight = 0, update = 0;
};

/// LAMB's first pass: updates m and v, returns the sums of w^2 and u^2.
MB_SIMD_DECLARE(SquareSums, lamb_moments, (const AdamChunk& chunk, const AdamConstants& a))
/// LAMB's second pass: w -= step u, with u from m, v and w.
MB_SIMD_DECLARE(void, lamb_apply, (const AdamChunk& chunk, const AdamConstants& a))
/// m, v, then w = keep w - step (r + decay w).
MB_SIMD_DECLARE(void, adamw_chunk, (const AdamChunk& chunk, const AdamConstants& a))
MB_SIMD_DECLARE(double, square_sum, (const float* x, int64_t n))

}  // namespace minibert
