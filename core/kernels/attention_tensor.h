// attention_tensor.h: products on tensor cores as attention uses them: which register of which lane
// holds which element is known here and in ptx.h alone. Included by attention_forward.cu and
// attention_backward.cu. Names: g = lane / 4, t = lane % 4 as in ptx.h.
// Easy to break: a product's result becomes the next one's left operand without leaving its
// registers (as_left), so the right operand's rows must come in the order of the result's columns.
#pragma once

#include "core/kernels/attention_cuda.h"

namespace minibert::attention_cuda {

/// Operands of mma.sync, elements T (bf16 or f16), 16 terms of each sum at a time. Left operands are
/// 16 rows, right operands 16 columns in two fragments of 8.
template <typename T>
struct HalfCore {
  using Element = T;
  static constexpr int kDepth = 16;
  using Left = uint32_t[4];
  using Right = uint32_t[2][2];

  static __device__ __forceinline__ void multiply(float (&c)[4], const Left& a,
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k16<T>(c, a, b);
  }
  /// a = rows row .. row + 15, columns column .. column + 15 of the tile.
  template <int D>
  static __device__ __forceinline__ void load_left(Left& a, const Tile<T, D>& tile, int row,
                                                   int column) {
    const int lane = lane_id();
    ldmatrix_x4(a, tile.chunk(row + lane % 16, column / 8 + lane / 16));
  }
  /// The same of the transposed tile: a_ij is element (row + j, column + i).
  template <int D>
  static __device__ __forceinline__ void load_left_transposed(Left& a, const Tile<T, D>& tile,
                                                              int row, int column) {
    const int lane = lane_id();
    ldmatrix_x4_trans(a, tile.chunk(row + lane / 16 * 8 + lane % 8, column / 8 + lane / 8 % 2));
  }
  /// b_ij, i terms of the sum, j columns of the result = element (row + j, column + i).
  template <int D>
  static __device__ __forceinline__ void load_right(Right& b, const Tile<T, D>& tile, int row,
                                                    int column) {
    const int lane = lane_id();
    ldmatrix_x4(b[0][0], b[0][1], b[1][0], b[1][1],
                tile.chunk(row + lane / 16 * 8 + lane % 8, column / 8 + lane / 8 % 2));
  }
  /// b_ij = element (row + i, column + j).
  template <int D>
  static __device__ __forceinline__ void load_right_transposed(Right& b, const Tile<T, D>& tile,
                                                               int row, int column) {
    const int lane = lane_id();
    ldmatrix_x4_trans(b[0][0], b[0][1], b[1][0], b[1][1],
                      tile.chunk(row + lane % 16, column / 8 + lane / 16));
  }
  /// Columns 16 k .. 16 k + 15 of a result [16, 8 kTiles], rounded to T, as a left operand.
  template <int kTiles>
  static __device__ __forceinline__ void as_left(Left& a, const float (&c)[kTiles][4], int k) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      a[i] = pack2<T>(c[2 * k + i / 2][i % 2 * 2], c[2 * k + i / 2][i % 2 * 2 + 1]);
  }
  /// Stores two neighbouring elements, rounded.
  static __device__ __forceinline__ void store_pair(T* to, float x, float y) {
    *reinterpret_cast<uint32_t*>(to) = pack2<T>(x, y);
  }
};

/// The same with f32 elements rounded to tf32, 8 terms at a time. A result's columns 2t and 2t + 1
/// lie in lane t, but a left operand's terms t and t + 4: so terms are counted in the order 0, 2, 4,
/// 6, 1, 3, 5, 7 wherever a result is the left operand, and the order of a sum's terms is free.
struct Tf32Core {
  using Element = float;
  static constexpr int kDepth = 8;
  using Left = uint32_t[4];
  using Right = uint32_t[2][2];

  static __device__ __forceinline__ void multiply(float (&c)[4], const Left& a,
                                                  const uint32_t (&b)[2]) {
    mma_m16n8k8_tf32(c, a, b);
  }
  template <int D>
  static __device__ __forceinline__ void load_left(Left& a, const Tile<float, D>& tile, int row,
                                                   int column) {
    const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      a[i] = cvt_tf32(*tile.at(row + g + i % 2 * 8, column + t + i / 2 * 4));
  }
  template <int D>
  static __device__ __forceinline__ void load_left_transposed(Left& a, const Tile<float, D>& tile,
                                                              int row, int column) {
    const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      a[i] = cvt_tf32(*tile.at(row + 2 * t + i / 2, column + g + i % 2 * 8));
  }
  template <int D>
  static __device__ __forceinline__ void load_right(Right& b, const Tile<float, D>& tile, int row,
                                                    int column) {
    const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      b[i / 2][i % 2] = cvt_tf32(*tile.at(row + i / 2 * 8 + g, column + t + i % 2 * 4));
  }
  template <int D>
  static __device__ __forceinline__ void load_right_transposed(Right& b, const Tile<float, D>& tile,
                                                               int row, int column) {
    const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      b[i / 2][i % 2] = cvt_tf32(*tile.at(row + 2 * t + i % 2, column + i / 2 * 8 + g));
  }
  template <int kTiles>
  static __device__ __forceinline__ void as_left(Left& a, const float (&c)[kTiles][4], int k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = cvt_tf32(c[k][i % 2 * 2 + i / 2]);
  }
  static __device__ __forceinline__ void store_pair(float* to, float x, float y) {
    *reinterpret_cast<float2*>(to) = make_float2(x, y);
  }
};

/// Accumulators of a warp: kRowTiles times 16 rows, kColumns columns.
template <int kRowTiles, int kColumns>
using Accumulators = float[kRowTiles][kColumns / 8][4];

/// Left operands of a warp: all columns of kRowTiles times 16 rows.
template <typename Core, int kRowTiles, int D>
using LeftRows = uint32_t[kRowTiles][D / Core::kDepth][4];

template <typename Core, int kRowTiles, int D>
__device__ __forceinline__ void load_left_rows(LeftRows<Core, kRowTiles, D>& r_rows,
                                               const Tile<typename Core::Element, D>& s_tile,
                                               int row) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int k = 0; k < D / Core::kDepth; ++k)
      Core::load_left(r_rows[m][k], s_tile, row + 16 * m, k * Core::kDepth);
}

/// c = a b^T over all D columns: a from registers, b = rows row .. row + kColumns - 1 of a tile.
template <typename Core, int kRowTiles, int kColumns, int D>
__device__ __forceinline__ void multiply_rows(Accumulators<kRowTiles, kColumns>& r_c,
                                              const LeftRows<Core, kRowTiles, D>& r_a,
                                              const Tile<typename Core::Element, D>& s_b, int row) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) r_c[m][n][i] = 0;
#pragma unroll
  for (int k = 0; k < D / Core::kDepth; ++k) {
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      typename Core::Right r_b;
      Core::load_right(r_b, s_b, row + 16 * n, k * Core::kDepth);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        Core::multiply(r_c[m][2 * n], r_a[m][k], r_b[0]);
        Core::multiply(r_c[m][2 * n + 1], r_a[m][k], r_b[1]);
      }
    }
  }
}

/// The same with a = rows a_row .. of a tile, for where the registers do not hold it.
template <typename Core, int kRowTiles, int kColumns, int D>
__device__ __forceinline__ void multiply_rows(Accumulators<kRowTiles, kColumns>& r_c,
                                              const Tile<typename Core::Element, D>& s_a, int a_row,
                                              const Tile<typename Core::Element, D>& s_b, int row) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) r_c[m][n][i] = 0;
#pragma unroll
  for (int k = 0; k < D / Core::kDepth; ++k) {
    typename Core::Left r_a[kRowTiles];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
      Core::load_left(r_a[m], s_a, a_row + 16 * m, k * Core::kDepth);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      typename Core::Right r_b;
      Core::load_right(r_b, s_b, row + 16 * n, k * Core::kDepth);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        Core::multiply(r_c[m][2 * n], r_a[m], r_b[0]);
        Core::multiply(r_c[m][2 * n + 1], r_a[m], r_b[1]);
      }
    }
  }
}

/// c += a b, where a [rows, kTerms] is a former result and b = rows row .. of a tile, all columns.
template <typename Core, int kRowTiles, int kTerms, int D>
__device__ __forceinline__ void add_product(Accumulators<kRowTiles, D>& r_c,
                                            const Accumulators<kRowTiles, kTerms>& r_a,
                                            const Tile<typename Core::Element, D>& s_b, int row) {
#pragma unroll
  for (int k = 0; k < kTerms / Core::kDepth; ++k) {
    typename Core::Left r_left[kRowTiles];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) Core::as_left(r_left[m], r_a[m], k);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      typename Core::Right r_b;
      Core::load_right_transposed(r_b, s_b, row + k * Core::kDepth, 16 * n);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        Core::multiply(r_c[m][2 * n], r_left[m], r_b[0]);
        Core::multiply(r_c[m][2 * n + 1], r_left[m], r_b[1]);
      }
    }
  }
}

/// Row of a tile that element `half` (0: c[0], c[1]; 1: c[2], c[3]) of accumulator m lies in.
__device__ __forceinline__ int row_of(int m, int half) {
  return 16 * m + 8 * half + lane_id() / 4;
}
/// First of the two columns that this lane holds of accumulator n.
__device__ __forceinline__ int column_of(int n) {
  return 8 * n + lane_id() % 4 * 2;
}

/// Scores of keys that do not exist: -infinity in rows, or columns, from a number on.
template <int kRowTiles, int kColumns>
__device__ __forceinline__ void mask_rows(Accumulators<kRowTiles, kColumns>& r_scores, int rows) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (row_of(m, half) < rows) continue;
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n)
        r_scores[m][n][2 * half] = r_scores[m][n][2 * half + 1] = -INFINITY;
    }
  }
}
template <int kRowTiles, int kColumns>
__device__ __forceinline__ void mask_columns(Accumulators<kRowTiles, kColumns>& r_scores,
                                             int columns) {
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (column_of(n) + i % 2 < columns) continue;
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) r_scores[m][n][i] = -INFINITY;
    }
  }
}

/// Which elements of a piece of s^T [16 kRowTiles keys, kColumns queries] dropout keeps. A lane draws
/// half of the quads that it shares with the lane of the neighbouring key (attention_backward.cu,
/// section 8), and trades answers with it.
template <int kRowTiles, int kColumns>
class TransposedKeep {
 public:
  /// For the piece whose first element is (query, key). Before it, everything is kept.
  template <typename T>
  __device__ __forceinline__ void draw(const HeadDropout<T>& dropout, int query, int key) {
    static_assert(kRowTiles * kColumns / 16 <= 4, "eight bits of a word for each 16 x 16 piece");
    const int g = lane_id() / 4, t = lane_id() % 4, odd = g % 2;
    uint32_t own = 0;
#pragma unroll 1  // two draws at a time: more need registers that are not there
    for (int piece = 0; piece < kPieces; ++piece) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const PhiloxOutput words =
            dropout.quad(query + piece % (kColumns / 16) * 16 + 2 * t + odd,
                         key + piece / (kColumns / 16) * 16 + half * 8 + g - odd);
#pragma unroll
        for (int o = 0; o < 4; ++o)
          if (dropout.keeps(words[o])) own |= 1u << (8 * piece + 4 * half + o);
      }
    }
    const uint32_t other = __shfl_xor_sync(kFullMask, own, 4);
    // Output 2 (query + 8) + (key + 1): ours is every other one.
    column_[0] = (odd ? other : own) >> odd;
    column_[1] = (odd ? own : other) >> odd;
  }
  __device__ __forceinline__ bool keeps(int m, int n, int i) const {
    const int piece = m * (kColumns / 16) + n / 2;
    return (column_[i % 2] >> (8 * piece + 4 * (i / 2) + 2 * (n % 2)) & 1) != 0;
  }

 private:
  static constexpr int kPieces = kRowTiles * kColumns / 16;
  uint32_t column_[2] = {~0u, ~0u};  // answers for accumulators of even and odd queries
};

/// Sum and maximum over the four lanes that hold a row.
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kFullMask, x, 1);
  return x + __shfl_xor_sync(kFullMask, x, 2);
}
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullMask, x, 2));
}

/// Writes a warp's rows, factor(m, half) times the accumulators, to global memory: first into rows
/// row .. of a tile that no other warp reads any more, then out in 16 bytes a lane. `to` is where the
/// tile's row 0 belongs; `count` rows of the tile exist.
template <typename Core, int kRowTiles, int D, typename Factor>
__device__ __forceinline__ void store_rows(const Accumulators<kRowTiles, D>& r_c,
                                           const Factor& factor,
                                           const Tile<typename Core::Element, D>& s_tile, int row,
                                           typename Core::Element* to, int64_t stride, int count) {
  using T = typename Core::Element;
  constexpr int kChunks = Tile<T, D>::kChunks;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float r_factor = factor(m, half);
#pragma unroll
      for (int n = 0; n < D / 8; ++n)
        Core::store_pair(s_tile.at(row + row_of(m, half), column_of(n)),
                         r_factor * r_c[m][n][2 * half], r_factor * r_c[m][n][2 * half + 1]);
    }
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16 * kRowTiles * kChunks; i += kWarpSize) {
    const int r = row + (i + lane_id()) / kChunks, c = (i + lane_id()) % kChunks;
    if (r < count)
      *reinterpret_cast<uint4*>(to + r * stride + c * kPack<T>) =
          *reinterpret_cast<const uint4*>(s_tile.chunk(r, c));
  }
}

}  // namespace minibert::attention_cuda
