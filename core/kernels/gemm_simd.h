// gemm_simd.h: what gemm_simd.cpp offers at each instruction set, for gemm_builtin.cpp and the
// epilogues of gemm.cpp. One call works on the calling thread.
#pragma once

#include <stdint.h>

#include "core/kernels/gemm.h"
#include "core/simd.h"

namespace minibert {

/// Rows of op(a), and columns of op(b), that one call of the inner kernel multiplies.
struct GemmTile {
  int64_t rows, columns;
};

/// A matrix to be packed: element (line, k) is number line * line_stride + k * k_stride, one of the
/// two strides being 1. Lines are rows of op(a) or columns of op(b).
struct GemmOperand {
  const void* data;
  DType type;
  int64_t line_stride, k_stride;

  /// The same, from (line, k) on.
  MB_INLINE GemmOperand from(int64_t line, int64_t k) const {
    const int64_t skipped = line * line_stride + k * k_stride;
    return {static_cast<const char*>(data) + skipped * static_cast<int64_t>(size_of(type)), type,
            line_stride, k_stride};
  }
};

/// c[rows, columns] = (add_c ? c : 0) + product of packed panels, which lie `panel_stride` apart.
struct GemmTileTask {
  const float *a_panels, *b_panels;
  int64_t depth;  // elements of K
  float* c;
  int64_t c_stride, rows, columns;
  bool add_c;
};

/// A finished rectangle of the product: row + i, column + j at product[i * stride + j].
struct GemmPart {
  float* product;
  int64_t stride, row, rows, column, columns;
};

MB_SIMD_DECLARE(GemmTile, gemm_tile, ())
/// Packs `lines` <= width lines of `depth` elements as panel [depth, width] in f32, zeros beyond
/// `lines`.
MB_SIMD_DECLARE(void, gemm_pack,
                (const GemmOperand& from, int64_t lines, int64_t width, int64_t depth,
                 float* panel))
MB_SIMD_DECLARE(void, gemm_multiply, (const GemmTileTask& task))

/// Adds bias and what a 16-bit c held, applies the epilogue and writes c. The product may lie in c
/// or in pre_activation; it is scratch afterwards. sums[j] += column j of the part, before
/// rounding, unless `sums` is null.
MB_SIMD_DECLARE(void, gemm_finish, (const GemmArgs& args, const GemmPart& part, double* sums))

}  // namespace minibert
