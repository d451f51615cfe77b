// attention_backward.cu: attention's backward pass on CUDA, sections 8 to 12 of the chapter
// attention (attention.h). Called by attention.cpp through dispatch; attention_forward.cu is the
// other half, and explains the softmax and dropout's quads.
// Easy to break: every sum has one owner and one order (no atomics), so whoever adds a path must say
// who owns dq; and keys beyond the sequence's end must have probability 0 where dq is summed.
// Test: ctest -R attention_cuda. Registers and instructions: tools/check_machine_code --table.
#include "core/kernels/attention_tensor.h"
#include "core/kernels/attention_tiled.h"
#include "core/kernels/workspace.h"

// ---- 8. Idea -----------------------------------------------------------------------------------
// Three kernels. The first makes delta_i = sum_d do_id out_id. The second owns keys, and walks over
// queries, so that dk and dv grow in registers:
//
//             queries 0..31  32..63  ..            q, do: two tiles in shared memory that cp.async
//           +-----------------+------+--           fills in turn; k, v stay in shared memory
//   warp 0  | s^T  = k q^T    |      |
//   warp 1  | da^T = v do^T   |  ->  |             each warp: 32 keys (16 at D = 128, in tf32). All is
//   warp 2  | p, ds           |      |             transposed: keys are rows, so that p^T and ds^T
//   warp 3  | dv += p^T do    |      |             are, where the accumulators left them, the left
//           | dk += ds^T q    |      |             operands of the last two products.
//           +-----------------+------+--
//
// dq_i is a sum over keys. If one block owns them all (S <= 128; 64 at D = 128 and in tf32), the warps
// put ds^T into shared memory and the block finishes dq of the tile of queries at once: five
// products. For longer sequences the third kernel owns queries, walks over keys and computes s and
// da again: seven products, 7/5 of the FLOPs, and still no atomics and no sum of partial results.
// Which of the two a sequence takes follows from its length alone, on the device: the other
// kernel's blocks of the sequence end at once.
//
// Dropout's quad is two queries times two keys. In s^T a lane holds one key each of four quads:
//
//                query 2t  2t+1 ..           lanes g (even) and g + 1 share four quads of a 16 x 16
//      key g       [c0     c1]               piece. Each draws two of them, packs the eight answers
//      key g+1     [lane + 4 ]               into bits, and one shuffle trades the bits of four
//                                            pieces: as many Philox calls as forward.
//
// Blocks per SM: two, by registers. Moved from global memory: q, k, v, do once (q, do once a tile of
// keys), lse and delta; dq, dk, dv written once.

namespace minibert {
namespace attention_cuda {
namespace {

template <typename T>
struct Backward : Problem<T> {
  const T* dout;       // [N, A, D]
  const float* lse;    // [N, A]
  const float* delta;  // [N, A]
  T* dqkv;             // [N, 3, A, D]

  /// What a query subtracts: lse in units of log 2, and delta. A query that does not exist has
  /// probabilities 0, by lse = infinity.
  __device__ __forceinline__ float2 statistics(const RowTile& tile, int query) const {
    if (query >= tile.length) return make_float2(INFINITY, 0.0f);
    const int64_t at = int64_t{tile.row + query} * this->A + tile.head;
    return make_float2(lse[at] * kLog2E, delta[at]);
  }
  __device__ __forceinline__ void zero_tail(const RowTile& tile) const {
    for (int which = kQuery; which <= kValue; ++which)
      zero_rows(this->part(dqkv, static_cast<Part>(which), tile.row + tile.first, tile.head),
                this->qkv_stride(), tile.count, this->D);
  }
};

// delta, in f32 from out as it is stored. kLanes neighbouring lanes own a row of a head.
template <typename T, int kLanes, int kElements>
__global__ void MB_LAUNCH_BOUNDS(256)
    delta_rows(const T* out, const T* dout, float* delta, const int32_t* total, int A, int D) {
  const int64_t item = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const bool exists = item < int64_t{*total} * A;
  float r_sum = 0;
  for (int d = lane * kElements; exists && d < D; d += kLanes * kElements) {
    const auto r_out = load_pack<kElements>(out + item * D + d);
    const auto r_dout = load_pack<kElements>(dout + item * D + d);
#pragma unroll
    for (int i = 0; i < kElements; ++i) r_sum += to_float(r_out[i]) * to_float(r_dout[i]);
  }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    r_sum += __shfl_xor_sync(kFullMask, r_sum, distance);
  if (exists && lane == 0) delta[item] = r_sum;
}

// ---- 9. Rungs ----------------------------------------------------------------------------------
// Tiles in shared memory, in f32, by multiply-adds: production for exact f32, for head sizes that
// have no tensor-core kernel and for rows that are not aligned to 16 bytes. Two kernels always.

// p m becomes r_scores, ds without its factor `scale` r_da; r_stats as in Backward::statistics.
template <typename Shape, typename T>
__device__ __forceinline__ void tiled_softmax_backward(TiledScores<Shape>& r_scores,
                                                       TiledScores<Shape>& r_da,
                                                       const float2 (&r_stats)[Shape::kOwn],
                                                       const HeadDropout<T>& dropout, float c,
                                                       int first_query, int first_key, int keys) {
#pragma unroll
  for (int i = 0; i < Shape::kOwn; i += 2) {
#pragma unroll
    for (int j = 0; j < Shape::kOwn; j += 2) {
      PhiloxOutput r_words = {};
      if (dropout.active())
        r_words = dropout.quad(first_query + query_of<Shape>(i), first_key + key_of<Shape>(j));
#pragma unroll
      for (int o = 0; o < 4; ++o) {
        float &r_p = r_scores[i + o / 2][j + o % 2], &r_ds = r_da[i + o / 2][j + o % 2];
        const float2 r_row = r_stats[i + o / 2];
        const bool exists = key_of<Shape>(j + o % 2) < keys, keep = dropout.keeps(r_words[o]);
        const float r_full = exists ? exp2_approx(r_p * c - r_row.x) : 0.0f;
        r_p = keep ? r_full : 0.0f;
        r_ds = r_full * ((keep ? r_ds * dropout.scale() : 0.0f) - r_row.y);
      }
    }
  }
}

template <int kRows, int D>
struct BackwardTiled : TiledShape<kRows, D> {
  using Base = TiledShape<kRows, D>;
  static constexpr size_t kKeysBytes = 4 * Base::kRowsBytes + 2 * Base::kScoresBytes,
                          kQueriesBytes = 4 * Base::kRowsBytes + Base::kScoresBytes;
};

// The four tiles of rows in shared memory, and what follows them.
template <typename Shape>
struct TiledShared {
  typename Shape::Rows q, dout, k, v;
  typename Shape::Scores first, second;

  __device__ __forceinline__ explicit TiledShared(float* start)
      : q{start},
        dout{q.data + Shape::kRows * Shape::D},
        k{dout.data + Shape::kRows * Shape::D},
        v{k.data + Shape::kRows * Shape::D},
        first{v.data + Shape::kRows * Shape::D},
        second{first.data + Shape::kRows * Shape::kRows} {}
};

// dk and dv of a tile of keys.
template <typename T, typename Shape>
__global__ void MB_LAUNCH_BOUNDS(Shape::kThreads, 1) keys_tiled(Backward<T> p, bool aligned) {
  const RowTile tile = row_tile<Shape::kRows>(p);
  if (tile.count == 0) return;
  if (tile.sequence == p.B) return p.zero_tail(tile);
  const TiledShared<Shape> s(dynamic_shared<float>());
  const HeadDropout<T> dropout(p, tile);
  const int64_t row = tile.row + tile.first;
  const auto load = [&](const typename Shape::Rows& s_tile, const T* from, int64_t stride,
                        int count) {
    load_tiled_rows<Shape>(s_tile, from, stride, count, p.D, aligned);
  };
  load(s.k, p.part(kKey, row, tile.head), p.qkv_stride(), tile.count);
  load(s.v, p.part(kValue, row, tile.head), p.qkv_stride(), tile.count);
  TiledRows<Shape> r_dk = {}, r_dv = {};
  const auto own_row = [](int i) { return thread_y() * Shape::kOwn + i; };

  for (int query = 0; query < tile.length; query += Shape::kRows) {
    const int queries = min(Shape::kRows, tile.length - query);
    load(s.q, p.part(kQuery, tile.row + query, tile.head), p.qkv_stride(), queries);
    load(s.dout, p.row_of_head(p.dout, tile.row + query, tile.head), p.out_stride(), queries);
    float2 r_stats[Shape::kOwn];
#pragma unroll
    for (int i = 0; i < Shape::kOwn; ++i)
      r_stats[i] = p.statistics(tile, query + query_of<Shape>(i));
    __syncthreads();
    TiledScores<Shape> r_scores, r_da;
    tiled_scores<Shape>(r_scores, s.q, s.k);
    tiled_scores<Shape>(r_da, s.dout, s.v);
    tiled_softmax_backward<Shape>(r_scores, r_da, r_stats, dropout, p.scale * kLog2E, query,
                                  tile.first, tile.count);
    store_scores_transposed<Shape>(r_scores, s.first);
    store_scores_transposed<Shape>(r_da, s.second);
    __syncthreads();
    add_tiled_product<Shape>(r_dv, s.first, s.dout, own_row);
    add_tiled_product<Shape>(r_dk, s.second, s.q, own_row);
    __syncthreads();  // before the next tile overwrites them
  }
  store_tiled_rows<Shape>(
      r_dk, own_row, [&](int) { return p.scale; }, p.part(p.dqkv, kKey, row, tile.head),
      p.qkv_stride(), tile.count, p.D);
  store_tiled_rows<Shape>(
      r_dv, own_row, [&](int) { return p.dropout.scale; }, p.part(p.dqkv, kValue, row, tile.head),
      p.qkv_stride(), tile.count, p.D);
}

// dq of a tile of queries.
template <typename T, typename Shape>
__global__ void MB_LAUNCH_BOUNDS(Shape::kThreads, 1) queries_tiled(Backward<T> p, bool aligned) {
  const RowTile tile = row_tile<Shape::kRows>(p);
  if (tile.count == 0 || tile.sequence == p.B) return;
  const TiledShared<Shape> s(dynamic_shared<float>());
  const HeadDropout<T> dropout(p, tile);
  const int64_t row = tile.row + tile.first;
  const auto load = [&](const typename Shape::Rows& s_tile, const T* from, int64_t stride,
                        int count) {
    load_tiled_rows<Shape>(s_tile, from, stride, count, p.D, aligned);
  };
  load(s.q, p.part(kQuery, row, tile.head), p.qkv_stride(), tile.count);
  load(s.dout, p.row_of_head(p.dout, row, tile.head), p.out_stride(), tile.count);
  float2 r_stats[Shape::kOwn];
#pragma unroll
  for (int i = 0; i < Shape::kOwn; ++i)
    r_stats[i] = p.statistics(tile, tile.first + query_of<Shape>(i));
  TiledRows<Shape> r_dq = {};

  for (int key = 0; key < tile.length; key += Shape::kRows) {
    const int keys = min(Shape::kRows, tile.length - key);
    __syncthreads();  // the former tile has been read
    load(s.k, p.part(kKey, tile.row + key, tile.head), p.qkv_stride(), keys);
    load(s.v, p.part(kValue, tile.row + key, tile.head), p.qkv_stride(), keys);
    __syncthreads();
    TiledScores<Shape> r_scores, r_da;
    tiled_scores<Shape>(r_scores, s.q, s.k);
    tiled_scores<Shape>(r_da, s.dout, s.v);
    tiled_softmax_backward<Shape>(r_scores, r_da, r_stats, dropout, p.scale * kLog2E, tile.first,
                                  key, keys);
    __syncwarp();  // a warp's rows of s.first are its own
    store_scores<Shape>(r_da, s.first);
    __syncwarp();
    add_tiled_product<Shape>(r_dq, s.first, s.k, query_of<Shape>);
  }
  store_tiled_rows<Shape>(
      r_dq, query_of<Shape>, [&](int) { return p.scale; }, p.part(p.dqkv, kQuery, row, tile.head),
      p.qkv_stride(), tile.count, p.D);
}

// ---- 10. Production kernels --------------------------------------------------------------------

template <typename Core, int D>
struct BackwardShape {
  using T = typename Core::Element;
  static constexpr bool kHalf = sizeof(T) == 2;
  static constexpr int kWarps = 4, kThreads = kWarps * kWarpSize;
  static constexpr int kRowTiles = kHalf && D <= 64 ? 2 : 1;  // 16 rows each, of a warp
  static constexpr int kOwned = kWarps * 16 * kRowTiles;      // keys or queries of a block
  static constexpr int kWalked = 32;                          // queries or keys of a step
  static constexpr int kPiece = 16;                           // queries whose scores a warp holds
  static constexpr int kStages = 2;
  static constexpr int kTileStride = Tile<T, D>::kStride;
  using Gradients = Tile<T, kWalked>;  // ds^T [keys, queries]
  static constexpr size_t kRowsBytes = sizeof(T) * kTileStride * 2 * (kOwned + kStages * kWalked);
  static constexpr size_t kGradientsBytes = sizeof(T) * kOwned * Gradients::kStride;
  static constexpr size_t kStatisticsBytes = sizeof(float2) * kStages * kWalked;
  static constexpr size_t kKeysBytes = kRowsBytes + kGradientsBytes + kStatisticsBytes;
};

// Two tiles that a block owns and two rings of tiles that it walks over.
template <typename Core, int D>
struct BackwardShared {
  using Shape = BackwardShape<Core, D>;
  using T = typename Core::Element;
  using Rows = Tile<T, D>;
  T* start;

  __device__ __forceinline__ Rows owned(int which) const {
    return {start + which * Shape::kOwned * Shape::kTileStride};
  }
  __device__ __forceinline__ Rows walked(int stage, int which) const {
    return {start +
            (2 * Shape::kOwned + (2 * stage + which) * Shape::kWalked) * Shape::kTileStride};
  }
  __device__ __forceinline__ typename Shape::Gradients gradients() const {
    return {walked(Shape::kStages, 0).data};
  }
  __device__ __forceinline__ float2* statistics(int stage) const {
    T* behind = gradients().data + Shape::kOwned * Shape::Gradients::kStride;
    return reinterpret_cast<float2*>(behind) + stage * Shape::kWalked;
  }
};

// One element: the score becomes p m, da becomes ds without its factor `scale`. r_row as in
// Backward::statistics.
__device__ __forceinline__ void softmax_element(float& r_p, float& r_ds, float2 r_row, float c,
                                                bool keep, float keep_scale) {
  const float r_full = exp2_approx(r_p * c - r_row.x);
  r_p = keep ? r_full : 0.0f;
  r_ds = r_full * ((keep ? r_ds * keep_scale : 0.0f) - r_row.y);
}

// The same of a piece [queries, keys] whose first element is (query, key).
template <int kRowTiles, int kColumns, typename T>
__device__ __forceinline__ void softmax_backward(Accumulators<kRowTiles, kColumns>& r_p,
                                                 Accumulators<kRowTiles, kColumns>& r_ds,
                                                 const float2 (&r_stats)[kRowTiles][2],
                                                 const HeadDropout<T>& dropout, float c, int query,
                                                 int key) {
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      PhiloxOutput r_words = {};
      if (dropout.active()) r_words = dropout.quad(query + row_of(m, 0), key + column_of(n));
#pragma unroll
      for (int i = 0; i < 4; ++i)
        softmax_element(r_p[m][n][i], r_ds[m][n][i], r_stats[m][i / 2], c,
                        dropout.keeps(r_words[i]), dropout.scale());
    }
  }
}

// The same of a transposed piece [keys, queries]; s_statistics of its queries.
template <int kRowTiles, int kColumns>
__device__ __forceinline__ void softmax_backward_transposed(
    Accumulators<kRowTiles, kColumns>& r_p, Accumulators<kRowTiles, kColumns>& r_ds,
    const float2* s_statistics, const TransposedKeep<kRowTiles, kColumns>& r_keep, float c,
    float keep_scale) {
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
    const float4 r_two = *reinterpret_cast<const float4*>(s_statistics + column_of(n));
    const float2 r_stats[2] = {{r_two.x, r_two.y}, {r_two.z, r_two.w}};
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        softmax_element(r_p[m][n][i], r_ds[m][n][i], r_stats[i % 2], c, r_keep.keeps(m, n, i),
                        keep_scale);
  }
}

// Puts a piece of ds^T into shared memory, its first element at (row, column).
template <typename Core, int kRowTiles, int kColumns, int kWidth>
__device__ __forceinline__ void store_gradients(
    const Accumulators<kRowTiles, kColumns>& r_ds,
    const Tile<typename Core::Element, kWidth>& s_gradients, int row, int column) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        Core::store_pair(s_gradients.at(row + row_of(m, half), column + column_of(n)),
                         r_ds[m][n][2 * half], r_ds[m][n][2 * half + 1]);
}

// dq = ds k of queries query .. query + 31 over all keys of the sequence: each warp 16 queries and
// half of the columns.
template <typename Core, int D>
__device__ __forceinline__ void finish_queries(
    const Backward<typename Core::Element>& p, const RowTile& tile,
    const typename BackwardShape<Core, D>::Gradients& s_gradients,
    const Tile<typename Core::Element, D>& s_k, int query) {
  constexpr int kColumns = D / 2;
  static_assert(BackwardShape<Core, D>::kWarps == 4 && BackwardShape<Core, D>::kWalked == 32);
  const int row = warp_id() % 2 * 16, column = warp_id() / 2 * kColumns;
  Accumulators<1, kColumns> r_dq = {};
#pragma unroll 2
  for (int key = 0; key < tile.length; key += Core::kDepth) {
    typename Core::Left r_ds;
    Core::load_left_transposed(r_ds, s_gradients, key, row);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      typename Core::Right r_k;
      Core::load_right_transposed(r_k, s_k, key, column + 16 * n);
      Core::multiply(r_dq[0][2 * n], r_ds, r_k[0]);
      Core::multiply(r_dq[0][2 * n + 1], r_ds, r_k[1]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = query + row + row_of(0, half);
    if (i >= tile.length) continue;
    auto* dq = p.part(p.dqkv, kQuery, tile.row + i, tile.head) + column;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
      Core::store_pair(dq + column_of(n), p.scale * r_dq[0][n][2 * half],
                       p.scale * r_dq[0][n][2 * half + 1]);
  }
}

// dk and dv of a tile of keys; dq too, where the tile holds all keys of the sequence.
template <typename Core, int D>
__global__ void MB_LAUNCH_BOUNDS(BackwardShape<Core, D>::kThreads, 2)
    keys_tensor(Backward<typename Core::Element> p) {
  using Shape = BackwardShape<Core, D>;
  using T = typename Core::Element;
  constexpr int kRowTiles = Shape::kRowTiles, kKeys = Shape::kOwned, kQueries = Shape::kWalked,
                kPiece = Shape::kPiece, kThreads = Shape::kThreads;
  const RowTile tile = row_tile<kKeys>(p);
  if (tile.count == 0) return;
  if (tile.sequence == p.B) return p.zero_tail(tile);
  const bool whole = tile.length <= kKeys;

  const BackwardShared<Core, D> s{dynamic_shared<T>()};
  const Tile<T, D> s_k = s.owned(0), s_v = s.owned(1);
  const int64_t row = tile.row + tile.first;
  copy_rows<kKeys, kThreads, true>(s_k, p.part(kKey, row, tile.head), p.qkv_stride(), tile.count);
  copy_rows<kKeys, kThreads, true>(s_v, p.part(kValue, row, tile.head), p.qkv_stride(), tile.count);
  const auto load_queries = [&](int query) {
    const int stage = query / kQueries % Shape::kStages;
    const int queries = min(kQueries, tile.length - query);
    copy_rows<kQueries, kThreads, true>(
        s.walked(stage, 0), p.part(kQuery, tile.row + query, tile.head), p.qkv_stride(), queries);
    copy_rows<kQueries, kThreads, true>(s.walked(stage, 1),
                                        p.row_of_head(p.dout, tile.row + query, tile.head),
                                        p.out_stride(), queries);
    cp_async_commit();
  };
  const int thread = thread_in_block();
  const auto load_statistics = [&](int query) {
    return thread < kQueries ? p.statistics(tile, query + thread) : float2{};
  };
  load_queries(0);
  float2 r_next = load_statistics(0);

  const HeadDropout<T> dropout(p, tile);
  const float c = p.scale * kLog2E;
  const int warp_row = warp_id() * 16 * kRowTiles;
  const bool works = warp_row < tile.count;
  Accumulators<kRowTiles, D> r_dk = {}, r_dv = {};

  for (int query = 0; query < tile.length; query += kQueries) {
    const int stage = query / kQueries % Shape::kStages;
    const Tile<T, D> s_q = s.walked(stage, 0), s_dout = s.walked(stage, 1);
    float2* s_statistics = s.statistics(stage);
    if (thread < kQueries) s_statistics[thread] = r_next;
    cp_async_wait<0>();
    __syncthreads();  // this tile has arrived; nobody reads the former one any more
    if (query + kQueries < tile.length) {
      load_queries(query + kQueries);
      r_next = load_statistics(query + kQueries);
    }
#pragma unroll 1
    for (int i = 0; works && i < kQueries; i += kPiece) {
      TransposedKeep<kRowTiles, kPiece> r_keep;  // first, while few registers are in use
      if (dropout.active()) r_keep.draw(dropout, query + i, tile.first + warp_row);
      Accumulators<kRowTiles, kPiece> r_p, r_ds;  // scores and da at first
      multiply_rows<Core, kRowTiles, kPiece, D>(r_p, s_k, warp_row, s_q, i);
      multiply_rows<Core, kRowTiles, kPiece, D>(r_ds, s_v, warp_row, s_dout, i);
      if (warp_row + 16 * kRowTiles > tile.count)
        mask_rows<kRowTiles, kPiece>(r_p, tile.count - warp_row);
      softmax_backward_transposed<kRowTiles, kPiece>(r_p, r_ds, s_statistics + i, r_keep, c,
                                                     dropout.scale());
      add_product<Core, kRowTiles, kPiece, D>(r_dv, r_p, s_dout, i);
      add_product<Core, kRowTiles, kPiece, D>(r_dk, r_ds, s_q, i);
      if (whole) store_gradients<Core, kRowTiles, kPiece>(r_ds, s.gradients(), warp_row, i);
    }
    if (whole) {
      __syncthreads();  // all of ds^T is there
      finish_queries<Core, D>(p, tile, s.gradients(), s_k, query);
    }
  }

  __syncthreads();  // nobody reads k and v any more: their tiles take the results
  if (!works) return;
  store_rows<Core, kRowTiles, D>(
      r_dk, [&](int, int) { return p.scale; }, s_k, warp_row, p.part(p.dqkv, kKey, row, tile.head),
      p.qkv_stride(), tile.count);
  store_rows<Core, kRowTiles, D>(
      r_dv, [&](int, int) { return p.dropout.scale; }, s_v, warp_row,
      p.part(p.dqkv, kValue, row, tile.head), p.qkv_stride(), tile.count);
}

// dq of a tile of queries, for sequences of more keys than keys_tensor's blocks own.
template <typename Core, int D>
__global__ void MB_LAUNCH_BOUNDS(BackwardShape<Core, D>::kThreads, 2)
    queries_tensor(Backward<typename Core::Element> p) {
  using Shape = BackwardShape<Core, D>;
  using T = typename Core::Element;
  constexpr int kRowTiles = Shape::kRowTiles, kQueries = Shape::kOwned, kKeys = Shape::kWalked,
                kThreads = Shape::kThreads;
  const RowTile tile = row_tile<kQueries>(p);
  if (tile.count == 0 || tile.sequence == p.B || tile.length <= Shape::kOwned) return;

  const BackwardShared<Core, D> s{dynamic_shared<T>()};
  const Tile<T, D> s_q = s.owned(0), s_dout = s.owned(1);
  const int64_t row = tile.row + tile.first;
  copy_rows<kQueries, kThreads, true>(s_q, p.part(kQuery, row, tile.head), p.qkv_stride(),
                                      tile.count);
  copy_rows<kQueries, kThreads, true>(s_dout, p.row_of_head(p.dout, row, tile.head), p.out_stride(),
                                      tile.count);
  const auto load_keys = [&](int key) {
    const int stage = key / kKeys % Shape::kStages, keys = min(kKeys, tile.length - key);
    for (int which = 0; which < 2; ++which)
      copy_rows<kKeys, kThreads, true>(
          s.walked(stage, which), p.part(which == 0 ? kKey : kValue, tile.row + key, tile.head),
          p.qkv_stride(), keys);
    cp_async_commit();
  };
  load_keys(0);

  const HeadDropout<T> dropout(p, tile);
  const float c = p.scale * kLog2E;
  const int warp_row = warp_id() * 16 * kRowTiles;
  const bool works = warp_row < tile.count;
  float2 r_stats[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      r_stats[m][half] = p.statistics(tile, tile.first + warp_row + row_of(m, half));
  Accumulators<kRowTiles, D> r_dq = {};

  for (int key = 0; key < tile.length; key += kKeys) {
    const int stage = key / kKeys % Shape::kStages;
    const Tile<T, D> s_k = s.walked(stage, 0), s_v = s.walked(stage, 1);
    cp_async_wait<0>();
    __syncthreads();
    if (key + kKeys < tile.length) load_keys(key + kKeys);
    if (!works) continue;
    Accumulators<kRowTiles, kKeys> r_p, r_ds;
    multiply_rows<Core, kRowTiles, kKeys, D>(r_p, s_q, warp_row, s_k, 0);
    multiply_rows<Core, kRowTiles, kKeys, D>(r_ds, s_dout, warp_row, s_v, 0);
    if (key + kKeys > tile.length) mask_columns<kRowTiles, kKeys>(r_p, tile.length - key);
    softmax_backward<kRowTiles, kKeys>(r_p, r_ds, r_stats, dropout, c, tile.first + warp_row, key);
    add_product<Core, kRowTiles, kKeys, D>(r_dq, r_ds, s_k, 0);
  }
  if (!works) return;
  store_rows<Core, kRowTiles, D>(
      r_dq, [&](int, int) { return p.scale; }, s_q, warp_row,
      p.part(p.dqkv, kQuery, row, tile.head), p.qkv_stride(), tile.count);
}

// ---- 11. Launcher ------------------------------------------------------------------------------

template <typename T>
Backward<T> backward_of(const AttentionBackward& args, const float* delta) {
  return {problem_of<T>(args), cuda_data<T>(args.dout), cuda_data<float>(args.lse), delta,
          cuda_data<T>(args.dqkv)};
}

template <typename T, int kLanes, int kElements>
void launch_delta(const AttentionBackward& args, float* delta, Stream stream) {
  constexpr int kThreads = 256;
  const int64_t rows = args.lse.numel();
  launch(delta_rows<T, kLanes, kElements>, ceil_div(rows * kLanes, kThreads), kThreads, 0, stream,
         cuda_data<T>(args.out), cuda_data<T>(args.dout), delta,
         args.cu_seqlens.data<int32_t>() + args.cu_seqlens.numel() - 1, args.qkv.dim(2),
         args.qkv.dim(3));
}

template <typename T, typename Shape>
void launch_tiled_as(const AttentionBackward& args, float* delta, Stream stream) {
  launch_delta<T, kWarpSize, 1>(args, delta, stream);
  const Backward<T> p = backward_of<T>(args, delta);
  const int64_t row_bytes = p.D * static_cast<int64_t>(sizeof(T));
  constexpr int kFour = 4 * static_cast<int>(sizeof(T));
  const bool aligned = packs(p.qkv, row_bytes, kFour) && packs(p.dout, row_bytes, kFour);
  const int64_t blocks = row_tile_blocks(p.N, p.B, p.A, Shape::kRows);
  launch(keys_tiled<T, Shape>, blocks, Shape::kThreads, Shape::kKeysBytes, stream, p, aligned);
  launch(queries_tiled<T, Shape>, blocks, Shape::kThreads, Shape::kQueriesBytes, stream, p,
         aligned);
}

template <typename T>
void launch_tiled(const AttentionBackward& args, float* delta, Stream stream) {
  const int64_t D = args.qkv.dim(3);
  if (D <= 32) return launch_tiled_as<T, BackwardTiled<64, 32>>(args, delta, stream);
  if (D <= 64) return launch_tiled_as<T, BackwardTiled<64, 64>>(args, delta, stream);
  if (D <= 128) return launch_tiled_as<T, BackwardTiled<32, 128>>(args, delta, stream);
  launch_tiled_as<T, BackwardTiled<32, 256>>(args, delta, stream);
}

template <typename Core, int D>
void launch_tensor_as(const AttentionBackward& args, float* delta, Stream stream) {
  using T = typename Core::Element;
  using Shape = BackwardShape<Core, D>;
  launch_delta<T, D / kPack<T>, kPack<T>>(args, delta, stream);
  const Backward<T> p = backward_of<T>(args, delta);
  const int64_t blocks = row_tile_blocks(p.N, p.B, p.A, Shape::kOwned);
  launch(keys_tensor<Core, D>, blocks, Shape::kThreads, Shape::kKeysBytes, stream, p);
  launch(queries_tensor<Core, D>, blocks, Shape::kThreads, Shape::kRowsBytes, stream, p);
}

template <typename Core>
void launch_tensor(const AttentionBackward& args, float* delta, Stream stream) {
  const int64_t D = args.qkv.dim(3);
  const bool fits = packed<typename Core::Element>(D, args.qkv, args.out, args.dout, args.dqkv);
  if (fits && D == 32) return launch_tensor_as<Core, 32>(args, delta, stream);
  if (fits && D == 64) return launch_tensor_as<Core, 64>(args, delta, stream);
  if (fits && D == 128) return launch_tensor_as<Core, 128>(args, delta, stream);
  launch_tiled<typename Core::Element>(args, delta, stream);
}

}  // namespace
}  // namespace attention_cuda

void attention_backward_cuda(const AttentionBackward& args, Stream stream) {
  using namespace attention_cuda;
  // Given back at the end of the scope, while the kernels are still queued: whoever gets the block
  // next queues behind them.
  const Workspace<float> delta(args.lse.numel(), Device::cuda);
  switch (args.qkv.dtype()) {
    case DType::bf16:
      return launch_tensor<HalfCore<__nv_bfloat16>>(args, delta.data(), stream);
    case DType::f16:
      return launch_tensor<HalfCore<__half>>(args, delta.data(), stream);
    default:
      if (args.tf32) return launch_tensor<Tf32Core>(args, delta.data(), stream);
      return launch_tiled<float>(args, delta.data(), stream);
  }
}

// ---- 12. Instantiations ------------------------------------------------------------------------
// By the launcher: keys_tiled and queries_tiled (D up to 32, 64, 128, 256) for float, bf16 and f16;
// keys_tensor and queries_tensor (D 32, 64, 128) for bf16, f16 and tf32.

}  // namespace minibert
