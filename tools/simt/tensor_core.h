// tensor_core.h: mma and ldmatrix as meetings of a warp: the last lane gathers the fragments into
// plain matrices, multiplies, and scatters the result. Called by core/ptx.h, whose comments have the
// layouts. Easy to break: products are exact and summed in f32, first c, then in order of k; a chip
// sums in another order and truncates, so compare with tolerances, not bits.
// Source: PTX ISA 9.0, 9.7.14.5.8 (m16n8k16), 9.7.14.5.6 (m16n8k8), 9.7.14.5.15 (ldmatrix).
// Test: ctest -R simt_engine_ptx, simt_engine_oracle.
#pragma once

#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tools/simt/report.h"

namespace simt {

void mma_bf16(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Place place);
void mma_f16(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Place place);
void mma_tf32(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Place place);

template <typename T>
void mma_m16n8k16(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Place place) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    mma_bf16(c, a, b0, b1, place);
  } else {
    mma_f16(c, a, b0, b1, place);
  }
}
inline void mma_m16n8k8_tf32(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Place place) {
  mma_tf32(c, a, b0, b1, place);
}

/// `matrices` (1, 2 or 4) of 8 x 8 elements; r has as many words.
void load_matrices(int matrices, bool transposed, uint32_t* r, const void* row, Place place);
template <int Matrices, bool Transposed>
void ldmatrix(uint32_t* r, const void* row, Place place) {
  load_matrices(Matrices, Transposed, r, row, place);
}

/// Rounded to 10 bits of mantissa, to nearest, ties away from zero. NaN becomes 0x7FFFFFFF.
uint32_t cvt_tf32(float x);
/// 2^x, with results below 2^-126 flushed to 0.
float exp2_approx(float x);

}  // namespace simt
