// embedding.cu: sums of table rows, and the scatter of their gradient without atomics.
// Called by embedding.cpp. Easy to break: an element's terms are added one by one, in ascending
// position, whichever kernel has the group: the bits of the CPU's.
// Test: ctest -R kernels_embedding_cuda.
#include <climits>

#include "core/cuda_kernel.h"
#include "core/error.h"
#include "core/kernels/embedding.h"
#include "core/ptx.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
//   Forward: a warp makes a row of y. It reads its row numbers once (all lanes the same address: one
//   request), then lane l takes the 16-byte packs l, l + 32, ... of the rows: 512 neighbouring bytes
//   a request. Nothing is read twice; popular rows ([CLS], segments) come from L2.
//
//   Backward: a thread owns an element of dtable and adds its terms in the contract's order, in a
//   register: no two threads meet, so there is nothing to make atomic. What differs is the length of
//   a group: most words occur a few times in a batch, [MASK] in an eighth of all positions, a segment
//   in half of them. So there are two kernels, and both look at all groups:
//     groups   a warp takes 128 columns of a group: a lane loads four neighbours of dy, four
//              positions under way together, and adds. Lanes have 4 columns rather than 8, for the
//              f32 of dtable is the wider side: 16 bytes a lane. Groups of more than 32: left out.
//     long     a block takes 128 bytes of the columns of one long group. The order of the additions
//              is fixed, but not that of the loads: all 256 threads copy the next 128 positions to
//              shared memory while one thread a column adds the last 128 from there.
//
//                  dy rows order[begin ..]    s_dy[2][128][128 bytes]        dtable[row]
//                  ------------------------   -------------------------      -----------
//                  8 threads a position   ->  fill one half | add other  ->  thread c: column c
//
//              A lone thread would wait for memory every few terms; so it waits for an addition.
//   Which groups are long, the host does not know. But a group of more than 32 positions holds a
//   multiple of 32: block j looks up whose position 32 j is, and works if that group is long and has
//   no smaller multiple. N / 32 blocks (for each strip of columns) find every long group once.
//   Bytes: each row of dy once, each row of dtable that occurs read and written once, rows H floats
//   set to zero unless accumulated into; order, row and start once for each strip of columns.
// ---- 9. Rungs ----------------------------------------------------------------------------------
//   forward   1  a thread an element: divides for its row and column, reads its row number from
//                cache, moves 2 or 4 bytes a request. Bound by instructions.
//             2  a warp a row: row numbers once, still an element a lane.
//             3  production: 16 bytes a lane.
//   backward  1  the groups kernel for all groups: right, and as slow as the longest group's chain of
//                loads; two segments keep two rows' threads busy, the rest of the device idle.
//             2  production: long groups to the kernel made for them.

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kMaxTables = EmbeddingForward::kMaxTables;

template <typename E>
struct Forward {
  const E* table[kMaxTables];
  const int32_t* index[kMaxTables];
  E* y;
  int count;
  int64_t N;
  int H;
};

template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads) forward_elements(Forward<E> f) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= f.N * f.H) return;
  const int64_t n = i / f.H, h = i % f.H;
  float sum = to_float(f.table[0][f.index[0][n] * static_cast<int64_t>(f.H) + h]);
#pragma unroll
  for (int k = 1; k < kMaxTables; ++k)  // a constant bound keeps f's arrays out of local memory
    if (k < f.count) sum += to_float(f.table[k][f.index[k][n] * static_cast<int64_t>(f.H) + h]);
  f.y[i] = from_float<E>(sum);
}

// ---- 10. Production kernels ---------------------------------------------------------------------
// ---- Forward: kWidth elements a lane; 1 is rung 2, and for what is not aligned.
template <typename E, int kWidth>
__global__ void MB_LAUNCH_BOUNDS(kThreads) forward_rows(Forward<E> f) {
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kWarps + warp_id();
  if (n >= f.N) return;
  const E* row[kMaxTables] = {};
#pragma unroll
  for (int k = 0; k < kMaxTables; ++k)
    if (k < f.count) row[k] = f.table[k] + f.index[k][n] * static_cast<int64_t>(f.H);
  E* const y = f.y + n * f.H;
  for (int h = lane_id() * kWidth; h < f.H; h += kWarpSize * kWidth) {
    Pack<E, kWidth> term[kMaxTables] = {};
#pragma unroll
    for (int k = 0; k < kMaxTables; ++k)
      if (k < f.count) term[k] = load_pack<kWidth>(row[k] + h);
    Pack<E, kWidth> rounded;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      float sum = to_float(term[0][j]);
#pragma unroll
      for (int k = 1; k < kMaxTables; ++k)
        if (k < f.count) sum += to_float(term[k][j]);
      rounded[j] = from_float<E>(sum);
    }
    store_pack(y + h, rounded);
  }
}

// ---- Backward
template <typename E>
struct Backward {
  const E* dy;
  const int32_t *order, *row, *start;
  float* dtable;
  int U, H;
};

constexpr int kLongGroup = 32;  // positions of a group, at most, that the groups kernel adds up
constexpr int kUnderWay = 4;    // positions that a lane of the groups kernel loads together

/// Groups of at most `longest` positions; a lane has kWidth columns.
template <typename E, int kWidth>
__global__ void MB_LAUNCH_BOUNDS(kThreads) add_groups(Backward<E> b, int longest) {
  const int64_t u = static_cast<int64_t>(blockIdx.x) * kWarps + warp_id();
  const int h = (static_cast<int>(blockIdx.y) * kWarpSize + lane_id()) * kWidth;
  if (u >= b.U || h >= b.H) return;
  const int begin = b.start[u], end = b.start[u + 1];
  if (begin == end || end - begin > longest) return;
  float* const place = b.dtable + b.row[u] * static_cast<int64_t>(b.H) + h;
  Pack<float, kWidth> sum = load_pack<kWidth>(place);
  for (int i = begin; i < end; i += kUnderWay) {
    Pack<E, kWidth> term[kUnderWay] = {};
#pragma unroll
    for (int k = 0; k < kUnderWay; ++k) {
      if (i + k < end)
        term[k] = load_pack<kWidth>(b.dy + b.order[i + k] * static_cast<int64_t>(b.H) + h);
    }
#pragma unroll
    for (int k = 0; k < kUnderWay; ++k) {
      if (i + k >= end) break;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) sum[j] += to_float(term[k][j]);
    }
  }
  store_pack(place, sum);
}

constexpr int kStripBytes = 128;  // of a row of dy: 8 threads of 16 bytes
constexpr int kPacksOfStrip = kStripBytes / 16;
constexpr int kTile = 128;  // positions in one half of the shared memory
template <typename E>
constexpr int kStrip = kStripBytes / static_cast<int>(sizeof(E));  // columns

/// The group that position `at` of the order belongs to: the last one that starts there or before.
/// `at` is below start[U], so the group is not empty.
__device__ __forceinline__ int group_of(const int32_t* start, int U, int at) {
  int first = 0, last = U - 1;
  while (first < last) {
    const int middle = (first + last + 1) / 2;
    if (start[middle] <= at) {
      first = middle;
    } else {
      last = middle - 1;
    }
  }
  return first;
}

/// Starts copying positions begin .. end - 1 (at most kTile) of the block's columns to s_dy.
template <typename E>
__device__ __forceinline__ void fetch_tile(const Backward<E>& b, int begin, int end,
                                           E (*s_dy)[kStrip<E>]) {
  const int pack = static_cast<int>(threadIdx.x) % kPacksOfStrip;
  const int h = static_cast<int>(blockIdx.y) * kStrip<E> + pack * kPack<E>;
  for (int i = static_cast<int>(threadIdx.x) / kPacksOfStrip; begin + i < end;
       i += kThreads / kPacksOfStrip) {
    if (h < b.H)
      cp_async16(&s_dy[i][pack * kPack<E>],
                 b.dy + b.order[begin + i] * static_cast<int64_t>(b.H) + h);
  }
  cp_async_commit();
}

template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads) add_long_group(Backward<E> b) {
  MB_SHARED(E[kStrip<E>], s_dy, 2 * kTile);
  const int at = static_cast<int>(blockIdx.x) * kLongGroup;
  if (at >= b.start[b.U]) return;
  const int u = group_of(b.start, b.U, at);
  const int begin = b.start[u], end = b.start[u + 1];
  if (end - begin <= kLongGroup || at - begin >= kLongGroup) return;

  const int c = static_cast<int>(threadIdx.x);
  const int h = static_cast<int>(blockIdx.y) * kStrip<E> + c;
  const bool adds = c < kStrip<E> && h < b.H;
  float* const place = b.dtable + b.row[u] * static_cast<int64_t>(b.H) + h;
  float sum = adds ? *place : 0;
  fetch_tile(b, begin, end < begin + kTile ? end : begin + kTile, s_dy);
  for (int tile = begin, half = 0; tile < end; tile += kTile, half ^= 1) {
    const int next = tile + kTile;
    const int tile_end = end < next ? end : next;
    fetch_tile(b, next, end < next + kTile ? end : next + kTile, s_dy + (half ^ 1) * kTile);
    cp_async_wait<1>();  // this tile is here, the next may be under way
    __syncthreads();
    if (adds) {
      const E(*s_tile)[kStrip<E>] = s_dy + half * kTile;
#pragma unroll 8
      for (int i = 0; i < tile_end - tile; ++i) sum += to_float(s_tile[i][c]);
    }
    __syncthreads();  // this half is free for the tile after the next
  }
  if (adds) *place = sum;
}

// ---- 11. Launchers -----------------------------------------------------------------------------
template <typename E>
void forward(const EmbeddingForward& args, Stream stream, int rung) {
  Forward<E> f{.table = {},
               .index = {},
               .y = cuda_data<E>(args.y),
               .count = args.count,
               .N = args.y.dim(0),
               .H = static_cast<int>(args.y.dim(1))};
  const int64_t row_bytes = f.H * static_cast<int64_t>(sizeof(E));
  bool aligned = packs(f.y, row_bytes);
  for (int k = 0; k < f.count; ++k) {
    f.table[k] = cuda_data<E>(args.table[k]);
    f.index[k] = args.index[k].data<int32_t>();
    aligned = aligned && packs(f.table[k], row_bytes);
  }
  if (rung == 1) {
    launch(forward_elements<E>, ceil_div(f.N * f.H, kThreads), kThreads, 0, stream, f);
  } else {
    launch(rung == 2 || !aligned ? forward_rows<E, 1> : forward_rows<E, kPack<E>>,
           ceil_div(f.N, kWarps), kThreads, 0, stream, f);
  }
}

template <typename E>
void backward(const EmbeddingBackward& args, Stream stream, int rung) {
  if (!args.accumulate && args.dtable.bytes() > 0)
    MB_CUDA(cudaMemsetAsync(args.dtable.raw(), 0, static_cast<size_t>(args.dtable.bytes()),
                            static_cast<cudaStream_t>(stream.handle)));
  const Backward<E> b{.dy = cuda_data<E>(args.dy),
                      .order = args.order.data<int32_t>(),
                      .row = args.row.data<int32_t>(),
                      .start = args.start.data<int32_t>(),
                      .dtable = cuda_data<float>(args.dtable),
                      .U = static_cast<int>(args.row.dim(0)),
                      .H = static_cast<int>(args.dy.dim(1))};
  const int64_t row_bytes = b.H * static_cast<int64_t>(sizeof(E));
  const bool by_four =
      packs(b.dy, row_bytes, 4 * sizeof(E)) && packs(b.dtable, b.H * sizeof(float));
  const bool copies = packs(b.dy, row_bytes);  // 16 bytes, asynchronously
  const bool has_long = rung == 2 && copies && args.order.dim(0) > kLongGroup;
  const int columns = kWarpSize * (by_four ? 4 : 1);
  launch(by_four ? add_groups<E, 4> : add_groups<E, 1>,
         {ceil_div(b.U, kWarps), ceil_div(b.H, columns)}, kThreads, 0, stream, b,
         has_long ? kLongGroup : INT_MAX);
  if (has_long)
    launch(add_long_group<E>, {ceil_div(args.order.dim(0), kLongGroup), ceil_div(b.H, kStrip<E>)},
           kThreads, 0, stream, b);
}

}  // namespace

void embedding_forward_cuda_rung(const EmbeddingForward& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kEmbeddingForwardRungs, "embedding_forward: rung {} of {}", rung,
            kEmbeddingForwardRungs);
  with_cuda_element(args.y.dtype(), [&](auto e) { forward<decltype(e)>(args, stream, rung); });
}

void embedding_backward_cuda_rung(const EmbeddingBackward& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kEmbeddingBackwardRungs, "embedding_backward: rung {} of {}", rung,
            kEmbeddingBackwardRungs);
  with_cuda_element(args.dy.dtype(), [&](auto e) { backward<decltype(e)>(args, stream, rung); });
}

void embedding_forward_cuda(const EmbeddingForward& args, Stream stream) {
  embedding_forward_cuda_rung(args, stream, kEmbeddingForwardRungs);
}

void embedding_backward_cuda(const EmbeddingBackward& args, Stream stream) {
  embedding_backward_cuda_rung(args, stream, kEmbeddingBackwardRungs);
}

// ---- 12. Instantiations: f32, bf16 and f16, by with_cuda_element ----------------------------------

}  // namespace minibert
