// attention_tiled.h: products of f32 tiles in shared memory by plain multiply-adds, as attention's
// exact f32 path and its path for any head size use them. Included by attention_forward.cu and
// attention_backward.cu. Easy to break: a thread holds whole quads of dropout, so its rows and
// columns are not neighbours: query_of and key_of say which they are.
#pragma once

#include "core/kernels/attention_cuda.h"

namespace minibert::attention_cuda {

/// Rows of D f32 elements. Chunks of four are permuted within eight of them, so that the rows 0, 2,
/// .., 14 that eight threads read together lie in different banks, as eight neighbours do.
template <int D>
struct PermutedTile {
  static constexpr int kChunks = D / 4;
  static_assert(kChunks % 8 == 0);

  float* data;

  __device__ __forceinline__ float* chunk(int row, int c) const {
    return data + row * D + (c ^ ((row ^ row >> 3) & 7)) * 4;
  }
  __device__ __forceinline__ float* at(int row, int column) const {
    return chunk(row, column / 4) + column % 4;
  }
};

/// 256 threads as 16 x 16: thread (y, x) = (thread / 16, thread % 16). A tile is kRows queries times
/// kRows keys; a thread owns kQuads x kQuads quads of it (queries i and i + 8, keys j and j + 1),
/// and D / 16 columns of 2 kQuads rows of a product with D columns.
template <int kRows_, int D_>
struct TiledShape {
  static constexpr int kThreads = 256, kRows = kRows_, D = D_, kQuads = kRows / 32,
                       kOwn = 2 * kQuads;
  static constexpr int kColumns = D / 16 < 4 ? D / 16 : 4;  // a thread's neighbouring columns
  static constexpr int kGroups = D / 16 / kColumns;         // of them
  using Rows = PermutedTile<D>;                             // [kRows, D]
  using Scores = PermutedTile<kRows>;                       // [kRows, kRows]
  static constexpr size_t kRowsBytes = sizeof(float) * kRows * D,
                          kScoresBytes = sizeof(float) * kRows * kRows;
};

__device__ __forceinline__ int thread_y() {
  return static_cast<int>(threadIdx.x) / 16;
}
__device__ __forceinline__ int thread_x() {
  return static_cast<int>(threadIdx.x) % 16;
}
/// The query of a thread's row i of scores, and the key of its column j, in the tile.
template <typename Shape>
__device__ __forceinline__ int query_of(int i) {
  const int quad = thread_y() * Shape::kQuads + i / 2;
  return quad / 8 * 16 + quad % 8 + i % 2 * 8;
}
template <typename Shape>
__device__ __forceinline__ int key_of(int j) {
  return (thread_x() + 16 * (j / 2)) * 2 + j % 2;
}
/// The first of a thread's columns of group c, of D.
template <typename Shape>
__device__ __forceinline__ int column_of_group(int c) {
  return (thread_x() + 16 * c) * Shape::kColumns;
}

/// Scores of a thread, by queries and keys.
template <typename Shape>
using TiledScores = float[Shape::kOwn][Shape::kOwn];
/// A thread's part of kOwn rows with D columns.
template <typename Shape>
using TiledRows = float[Shape::kOwn][Shape::kGroups][Shape::kColumns];

/// Four elements of a row from column `d` on, as f32, zeros from column D on.
template <typename T>
__device__ __forceinline__ Pack<float, 4> load_four(const T* row, int d, int D, bool aligned) {
  if (aligned && d + 4 <= D) return to_floats(load_pack<4>(row + d));
  Pack<float, 4> r_four;
#pragma unroll
  for (int i = 0; i < 4; ++i) r_four[i] = d + i < D ? to_float(row[d + i]) : 0.0f;
  return r_four;
}

/// Copies `count` rows of D elements into a tile of f32, with zeros around them.
template <typename Shape, typename T>
__device__ __forceinline__ void load_tiled_rows(const typename Shape::Rows& s_tile, const T* from,
                                                int64_t stride, int count, int D, bool aligned) {
  constexpr int kChunks = Shape::Rows::kChunks;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < Shape::kRows * kChunks; i += Shape::kThreads) {
    const int row = i / kChunks, c = i % kChunks;
    Pack<float, 4> r_four = {};
    if (row < count) r_four = load_four(from + row * stride, 4 * c, D, aligned);
    store_pack(s_tile.chunk(row, c), r_four);
  }
}

/// c = a b^T: rows of queries times rows of keys.
template <typename Shape>
__device__ __forceinline__ void tiled_scores(TiledScores<Shape>& r_c,
                                             const typename Shape::Rows& s_a,
                                             const typename Shape::Rows& s_b) {
#pragma unroll
  for (int i = 0; i < Shape::kOwn; ++i)
#pragma unroll
    for (int j = 0; j < Shape::kOwn; ++j) r_c[i][j] = 0;
#pragma unroll 2
  for (int c = 0; c < Shape::Rows::kChunks; ++c) {
    Pack<float, 4> r_a[Shape::kOwn], r_b[Shape::kOwn];
#pragma unroll
    for (int i = 0; i < Shape::kOwn; ++i) r_a[i] = load_pack<4>(s_a.chunk(query_of<Shape>(i), c));
#pragma unroll
    for (int j = 0; j < Shape::kOwn; ++j) r_b[j] = load_pack<4>(s_b.chunk(key_of<Shape>(j), c));
#pragma unroll
    for (int d = 0; d < 4; ++d)
#pragma unroll
      for (int i = 0; i < Shape::kOwn; ++i)
#pragma unroll
        for (int j = 0; j < Shape::kOwn; ++j) r_c[i][j] += r_a[i][d] * r_b[j][d];
  }
}

/// Writes a thread's scores to shared memory as [query, key], or transposed as [key, query].
template <typename Shape>
__device__ __forceinline__ void store_scores(const TiledScores<Shape>& r_c,
                                             const typename Shape::Scores& s_c) {
#pragma unroll
  for (int i = 0; i < Shape::kOwn; ++i)
#pragma unroll
    for (int j = 0; j < Shape::kOwn; j += 2)
      store_pack(s_c.at(query_of<Shape>(i), key_of<Shape>(j)),
                 Pack<float, 2>{{r_c[i][j], r_c[i][j + 1]}});
}
template <typename Shape>
__device__ __forceinline__ void store_scores_transposed(const TiledScores<Shape>& r_c,
                                                        const typename Shape::Scores& s_c) {
#pragma unroll
  for (int i = 0; i < Shape::kOwn; ++i)
#pragma unroll
    for (int j = 0; j < Shape::kOwn; ++j) *s_c.at(key_of<Shape>(j), query_of<Shape>(i)) = r_c[i][j];
}

/// c += a b: this thread's rows row_of(0), row_of(1), .. of a [kRows, kRows] times rows of b.
template <typename Shape, typename RowOf>
__device__ __forceinline__ void add_tiled_product(TiledRows<Shape>& r_c,
                                                  const typename Shape::Scores& s_a,
                                                  const typename Shape::Rows& s_b,
                                                  const RowOf& row_of) {
  using Columns = Pack<float, Shape::kColumns>;
#pragma unroll 2
  for (int c = 0; c < Shape::kRows / 4; ++c) {
    Pack<float, 4> r_a[Shape::kOwn];
#pragma unroll
    for (int i = 0; i < Shape::kOwn; ++i) r_a[i] = load_pack<4>(s_a.chunk(row_of(i), c));
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int group = 0; group < Shape::kGroups; ++group) {
        const Columns r_b =
            load_pack<Shape::kColumns>(s_b.at(4 * c + k, column_of_group<Shape>(group)));
#pragma unroll
        for (int i = 0; i < Shape::kOwn; ++i)
#pragma unroll
          for (int d = 0; d < Shape::kColumns; ++d) r_c[i][group][d] += r_a[i][k] * r_b[d];
      }
    }
  }
}

/// Writes factor(i) times this thread's rows, where they exist.
template <typename Shape, typename T, typename RowOf, typename Factor>
__device__ __forceinline__ void store_tiled_rows(const TiledRows<Shape>& r_c, const RowOf& row_of,
                                                 const Factor& factor, T* to, int64_t stride,
                                                 int count, int D) {
#pragma unroll
  for (int i = 0; i < Shape::kOwn; ++i) {
    const int row = row_of(i);
    if (row >= count) continue;
    const float r_factor = factor(i);
#pragma unroll
    for (int group = 0; group < Shape::kGroups; ++group)
#pragma unroll
      for (int d = 0; d < Shape::kColumns; ++d) {
        const int column = column_of_group<Shape>(group) + d;
        if (column < D) to[row * stride + column] = from_float<T>(r_factor * r_c[i][group][d]);
      }
  }
}

}  // namespace minibert::attention_cuda
