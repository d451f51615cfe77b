// attention_forward.cu: attention's forward pass on CUDA, sections 8 to 12 of the chapter attention
// (attention.h). Called by attention.cpp through dispatch; attention_backward.cu is the other half.
// Easy to break: dropout acts after the sum of the softmax's denominator, and a dropped element is
// selected out; keys beyond the sequence's end score -infinity; no row of another sequence is read.
// Test: ctest -R attention_cuda. Registers and instructions: tools/check_machine_code --table.
#include "core/error.h"
#include "core/kernels/attention_tensor.h"
#include "core/kernels/attention_tiled.h"

// ---- 8. Idea -----------------------------------------------------------------------------------
// A block owns a tile of queries of one head and walks over the sequence's keys, a tile at a time:
//
//              keys 0..63  64..127   ..            K, V: a ring of tiles in shared memory that
//            +-----------+---------+---            cp.async fills while others are used
//   warp 0   | q k^T     |         |
//   warp 1   |  |        |  ->     |               each warp: 32 queries, everything of theirs in
//   warp 2   | softmax   |         |               registers: q, scores, and the growing out,
//   warp 3   |  | p v    |         |               with maximum and sum of each row
//            +-----------+---------+---
//
// Softmax of rows whose end has not been seen (Milakov and Gimelshein, arXiv 1805.02867): keep the
// maximum so far and the sum of exp(score - maximum); when the maximum grows, multiply the sum and
// out by exp(old - new). exp(x scale - m scale) = exp2(x c - m c) with c = scale log2(e): one
// multiply-add and one exp2 an element.
//
// One thread's view of a 16 x 8 piece of scores, as mma.sync leaves it (g = lane / 4, t = lane % 4):
//
//            keys 2t  2t+1
//   query g    [c0    c1]     The four are one quad of dropout: one Philox call. Rounded to 16 bits
//   query g+8  [c2    c3]     they are, unmoved, what the product with v wants as left operand.
//
// Why 32 queries a warp: a fragment of k or v that was read from shared memory serves two products
// of 16 rows. With 16 rows, shared memory would be busy for longer than the tensor cores (A100: reads
// alone take as long, copies into it a quarter of that).
// At D = 128, and in tf32, the accumulators leave no room: 16 rows a warp.
// The grid: row_tile in attention_cuda.h. Blocks per SM: two, by registers (section 10's bounds).
// Moved from global memory: q and out once, k and v once for each tile of queries, mostly from L2.

namespace minibert {
namespace attention_cuda {
namespace {

template <typename T>
struct Forward : Problem<T> {
  T* out;      // [N, A, D]
  float* lse;  // [N, A]

  /// Zeroes the tail's rows of out and lse.
  __device__ __forceinline__ void zero_tail(const RowTile& tile) const {
    const int64_t row = tile.row + tile.first;
    zero_rows(this->row_of_head(out, row, tile.head), this->out_stride(), tile.count, this->D);
    zero_rows(lse + row * this->A + tile.head, this->A, tile.count, 1);
  }
};

// Row maxima start here and not at -infinity, so that a row whose scores so far are all -infinity
// subtracts a number: exp2(-infinity - this) is 0, where -infinity - -infinity would be NaN.
constexpr float kLowest = -1e30f;

// ---- 9. Rungs ----------------------------------------------------------------------------------

// Rung 1: a warp owns a query; a key is a dot product over the lanes. Lesson: the online softmax
// needs no [S, S] matrix. Bound by: latency of the shuffles, and k and v read for every query.
constexpr int kNaiveWarps = 4, kNaiveColumns = 256 / kWarpSize;

template <typename T>
__global__ void MB_LAUNCH_BOUNDS(kNaiveWarps* kWarpSize) forward_naive(Forward<T> p) {
  const int64_t item = int64_t{blockIdx.x} * kNaiveWarps + warp_id();
  const int64_t row = item / p.A;
  if (row >= p.N) return;
  RowTile tile;
  tile.head = static_cast<int>(item % p.A);
  tile.sequence = last_start(p.B + 1, row, [&](int b) { return p.cu_seqlens[b]; });
  tile.row = p.cu_seqlens[tile.sequence];
  T* out = p.row_of_head(p.out, row, tile.head);
  if (tile.sequence == p.B) {
    for (int d = lane_id(); d < p.D; d += kWarpSize) out[d] = from_float<T>(0.0f);
    if (lane_id() == 0) p.lse[item] = 0;
    return;
  }
  const int S = p.cu_seqlens[tile.sequence + 1] - tile.row,
            query = static_cast<int>(row) - tile.row;
  const HeadDropout<T> dropout(p, tile);
  const float c = p.scale * kLog2E;
  float r_q[kNaiveColumns], r_out[kNaiveColumns] = {}, r_top = kLowest, r_sum = 0;
  const auto column = [&](const T* from, int i) {
    const int d = lane_id() + kWarpSize * i;
    return d < p.D ? to_float(from[d]) : 0.0f;
  };
  for (int i = 0; i < kNaiveColumns; ++i) r_q[i] = column(p.part(kQuery, row, tile.head), i);
  for (int key = 0; key < S; ++key) {
    const T* k = p.part(kKey, tile.row + key, tile.head);
    const T* v = p.part(kValue, tile.row + key, tile.head);
    float r_score = 0;
    for (int i = 0; i < kNaiveColumns; ++i) r_score += r_q[i] * column(k, i);
    r_score = warp_sum(r_score);
    const float r_new_top = fmaxf(r_top, r_score);
    const float r_rescale = exp2_approx((r_top - r_new_top) * c);
    float r_p = exp2_approx((r_score - r_new_top) * c);
    r_top = r_new_top;
    r_sum = r_sum * r_rescale + r_p;
    if (dropout.active()) {
      const uint32_t word = dropout.quad(query & ~8, key & ~1)[static_cast<size_t>(
          attention_output_index(static_cast<uint32_t>(query), static_cast<uint32_t>(key)))];
      r_p = dropout.keeps(word) ? r_p : 0.0f;
    }
    for (int i = 0; i < kNaiveColumns; ++i) r_out[i] = r_out[i] * r_rescale + r_p * column(v, i);
  }
  const float r_factor = p.dropout.scale / r_sum;
  for (int i = 0; i < kNaiveColumns; ++i) {
    const int d = lane_id() + kWarpSize * i;
    if (d < p.D) out[d] = from_float<T>(r_out[i] * r_factor);
  }
  if (lane_id() == 0) p.lse[item] = r_top * p.scale + logf(r_sum);
}

// Rung 2: tiles of queries, keys and values in shared memory, in f32; a thread owns 4 x 4 scores.
// Lesson: reuse. A row of k that was read once serves 64 queries, a register that was read once
// four sums. Bound by: FP32 multiply-adds. Production for exact f32, for head sizes that have no
// tensor-core kernel and for rows that are not aligned to 16 bytes.
template <int kRows, int D>
struct ForwardTiled : TiledShape<kRows, D> {
  using Base = TiledShape<kRows, D>;
  static constexpr size_t kSharedBytes = 3 * Base::kRowsBytes + Base::kScoresBytes;
};

// Sum or maximum over the 16 threads that hold a row of scores.
template <typename Combine>
__device__ __forceinline__ float over_row(float x, const Combine& combine) {
#pragma unroll
  for (int distance = 8; distance > 0; distance /= 2)
    x = combine(x, __shfl_xor_sync(kFullMask, x, distance));
  return x;
}

template <typename Shape, typename T>
__device__ __forceinline__ void tiled_dropout(TiledScores<Shape>& r_p,
                                              const HeadDropout<T>& dropout, int first_query,
                                              int first_key) {
#pragma unroll
  for (int i = 0; i < Shape::kOwn; i += 2) {
#pragma unroll
    for (int j = 0; j < Shape::kOwn; j += 2) {
      const PhiloxOutput words =
          dropout.quad(first_query + query_of<Shape>(i), first_key + key_of<Shape>(j));
#pragma unroll
      for (int o = 0; o < 4; ++o)
        if (!dropout.keeps(words[o])) r_p[i + o / 2][j + o % 2] = 0;
    }
  }
}

template <typename T, typename Shape>
__global__ void MB_LAUNCH_BOUNDS(Shape::kThreads, 1) forward_tiled(Forward<T> p, bool aligned) {
  const RowTile tile = row_tile<Shape::kRows>(p);
  if (tile.count == 0) return;
  if (tile.sequence == p.B) return p.zero_tail(tile);
  auto* shared = dynamic_shared<float>();
  const typename Shape::Rows s_q{shared}, s_k{s_q.data + Shape::kRows * Shape::D},
      s_v{s_k.data + Shape::kRows * Shape::D};
  const typename Shape::Scores s_p{s_v.data + Shape::kRows * Shape::D};
  const HeadDropout<T> dropout(p, tile);
  const float c = p.scale * kLog2E;
  load_tiled_rows<Shape>(s_q, p.part(kQuery, tile.row + tile.first, tile.head), p.qkv_stride(),
                         tile.count, p.D, aligned);
  TiledRows<Shape> r_out = {};
  float r_top[Shape::kOwn], r_sum[Shape::kOwn] = {};
#pragma unroll
  for (int i = 0; i < Shape::kOwn; ++i) r_top[i] = kLowest;

  for (int key = 0; key < tile.length; key += Shape::kRows) {
    const int keys = min(Shape::kRows, tile.length - key);
    __syncthreads();  // the former tile has been read
    load_tiled_rows<Shape>(s_k, p.part(kKey, tile.row + key, tile.head), p.qkv_stride(), keys, p.D,
                           aligned);
    load_tiled_rows<Shape>(s_v, p.part(kValue, tile.row + key, tile.head), p.qkv_stride(), keys,
                           p.D, aligned);
    __syncthreads();
    TiledScores<Shape> r_scores;
    tiled_scores<Shape>(r_scores, s_q, s_k);
#pragma unroll
    for (int i = 0; i < Shape::kOwn; ++i) {
      float r_new_top = r_top[i];
#pragma unroll
      for (int j = 0; j < Shape::kOwn; ++j) {
        if (key_of<Shape>(j) >= keys) r_scores[i][j] = -INFINITY;
        r_new_top = fmaxf(r_new_top, r_scores[i][j]);
      }
      r_new_top = over_row(r_new_top, [](float x, float y) { return fmaxf(x, y); });
      const float r_rescale = exp2_approx((r_top[i] - r_new_top) * c);
      r_top[i] = r_new_top;
      r_sum[i] *= r_rescale;
#pragma unroll
      for (int j = 0; j < Shape::kOwn; ++j) {
        r_scores[i][j] = exp2_approx((r_scores[i][j] - r_new_top) * c);
        r_sum[i] += r_scores[i][j];
      }
#pragma unroll
      for (int group = 0; group < Shape::kGroups; ++group)
#pragma unroll
        for (int d = 0; d < Shape::kColumns; ++d) r_out[i][group][d] *= r_rescale;
    }
    if (dropout.active()) tiled_dropout<Shape>(r_scores, dropout, tile.first, key);
    __syncwarp();  // a warp's rows of s_p are its own
    store_scores<Shape>(r_scores, s_p);
    __syncwarp();
    add_tiled_product<Shape>(r_out, s_p, s_v, query_of<Shape>);
  }

#pragma unroll
  for (int i = 0; i < Shape::kOwn; ++i) {
    r_sum[i] = over_row(r_sum[i], [](float x, float y) { return x + y; });
    const int row = query_of<Shape>(i);
    if (thread_x() == 0 && row < tile.count)
      p.lse[int64_t{tile.row + tile.first + row} * p.A + tile.head] =
          r_top[i] * p.scale + logf(r_sum[i]);
  }
  store_tiled_rows<Shape>(
      r_out, query_of<Shape>, [&](int i) { return p.dropout.scale / r_sum[i]; },
      p.row_of_head(p.out, tile.row + tile.first, tile.head), p.out_stride(), tile.count, p.D);
}

// ---- 10. Production kernel ---------------------------------------------------------------------

// Sizes of a block. Rung 3 is the same kernel with kAsync false: loads and stores instead of
// cp.async, one buffer, so that every tile's latency is waited for. Lesson of rung 3: the tensor
// cores. Lesson of production: copies run beside the products.
template <typename Core, int D, bool kAsync>
struct ForwardShape {
  using T = typename Core::Element;
  static constexpr bool kHalf = sizeof(T) == 2;
  static constexpr int kWarps = 4, kThreads = kWarps * kWarpSize;
  static constexpr int kRowTiles = kHalf && D <= 64 ? 2 : 1;
  static constexpr int kQueries = kWarps * 16 * kRowTiles;
  static constexpr int kKeys = kHalf ? 64 : 32;
  /// Keys whose scores a warp holds at a time.
  static constexpr int kChunk = kHalf || D < 128 ? 32 : 16;
  static constexpr int kStages = !kAsync ? 1 : kHalf && D <= 64 ? 3 : 2;
  static constexpr bool kQueryInRegisters = kHalf;
  static constexpr int kTileStride = Tile<T, D>::kStride;
  static constexpr size_t kSharedBytes = sizeof(T) * kTileStride * (kQueries + 2 * kKeys * kStages);
};

// A warp's queries: what of them stays in registers while the keys go by.
template <typename Core, int D, int kRowTiles, int kChunk>
struct WarpQueries {
  Accumulators<kRowTiles, D> r_out = {};
  float r_top[kRowTiles][2], r_sum[kRowTiles][2] = {};  // rows g and g + 8 of each 16

  __device__ __forceinline__ WarpQueries() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) r_top[m][0] = r_top[m][1] = kLowest;
  }

  // Scores become exp(score - maximum so far); sums and out are brought to the new maximum.
  __device__ __forceinline__ void softmax(Accumulators<kRowTiles, kChunk>& r_scores, float c) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float r_new_top = r_top[m][half];
#pragma unroll
        for (int n = 0; n < kChunk / 8; ++n)
          r_new_top =
              fmaxf(r_new_top, fmaxf(r_scores[m][n][2 * half], r_scores[m][n][2 * half + 1]));
        r_new_top = row_max(r_new_top);
        const float r_shift = r_new_top * c;
        const float r_rescale = exp2_approx(r_top[m][half] * c - r_shift);
        float r_total = r_sum[m][half] * r_rescale;
#pragma unroll
        for (int n = 0; n < kChunk / 8; ++n) {
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            r_scores[m][n][i] = exp2_approx(r_scores[m][n][i] * c - r_shift);
            r_total += r_scores[m][n][i];
          }
        }
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          r_out[m][n][2 * half] *= r_rescale;
          r_out[m][n][2 * half + 1] *= r_rescale;
        }
        r_top[m][half] = r_new_top;
        r_sum[m][half] = r_total;
      }
    }
  }
};

// Zeroes what dropout drops of the piece whose first element is (query, key).
template <int kRowTiles, int kChunk, typename T>
__device__ __forceinline__ void drop(Accumulators<kRowTiles, kChunk>& r_p,
                                     const HeadDropout<T>& dropout, int query, int key) {
#pragma unroll
  for (int n = 0; n < kChunk / 8; ++n) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const PhiloxOutput words = dropout.quad(query + row_of(m, 0), key + column_of(n));
#pragma unroll
      for (int i = 0; i < 4; ++i) r_p[m][n][i] = dropout.keeps(words[i]) ? r_p[m][n][i] : 0.0f;
    }
  }
}

template <typename Core, int D, bool kAsync>
__global__ void MB_LAUNCH_BOUNDS(ForwardShape<Core, D, kAsync>::kThreads, 2)
    forward_tensor(Forward<typename Core::Element> p) {
  using Shape = ForwardShape<Core, D, kAsync>;
  using T = typename Core::Element;
  constexpr int kKeys = Shape::kKeys, kStages = Shape::kStages, kRowTiles = Shape::kRowTiles,
                kThreads = Shape::kThreads, kChunk = Shape::kChunk;
  const RowTile tile = row_tile<Shape::kQueries>(p);
  if (tile.count == 0) return;
  if (tile.sequence == p.B) return p.zero_tail(tile);

  const Tile<T, D> s_q{dynamic_shared<T>()};
  const auto s_keys = [&](int stage, Part part) {  // k or v of a stage
    const int tiles_before = 2 * stage + (part == kValue);
    return Tile<T, D>{s_q.data + (Shape::kQueries + tiles_before * kKeys) * Shape::kTileStride};
  };
  const int64_t stride = p.qkv_stride();
  const int tiles = (tile.length + kKeys - 1) / kKeys;
  const auto load_keys = [&](int t) {
    const int keys = min(kKeys, tile.length - t * kKeys);
    const int64_t row = tile.row + t * kKeys;
    copy_rows<kKeys, kThreads, kAsync>(s_keys(t % kStages, kKey), p.part(kKey, row, tile.head),
                                       stride, keys);
    copy_rows<kKeys, kThreads, kAsync>(s_keys(t % kStages, kValue), p.part(kValue, row, tile.head),
                                       stride, keys);
  };
  copy_rows<Shape::kQueries, kThreads, kAsync>(
      s_q, p.part(kQuery, tile.row + tile.first, tile.head), stride, tile.count);
  if constexpr (kAsync) {
#pragma unroll
    for (int t = 0; t < kStages - 1; ++t) {  // the first group also brings q
      if (t < tiles) load_keys(t);
      cp_async_commit();
    }
  }

  const HeadDropout<T> dropout(p, tile);
  const float c = p.scale * kLog2E;
  const int warp_row = warp_id() * 16 * kRowTiles;  // of the tile
  const bool works = warp_row < tile.count;
  WarpQueries<Core, D, kRowTiles, kChunk> r_queries;
  LeftRows<Core, kRowTiles, Shape::kQueryInRegisters ? D : Core::kDepth> r_q;

  for (int t = 0; t < tiles; ++t) {
    if constexpr (kAsync) {
      cp_async_wait<kStages - 2>();  // tile t has arrived
      __syncthreads();               // for all; and nobody reads tile t - 1 any more
      if (t + kStages - 1 < tiles) load_keys(t + kStages - 1);
      cp_async_commit();  // an empty group at the end keeps the count
    } else {
      __syncthreads();
      load_keys(t);
      __syncthreads();
    }
    if (!works) continue;
    const Tile<T, D> s_k = s_keys(t % kStages, kKey), s_v = s_keys(t % kStages, kValue);
    if constexpr (Shape::kQueryInRegisters)
      if (t == 0) load_left_rows<Core, kRowTiles, D>(r_q, s_q, warp_row);
#pragma unroll 1
    for (int key = 0; key < kKeys; key += kChunk) {
      const int first_key = t * kKeys + key;
      if (first_key >= tile.length) break;
      Accumulators<kRowTiles, kChunk> r_scores;
      if constexpr (Shape::kQueryInRegisters)
        multiply_rows<Core, kRowTiles, kChunk, D>(r_scores, r_q, s_k, key);
      else
        multiply_rows<Core, kRowTiles, kChunk, D>(r_scores, s_q, warp_row, s_k, key);
      if (first_key + kChunk > tile.length)
        mask_columns<kRowTiles, kChunk>(r_scores, tile.length - first_key);
      r_queries.softmax(r_scores, c);
      if (dropout.active())
        drop<kRowTiles, kChunk>(r_scores, dropout, tile.first + warp_row, first_key);
      add_product<Core, kRowTiles, kChunk, D>(r_queries.r_out, r_scores, s_v, key);
    }
  }
  if (!works) return;

  const int64_t row = tile.row + tile.first;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float& r_sum = r_queries.r_sum[m][half];
      r_sum = row_sum(r_sum);
      const int query = warp_row + row_of(m, half);
      if (lane_id() % 4 == 0 && query < tile.count)
        p.lse[(row + query) * p.A + tile.head] = r_queries.r_top[m][half] * p.scale + logf(r_sum);
    }
  }
  store_rows<Core, kRowTiles, D>(
      r_queries.r_out, [&](int m, int half) { return p.dropout.scale / r_queries.r_sum[m][half]; },
      s_q, warp_row, p.row_of_head(p.out, row, tile.head), p.out_stride(), tile.count);
}

// ---- 11. Launcher ------------------------------------------------------------------------------

template <typename T>
Forward<T> forward_of(const AttentionForward& args) {
  return {problem_of<T>(args), cuda_data<T>(args.out), cuda_data<float>(args.lse)};
}

template <typename T>
void launch_naive(const AttentionForward& args, Stream stream) {
  const Forward<T> p = forward_of<T>(args);
  launch(forward_naive<T>, ceil_div(p.N * p.A, kNaiveWarps), kNaiveWarps * kWarpSize, 0, stream, p);
}

template <typename T, typename Shape>
void launch_tiled_as(const AttentionForward& args, Stream stream) {
  const Forward<T> p = forward_of<T>(args);
  const int64_t four = 4 * static_cast<int64_t>(sizeof(T));
  const bool aligned = packs(p.qkv, p.D * static_cast<int64_t>(sizeof(T)), static_cast<int>(four));
  launch(forward_tiled<T, Shape>, row_tile_blocks(p.N, p.B, p.A, Shape::kRows), Shape::kThreads,
         Shape::kSharedBytes, stream, p, aligned);
}

template <typename T>
void launch_tiled(const AttentionForward& args, Stream stream) {
  const int64_t D = args.qkv.dim(3);
  if (D <= 32) return launch_tiled_as<T, ForwardTiled<64, 32>>(args, stream);
  if (D <= 64) return launch_tiled_as<T, ForwardTiled<64, 64>>(args, stream);
  if (D <= 128) return launch_tiled_as<T, ForwardTiled<64, 128>>(args, stream);
  launch_tiled_as<T, ForwardTiled<32, 256>>(args, stream);
}

template <typename Core, int D, bool kAsync>
void launch_tensor_as(const AttentionForward& args, Stream stream) {
  using Shape = ForwardShape<Core, D, kAsync>;
  const Forward<typename Core::Element> p = forward_of<typename Core::Element>(args);
  launch(forward_tensor<Core, D, kAsync>, row_tile_blocks(p.N, p.B, p.A, Shape::kQueries),
         Shape::kThreads, Shape::kSharedBytes, stream, p);
}

template <typename Core, bool kAsync>
void launch_tensor(const AttentionForward& args, Stream stream) {
  const int64_t D = args.qkv.dim(3);
  if (!packed<typename Core::Element>(D, args.qkv, args.out))
    return launch_tiled<typename Core::Element>(args, stream);
  if (D == 32) return launch_tensor_as<Core, 32, kAsync>(args, stream);
  if (D == 64) return launch_tensor_as<Core, 64, kAsync>(args, stream);
  if (D == 128) return launch_tensor_as<Core, 128, kAsync>(args, stream);
  launch_tiled<typename Core::Element>(args, stream);
}

template <bool kAsync>
void launch_best(const AttentionForward& args, Stream stream) {
  switch (args.qkv.dtype()) {
    case DType::bf16:
      return launch_tensor<HalfCore<__nv_bfloat16>, kAsync>(args, stream);
    case DType::f16:
      return launch_tensor<HalfCore<__half>, kAsync>(args, stream);
    default:
      if (args.tf32) return launch_tensor<Tf32Core, kAsync>(args, stream);
      return launch_tiled<float>(args, stream);
  }
}

}  // namespace
}  // namespace attention_cuda

void attention_forward_cuda_rung(const AttentionForward& args, Stream stream, int rung) {
  using namespace attention_cuda;
  MB_ASSERT(rung >= 1 && rung <= kAttentionForwardRungs, "attention_forward: rung {} of {}", rung,
            kAttentionForwardRungs);
  if (rung == kAttentionForwardRungs) return launch_best</* kAsync= */ true>(args, stream);
  if (rung == 3) return launch_best</* kAsync= */ false>(args, stream);
  with_cuda_element(args.qkv.dtype(), [&](auto e) {
    if (rung == 2) return launch_tiled<decltype(e)>(args, stream);
    launch_naive<decltype(e)>(args, stream);
  });
}

void attention_forward_cuda(const AttentionForward& args, Stream stream) {
  attention_forward_cuda_rung(args, stream, kAttentionForwardRungs);
}

// ---- 12. Instantiations ------------------------------------------------------------------------
// By the launcher: forward_naive and forward_tiled (D up to 32, 64, 128, 256) for float, bf16 and
// f16; forward_tensor (D 32, 64, 128; with and without cp.async) for bf16, f16 and tf32.

}  // namespace minibert
