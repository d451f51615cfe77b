// gemm_simd.h: what gemm_simd.cpp offers at each instruction set, for gemm_builtin.cpp and the
// epilogues of gemm.cpp. One call works on the calling thread.
#pragma once

#include <stdint.h>

#include "core/simd.h"

namespace minibert {

/// Rows of op(a), and columns of op(b), that one call of the inner kernel multiplies.
struct GemmTile {
  int64_t rows, columns;
};

/// A matrix to be packed: element (line, k) is at data[line * line_stride + k * k_stride], one of
/// the two strides being 1. Lines are rows of op(a) or columns of op(b).
struct GemmOperand {
  const float* data;
  int64_t line_stride, k_stride;
};

/// c[rows, columns] = (add_c ? c : 0) + product of packed panels, which lie `panel_stride` apart.
struct GemmTileTask {
  const float *a_panels, *b_panels;
  int64_t depth;  // elements of K
  float* c;
  int64_t c_stride, rows, columns;
  bool add_c;
};

MB_SIMD_DECLARE(GemmTile, gemm_tile, ())
/// Packs `lines` <= width lines of `depth` elements as panel [depth, width], zeros beyond `lines`.
MB_SIMD_DECLARE(void, gemm_pack,
                (const GemmOperand& from, int64_t lines, int64_t width, int64_t depth,
                 float* panel))
MB_SIMD_DECLARE(void, gemm_multiply, (const GemmTileTask& task))

/// pre[i] += bias[i] (bias may be null);  c[i] = gelu(pre[i]).  pre may be c.
MB_SIMD_DECLARE(void, gemm_bias_gelu_row,
                (float* pre, const float* bias, float* c, int64_t N, bool erf))
/// c[i] *= gelu'(pre[i]);  sums[i] += c[i] unless `sums` is null.
MB_SIMD_DECLARE(void, gemm_dgelu_row,
                (float* c, const float* pre, double* sums, int64_t N, bool erf))

}  // namespace minibert
