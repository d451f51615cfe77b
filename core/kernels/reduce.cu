// reduce.cu: sums on CUDA, sections 8 to 12 of the reduce chapter; contract and mathematics:
// reduce.h. Called by reduce.cpp; layer_norm.cu shares the second stage (reduce_cuda.h). Easy to
// get wrong: atomics would be shorter, but their order, and so the bits, would differ from run to
// run. Test: ctest -R kernels_reduce_cuda.
#include "core/error.h"
#include "core/kernels/elements_cuda.h"
#include "core/kernels/reduce.h"
#include "core/kernels/reduce_cuda.h"
#include "core/kernels/workspace.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
// Two stages. In the first, blocks of rows share the work; each leaves one row of sums. In the
// second, few threads add these rows.
//
//        columns   0 .. 255    256 .. 511   ...          (16-bit types; 128 columns of f32)
//   rows 0 .. 63   block 0,0   block 1,0                 stage 1, one block:
//   64 .. 127      block 0,1   block 1,1                   warp w adds rows w, w + 8, w + 16, ...
//   ...                                                    lane i has columns 8 i .. 8 i + 7
//                      |           |                       the 8 warps' sums meet in shared memory
//                      v           v
//            partial [blocks, H]   ->   stage 2: y [H]
//
// Each element is read once, 16 bytes a lane. The sums are doubles, since the contract says so, and
// since they can be: A100 and H100 convert 16 elements a clock and SM to double and add more, while
// memory brings about 8. (A GPU for games, with an FP64 unit for every 64 lanes, is bound by that.)
// `sum` goes the same way, with chunks of 16,384 elements in place of blocks of rows.

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
constexpr int64_t kChunk = 16384;  // elements of a block of `sum`

// Rows of a block: at least 64, so that the partial sums are a small part of what is moved, and at
// most 128 blocks, which the second stage reads. Depends on T alone.
int64_t rows_of_block(int64_t T) {
  const int64_t rows = ceil_div(T, 128);
  return rows < 64 ? 64 : rows;
}

// ---- 9. Rungs ----------------------------------------------------------------------------------
// 1. A thread a column. Neighbouring threads read neighbouring columns, so each access is coalesced;
//    but H = 768 columns are 768 threads, and an H100 holds 270,000. Lesson: a long sum has to be
//    cut into pieces, or most of the device has nothing to do.
template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    sum_thread_per_column(const E* x, int64_t T, int64_t H, ColumnTarget target) {
  const int64_t h = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (h >= H) return;
  double sum = 0;
  for (int64_t t = 0; t < T; ++t) sum += to_float(x[t * H + h]);
  target.y[h] = static_cast<float>(target.accumulate ? target.y[h] + sum : sum);
}

// 2. Two stages, a lane an element: sum_rows_of_block<1, E> below. Lesson: two launches that use
//    the whole GPU beat one that does not.

// ---- 10. Production kernels --------------------------------------------------------------------
// 3. The same with 16 bytes a lane. Stage 1: partial[block, h] = sum over the block's rows.
template <int N, typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    sum_rows_of_block(const E* x, int64_t T, int64_t H, int64_t rows, double* partial) {
  constexpr int kColumns = N * kWarpSize;  // of a block
  MB_SHARED(double[kColumns], s_sum, kWarps);
  const int64_t first_column = int64_t{blockIdx.x} * kColumns;
  const int64_t h = first_column + lane_id() * N;
  const int64_t begin = int64_t{blockIdx.y} * rows, end = begin + rows < T ? begin + rows : T;
  double r_sum[N] = {};
  if (h < H) {
#pragma unroll 4  // loads of four rows under way
    for (int64_t t = begin + warp_id(); t < end; t += kWarps) {
      const Floats<N> value = load_floats<N>(x + t * H + h);
#pragma unroll
      for (int i = 0; i < N; ++i) r_sum[i] += value[i];
    }
  }
  // Lanes are neighbours in shared memory, where their columns are N apart: no bank conflicts.
#pragma unroll
  for (int i = 0; i < N; ++i) s_sum[warp_id()][i * kWarpSize + lane_id()] = r_sum[i];
  __syncthreads();
  for (int place = thread_in_block(); place < kColumns; place += kThreads) {
    const int64_t column = first_column + place % kWarpSize * N + place / kWarpSize;
    double sum = 0;
    for (int warp = 0; warp < kWarps; ++warp) sum += s_sum[warp][place];
    if (column < H) partial[int64_t{blockIdx.y} * H + column] = sum;
  }
}

// Stage 2. A block has 32 columns of one target; thread (c, r) adds blocks r, r + 16, r + 32, ...
constexpr int kStage2Rows = 16;
template <typename P>
__global__ void MB_LAUNCH_BOUNDS(kStage2Rows* kWarpSize) add_partials(ColumnPartials<P> partials) {
  MB_SHARED(double[kWarpSize], s_sum, kStage2Rows);
  const ColumnTarget target = blockIdx.y == 0   ? partials.target[0]  // an index that varies would
                              : blockIdx.y == 1 ? partials.target[1]  // copy them to local memory
                                                : partials.target[2];
  if (!target.y) return;  // the whole block
  const int64_t H = partials.H, h = int64_t{blockIdx.x} * kWarpSize + threadIdx.x;
  const P* data = partials.data + blockIdx.y * partials.blocks * H;
  double sum = 0;
  if (h < H) {
#pragma unroll 4
    for (int64_t block = threadIdx.y; block < partials.blocks; block += kStage2Rows)
      sum += static_cast<double>(data[block * H + h]);
  }
  s_sum[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || h >= H) return;
  for (int r = 1; r < kStage2Rows; ++r) sum += s_sum[r][threadIdx.x];
  target.y[h] = static_cast<float>(target.accumulate ? target.y[h] + sum : sum);
}

// Stage 1 of `sum`: partial[block] = sum of the block's chunk.
template <int N, typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    sum_chunk_of_block(const E* x, int64_t n, double* partial) {
  MB_SHARED(double, s_scratch, kWarpSize);
  const int64_t begin = int64_t{blockIdx.x} * kChunk, end = begin + kChunk < n ? begin + kChunk : n;
  double sum = 0;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x * N; i + N <= end; i += kThreads * N) {
    const Floats<N> value = load_floats<N>(x + i);
#pragma unroll
    for (int j = 0; j < N; ++j) sum += value[j];
  }
  const int64_t rest = (end - begin) % N;  // what is left of the last pack: an element a thread
  if (threadIdx.x < rest) sum += to_float(x[end - rest + threadIdx.x]);
  sum = block_sum(sum, s_scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Stage 2: one block.
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    add_chunks(const double* partial, int64_t chunks, float* y) {
  MB_SHARED(double, s_scratch, kWarpSize);
  double sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < chunks; i += kThreads) sum += partial[i];
  sum = block_sum(sum, s_scratch);
  if (threadIdx.x == 0) *y = static_cast<float>(sum);
}

// ---- 11. Launchers -----------------------------------------------------------------------------
template <int N, typename E>
void sum_in_two_stages(const ColumnSumArgs& args, const ColumnTarget& target, Stream stream) {
  const int64_t T = args.x.dim(0), H = args.x.dim(1), rows = rows_of_block(T),
                blocks = ceil_div(T, rows);
  const Workspace<double> partial(blocks * H, Device::cuda);
  launch(sum_rows_of_block<N, E>, {ceil_div(H, N * kWarpSize), blocks}, kThreads, 0, stream,
         cuda_data<E>(args.x), T, H, rows, partial.data());
  add_partials_cuda<double>({partial.data(), blocks, H, {target}}, stream);
}

template <typename E>
void column_sum_rung(const ColumnSumArgs& args, Stream stream, int rung) {
  const int64_t T = args.x.dim(0), H = args.x.dim(1);
  const E* x = cuda_data<E>(args.x);
  const ColumnTarget target{cuda_data<float>(args.y), args.accumulate};
  constexpr int N = kPack<E>;
  if (rung == 1) {
    launch(sum_thread_per_column<E>, ceil_div(H, kThreads), kThreads, 0, stream, x, T, H, target);
  } else if (rung == 2 || !aligned_to(16, x) || H % N != 0) {
    sum_in_two_stages<1, E>(args, target, stream);
  } else {
    sum_in_two_stages<N, E>(args, target, stream);
  }
}

template <typename E>
void launch_sum(const SumArgs& args, Stream stream) {
  const int64_t n = args.x.numel(), chunks = ceil_div(n, kChunk);
  const E* x = cuda_data<E>(args.x);
  const Workspace<double> partial(chunks, Device::cuda);
  launch(aligned_to(16, x) ? sum_chunk_of_block<kPack<E>, E> : sum_chunk_of_block<1, E>, chunks,
         kThreads, 0, stream, x, n, partial.data());
  launch(add_chunks, 1, kThreads, 0, stream, partial.data(), chunks, cuda_data<float>(args.y));
}

// ---- 12. Instantiations ------------------------------------------------------------------------
template void column_sum_rung<float>(const ColumnSumArgs&, Stream, int);
template void column_sum_rung<__nv_bfloat16>(const ColumnSumArgs&, Stream, int);
template void column_sum_rung<__half>(const ColumnSumArgs&, Stream, int);
template void launch_sum<float>(const SumArgs&, Stream);
template void launch_sum<__nv_bfloat16>(const SumArgs&, Stream);
template void launch_sum<__half>(const SumArgs&, Stream);

}  // namespace

template <typename P>
void add_partials_cuda(const ColumnPartials<P>& partials, Stream stream) {
  launch(add_partials<P>, {ceil_div(partials.H, kWarpSize), 3}, dim3(kWarpSize, kStage2Rows), 0,
         stream, partials);
}
template void add_partials_cuda<float>(const ColumnPartials<float>&, Stream);
template void add_partials_cuda<double>(const ColumnPartials<double>&, Stream);

void column_sum_cuda_rung(const ColumnSumArgs& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kColumnSumRungs, "column_sum: rung {} of {}", rung,
            kColumnSumRungs);
  with_cuda_element(args.x.dtype(),
                    [&](auto e) { column_sum_rung<decltype(e)>(args, stream, rung); });
}

void column_sum_cuda(const ColumnSumArgs& args, Stream stream) {
  column_sum_cuda_rung(args, stream, kColumnSumRungs);
}

void sum_cuda(const SumArgs& args, Stream stream) {
  with_cuda_element(args.x.dtype(), [&](auto e) { launch_sum<decltype(e)>(args, stream); });
}

}  // namespace minibert
