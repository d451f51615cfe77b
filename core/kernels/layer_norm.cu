// layer_norm.cu: layer normalisation on CUDA, sections 8 to 12 of the layer_norm chapter; contract
// and mathematics: layer_norm.h. Called by layer_norm.cpp; the last stage of the column sums is in
// reduce.cu. Easy to get wrong: z may be x, so a thread reads x before it writes z; and lanes beyond
// column H must enter no sum. Test: ctest -R kernels_layer_norm_cuda.
#include "core/error.h"
#include "core/kernels/elements_cuda.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/reduce_cuda.h"
#include "core/kernels/workspace.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
// Memory bounds it, so each element should cross the bus once: a row is read into registers, and
// mean, variance and result are made from there. One warp has one row, in packs of 16 bytes:
//
//   H = 768 of a 16-bit type: 96 packs of 8 columns, three a lane
//              columns  0..7     8..15    ...  248..255 | 256..263  ...  504..511 | 512..519 ...
//   warp, row  pack     lane 0   lane 1   ...  lane 31  | lane 0    ...  lane 31  | lane 0   ...
//              in r_z   [0]      [0]           [0]        [1]            [1]        [2]
//
// A sum over the row is five shuffles: no barrier, no shared memory, and warps do not wait for one
// another. 24 columns a lane are 24 registers, so 28 warps fit an SM, each with 3 KB under way.
//
// Backward wants sums over columns too (dweight, dbeta, dbias). A warp walks over several rows and
// keeps those sums of its columns in registers, three more floats a column: it reads dy and z once
// and writes dz and dx once, with nothing in between. Few warps fit an SM then, but each has a row
// of dy and one of z under way. Blocks of rows depend on T alone: 264, two for each SM of an H100,
// so that the bits are the same on every GPU; the blocks' sums are added by reduce.cu.
//
// Rows that are longer than registers hold (H > 1,024), or not aligned to 16 bytes, are read again
// for each pass, from the caches: the kernels of section 9, with a warp or a block a row.

constexpr int kThreads = 256;        // of a block of section 9
constexpr int kRowThreads = 128;     // of a block of section 10: four warps, four rows at a time
constexpr int kLongest = 1024;       // columns of a row in registers
constexpr int64_t kRowBlocks = 264;  // at most, of backward

// The operands of a call as kernels read them.
template <typename E>
struct ForwardRows {
  const E *x, *bias, *residual;          // [T, H], [H], [T, H]; the last two may be null
  const float *weight, *beta;            // [H]
  E *z, *y;                              // [T, H]; z null: x is what is normalised
  float *mean, *rstd;                    // [T]
  const int32_t *position, *row_sample;  // [T]
  Dropout dropout;
  int64_t T, H;
  float per_column;  // 1 / H
  float eps;
};
template <typename E>
struct BackwardRows {
  const E *dy, *z;  // [T, H]
  const float *mean, *rstd, *weight;
  E *dz, *dx;  // [T, H]; dx may be null
  bool accumulate_dz;
  float *dbias, *dweight, *dbeta;  // partial sums, a row for each team or block, or null
  const int32_t *position, *row_sample;
  Dropout dropout;
  int64_t T, H;
  float per_column;  // 1 / H
  int64_t rows;      // that a team or block walks over
};

// ---- Of a few columns of a row -----------------------------------------------------------------
// residual + dropout(x + bias), as it reads back from a tensor of E.
template <int N, typename E>
__device__ __forceinline__ Floats<N> z_of(const Floats<N>& x, const Floats<N>& bias,
                                          const Floats<N>& residual, const RowDropout& dropout,
                                          int64_t h) {
  return rounded_to<E>(residual + dropout(x + bias, h));
}

// What the sums over a row's d = z - mean0 and their squares say. mean0 was rounded; `rest` is what
// it left. Var = E[d^2] - E[d]^2 cancels nothing here, since d has nearly no mean.
struct RowStatistics {
  float mean, rest, rstd;

  __device__ RowStatistics(float mean0, float sum_d, float sum_squares, float per_column, float eps)
      : mean(mean0), rest(sum_d * per_column) {
    const float variance = sum_squares * per_column - rest * rest;
    rstd = rsqrtf((variance < 0 ? 0 : variance) + eps);  // NaN stays NaN
  }
};

// Of a row in backward: d = z - mean, g = dy * weight. Averages over H of the three sums.
struct RowAverages {
  float rest, g, g_xhat;

  __device__ RowAverages(float sum_d, float sum_g, float sum_gd, float rstd, float per_column)
      : rest(sum_d * per_column),
        g(sum_g * per_column),
        g_xhat(rstd * (sum_gd - rest * sum_g) * per_column) {}
};

// ---- 9. Rungs ----------------------------------------------------------------------------------
// Three rungs are one kernel: a team of threads has a row, and reads it once for each pass.
// 1. A team of one thread. Lanes are a row apart, so each access of a warp touches 32 lines, and T
//    rows are too few threads. Lesson: who shares a row decides how memory is read.
// 2. A team of 32, a warp: neighbouring lanes read neighbouring columns, and the sum is five
//    shuffles. Lesson: a warp is the natural team; its lanes add without memory and without barriers.
// 3. The same with whole packs of 16 bytes a lane. Lesson: an eighth of the load instructions moves
//    the same bytes; where memory is the bound, instructions must not become it.
// A team of 256, a block, serves rows that are too long for a warp's registers.

// Sum over a team, in every thread of it.
template <int kTeam>
__device__ __forceinline__ float team_sum(float x, [[maybe_unused]] float* s_scratch) {
  if constexpr (kTeam == 1) {
    return x;
  } else if constexpr (kTeam == kWarpSize) {
    return warp_sum(x);
  } else {
    return block_sum(x, s_scratch);
  }
}

template <bool kPacked, int kTeam, typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads, 3) forward_rereading(const ForwardRows<E> a) {
  MB_SHARED(float, s_scratch, kWarpSize);
  constexpr int N = kPack<E>;
  const int64_t t = int64_t{blockIdx.x} * (kThreads / kTeam) + threadIdx.x / kTeam, H = a.H;
  if (t >= a.T) return;  // whole teams
  const int64_t first = threadIdx.x % kTeam * N, step = kTeam * N;
  const RowDropout dropout(a.dropout, a.position, a.row_sample, t);
  float sum = 0;
  for (int64_t h = first; h < H; h += step) {
    const int64_t at = t * H + h, left = H - h;
    Floats<N> z = load_row<kPacked, N>(a.x + at, left), bias{}, residual{};
    if (a.z) {  // else x is z
      if (a.bias) bias = load_row<kPacked, N>(a.bias + h, left);
      if (a.residual) residual = load_row<kPacked, N>(a.residual + at, left);
      z = z_of<N, E>(z, bias, residual, dropout, h);
      store_row<kPacked>(a.z + at, z, left);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) sum += h + i < H ? z[i] : 0.0f;
  }
  const E* z = (a.z ? a.z : a.x) + t * H;  // each thread reads again what it wrote itself
  const float mean0 = team_sum<kTeam>(sum, s_scratch) * a.per_column;
  float sum_d = 0, sum_squares = 0;
  for (int64_t h = first; h < H; h += step) {
    const Floats<N> value = load_row<kPacked, N>(z + h, H - h);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float d = h + i < H ? value[i] - mean0 : 0.0f;
      sum_d += d;
      sum_squares += d * d;
    }
  }
  sum_d = team_sum<kTeam>(sum_d, s_scratch);
  sum_squares = team_sum<kTeam>(sum_squares, s_scratch);
  const RowStatistics row(mean0, sum_d, sum_squares, a.per_column, a.eps);
  for (int64_t h = first; h < H; h += step) {
    const int64_t left = H - h;
    Floats<N> value = load_row<kPacked, N>(z + h, left);
    const Floats<N> weight = load_row<kPacked, N>(a.weight + h, left),
                    beta = load_row<kPacked, N>(a.beta + h, left);
#pragma unroll
    for (int i = 0; i < N; ++i)
      value[i] = (value[i] - mean0 - row.rest) * row.rstd * weight[i] + beta[i];
    store_row<kPacked>(a.y + t * H + h, value, left);
  }
  if (first == 0) {
    a.mean[t] = row.mean + row.rest;
    a.rstd[t] = row.rstd;
  }
}

// A team walks over a.rows rows and adds to its own row of partial sums, which lies in memory.
template <bool kPacked, int kTeam, typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads, 3) backward_rereading(const BackwardRows<E> a) {
  MB_SHARED(float, s_scratch, kWarpSize);
  constexpr int N = kPack<E>;
  const int64_t team = int64_t{blockIdx.x} * (kThreads / kTeam) + threadIdx.x / kTeam, H = a.H;
  const int64_t begin = team * a.rows, end = begin + a.rows < a.T ? begin + a.rows : a.T;
  if (begin >= end) return;  // whole teams
  const int64_t first = threadIdx.x % kTeam * N, step = kTeam * N;
  float* const sums[3] = {a.dbias, a.dweight, a.dbeta};
  for (int64_t t = begin; t < end; ++t) {
    const E *dy_row = a.dy + t * H, *z_row = a.z + t * H;
    const float mean = a.mean[t], rstd = a.rstd[t];
    float sum_d = 0, sum_g = 0, sum_gd = 0;
    for (int64_t h = first; h < H; h += step) {
      const Floats<N> dy = load_row<kPacked, N>(dy_row + h, H - h),
                      z = load_row<kPacked, N>(z_row + h, H - h),
                      weight = load_row<kPacked, N>(a.weight + h, H - h);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float d = h + i < H ? z[i] - mean : 0.0f, g = dy[i] * weight[i];
        sum_d += d;
        sum_g += g;
        sum_gd += g * d;
      }
    }
    sum_d = team_sum<kTeam>(sum_d, s_scratch);
    sum_g = team_sum<kTeam>(sum_g, s_scratch);
    sum_gd = team_sum<kTeam>(sum_gd, s_scratch);
    const RowAverages average(sum_d, sum_g, sum_gd, rstd, a.per_column);
    const RowDropout dropout(a.dropout, a.position, a.row_sample, t);
    for (int64_t h = first; h < H; h += step) {
      const int64_t at = t * H + h, left = H - h;
      const Floats<N> dy = load_row<kPacked, N>(dy_row + h, left),
                      z = load_row<kPacked, N>(z_row + h, left),
                      weight = load_row<kPacked, N>(a.weight + h, left);
      Floats<N> gradient, dy_xhat;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float xhat = (z[i] - mean - average.rest) * rstd;
        gradient[i] = rstd * (dy[i] * weight[i] - average.g - xhat * average.g_xhat);
        dy_xhat[i] = dy[i] * xhat;
      }
      const Floats<N> masked = dropout(gradient, h);
      if (a.accumulate_dz) gradient = load_row<kPacked, N>(a.dz + at, left) + gradient;
      store_row<kPacked>(a.dz + at, gradient, left);
      if (a.dx) store_row<kPacked>(a.dx + at, masked, left);
      const Floats<N> terms[3] = {masked, dy_xhat, dy};
#pragma unroll
      for (int which = 0; which < 3; ++which) {
        float* sum = sums[which];
        if (!sum) continue;
        sum += team * H + h;
        Floats<N> before{};  // of the first row: nothing
        if (t > begin) before = load_row<kPacked, N>(sum, left);
        store_row<kPacked>(sum, before + terms[which], left);
      }
    }
  }
}

// ---- 10. Production kernels --------------------------------------------------------------------
// 4. The row stays in registers: one read. All loads of a row are issued before the first is used.
//    Lesson: registers are the largest memory of an SM; what is in them need not be read again.
template <int kPacks, typename E>
__global__ void MB_LAUNCH_BOUNDS(kRowThreads) forward_in_registers(const ForwardRows<E> a) {
  constexpr int N = kPack<E>;
  const int64_t t = int64_t{blockIdx.x} * (kRowThreads / kWarpSize) + warp_id();
  if (t >= a.T) return;  // whole warps
  const int H = static_cast<int>(a.H), lane = lane_id();
  const auto column = [lane](int p) { return (p * kWarpSize + lane) * N; };
  const E *x = a.x + t * H, *residual = a.residual ? a.residual + t * H : nullptr;
  Pack<E, N> r_x[kPacks] = {}, r_residual[kPacks] = {}, r_bias[kPacks] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (column(p) >= H) continue;
    r_x[p] = load_pack<N>(x + column(p));
    if (residual) r_residual[p] = load_pack<N>(residual + column(p));
    if (a.bias) r_bias[p] = load_pack<N>(a.bias + column(p));
  }
  const RowDropout dropout(a.dropout, a.position, a.row_sample, t);
  Floats<N> r_z[kPacks];
  float sum = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    r_z[p] = floats_of(r_x[p]);
    if (a.z && column(p) < H) {
      r_z[p] =
          z_of<N, E>(r_z[p], floats_of(r_bias[p]), floats_of(r_residual[p]), dropout, column(p));
      store_floats<N>(a.z + t * H + column(p), r_z[p]);
    }
    sum += sum_of(r_z[p]);  // columns beyond H are zeros
  }
  const float mean0 = warp_sum(sum) * a.per_column;
  float sum_d = 0, sum_squares = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
#pragma unroll
    for (int i = 0; i < N; ++i) {
      r_z[p][i] = column(p) < H ? r_z[p][i] - mean0 : 0.0f;  // from here on d
      sum_d += r_z[p][i];
      sum_squares += r_z[p][i] * r_z[p][i];
    }
  sum_d = warp_sum(sum_d);
  sum_squares = warp_sum(sum_squares);
  const RowStatistics row(mean0, sum_d, sum_squares, a.per_column, a.eps);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (column(p) >= H) continue;
    const Floats<N> weight = load_floats<N>(a.weight + column(p)),
                    beta = load_floats<N>(a.beta + column(p));
    Floats<N> y;
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = (r_z[p][i] - row.rest) * row.rstd * weight[i] + beta[i];
    store_floats<N>(a.y + t * H + column(p), y);
  }
  if (lane == 0) {
    a.mean[t] = row.mean + row.rest;
    a.rstd[t] = row.rstd;
  }
}

// Adds the four warps' sums of a block's columns in warp order, and writes them to sum [H].
template <int kPacks, int N>
__device__ __forceinline__ void add_warps(const Floats<N> (&r_sum)[kPacks], float* sum, int H,
                                          float (*s_sum)[kPacks * N * kWarpSize]) {
  if (!sum) return;  // the whole block
  constexpr int kColumns = kPacks * N * kWarpSize;
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
    store_floats<N>(&s_sum[warp_id()][(p * kWarpSize + lane_id()) * N], r_sum[p]);
  __syncthreads();
  for (int h = threadIdx.x; h < kColumns && h < H; h += kRowThreads)
    sum[h] = s_sum[0][h] + s_sum[1][h] + s_sum[2][h] + s_sum[3][h];
  __syncthreads();  // s_sum is free again
}

// A block has a.rows rows, warp w of it rows w, w + 4, w + 8, ...
template <int kPacks, typename E>
__global__ void MB_LAUNCH_BOUNDS(kRowThreads, kPacks <= 3 ? 3 : 2)
    backward_in_registers(const BackwardRows<E> a) {
  constexpr int N = kPack<E>, kWarps = kRowThreads / kWarpSize;
  MB_SHARED(float[kPacks * N * kWarpSize], s_sum, kWarps);
  const int64_t begin = blockIdx.x * a.rows, end = begin + a.rows < a.T ? begin + a.rows : a.T;
  const int H = static_cast<int>(a.H), lane = lane_id();
  const auto column = [lane](int p) { return (p * kWarpSize + lane) * N; };
  Floats<N> r_dbias[kPacks], r_dweight[kPacks], r_dbeta[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) r_dbias[p] = r_dweight[p] = r_dbeta[p] = {};
  for (int64_t t = begin + warp_id(); t < end; t += kWarps) {
    const E *dy_row = a.dy + t * H, *z_row = a.z + t * H;
    E *dz_row = a.dz + t * H, *dx_row = a.dx ? a.dx + t * H : nullptr;
    Pack<E, N> r_dy[kPacks], r_z[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (column(p) >= H) continue;
      r_dy[p] = load_pack<N>(dy_row + column(p));
      r_z[p] = load_pack<N>(z_row + column(p));
    }
    const float mean = a.mean[t], rstd = a.rstd[t];
    float sum_d = 0, sum_g = 0, sum_gd = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (column(p) >= H) continue;
      const Floats<N> dy = floats_of(r_dy[p]), z = floats_of(r_z[p]),
                      weight = load_floats<N>(a.weight + column(p));
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float d = z[i] - mean, g = dy[i] * weight[i];
        sum_d += d;
        sum_g += g;
        sum_gd += g * d;
      }
    }
    sum_d = warp_sum(sum_d);
    sum_g = warp_sum(sum_g);
    sum_gd = warp_sum(sum_gd);
    const RowAverages average(sum_d, sum_g, sum_gd, rstd, a.per_column);
    const RowDropout dropout(a.dropout, a.position, a.row_sample, t);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (column(p) >= H) continue;
      const Floats<N> dy = floats_of(r_dy[p]), z = floats_of(r_z[p]),
                      weight = load_floats<N>(a.weight + column(p));
      Floats<N> before{}, gradient;
      if (a.accumulate_dz) before = load_floats<N>(dz_row + column(p));
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float xhat = (z[i] - mean - average.rest) * rstd;
        gradient[i] = rstd * (dy[i] * weight[i] - average.g - xhat * average.g_xhat);
        r_dweight[p][i] += dy[i] * xhat;
        r_dbeta[p][i] += dy[i];
      }
      const Floats<N> masked = dropout(gradient, column(p));
      r_dbias[p] = r_dbias[p] + masked;
      store_floats<N>(dz_row + column(p), a.accumulate_dz ? before + gradient : gradient);
      if (dx_row) store_floats<N>(dx_row + column(p), masked);
    }
  }
  const int64_t at = blockIdx.x * a.H;
  add_warps(r_dbias, a.dbias ? a.dbias + at : nullptr, H, s_sum);
  add_warps(r_dweight, a.dweight ? a.dweight + at : nullptr, H, s_sum);
  add_warps(r_dbeta, a.dbeta ? a.dbeta + at : nullptr, H, s_sum);
}

// ---- 11. Launchers -----------------------------------------------------------------------------
// The kernel of a call: the rung asked for, or, where its rows are not fit for it, a lower one.
enum class Rows { thread, warp, warp_packs, block, block_packs, registers };
Rows choose(int rung, bool packed, int64_t H) {
  if (rung == 1) return Rows::thread;
  if (rung == 2) return Rows::warp;
  if (H > kLongest && rung == 4) return packed ? Rows::block_packs : Rows::block;
  if (!packed) return Rows::warp;
  return rung == 3 ? Rows::warp_packs : Rows::registers;
}

// body(std::integral_constant<int, kPacks>) with packs a lane for rows of H columns.
template <typename E, typename Body>
void with_packs(int64_t H, const Body& body) {
  const int64_t packs = ceil_div(H, kPack<E> * kWarpSize);
  if (packs <= 1) return body(std::integral_constant<int, 1>());
  if (packs <= 2) return body(std::integral_constant<int, 2>());
  if (packs <= 3) return body(std::integral_constant<int, 3>());
  if constexpr (kLongest / (kPack<E> * kWarpSize) == 4) {
    body(std::integral_constant<int, 4>());
  } else {  // f32
    if (packs <= 4) return body(std::integral_constant<int, 4>());
    if (packs <= 6) return body(std::integral_constant<int, 6>());
    body(std::integral_constant<int, 8>());
  }
}

template <typename E>
void launch_forward(const LayerNormForward& args, Stream stream, int rung) {
  const int64_t T = args.x.dim(0), H = args.x.dim(1);
  const ForwardRows<E> a{cuda_data<E>(args.x),
                         cuda_data_or_null<E>(args.bias),
                         cuda_data_or_null<E>(args.residual),
                         cuda_data<float>(args.weight),
                         cuda_data<float>(args.beta),
                         cuda_data_or_null<E>(args.z),
                         cuda_data<E>(args.y),
                         cuda_data<float>(args.mean),
                         cuda_data<float>(args.rstd),
                         cuda_data_or_null<int32_t>(args.position),
                         cuda_data_or_null<int32_t>(args.row_sample),
                         args.dropout,
                         T,
                         H,
                         1.0f / static_cast<float>(H),
                         args.eps};
  const bool packed =
      H % kPack<E> == 0 && aligned_to(16, a.x, a.bias, a.residual, a.weight, a.beta, a.z, a.y);
  const auto rereading = [&](auto kernel, int team) {
    launch(kernel, ceil_div(T, kThreads / team), kThreads, 0, stream, a);
  };
  switch (choose(rung, packed, H)) {
    case Rows::thread:
      return rereading(forward_rereading<false, 1, E>, 1);
    case Rows::warp:
      return rereading(forward_rereading<false, kWarpSize, E>, kWarpSize);
    case Rows::warp_packs:
      return rereading(forward_rereading<true, kWarpSize, E>, kWarpSize);
    case Rows::block:
      return rereading(forward_rereading<false, kThreads, E>, kThreads);
    case Rows::block_packs:
      return rereading(forward_rereading<true, kThreads, E>, kThreads);
    case Rows::registers:
      with_packs<E>(H, [&](auto packs) {
        launch(forward_in_registers<decltype(packs)::value, E>,
               ceil_div(T, kRowThreads / kWarpSize), kRowThreads, 0, stream, a);
      });
  }
}

// Rows of a block, or of a team of section 9: at least 16, so that the sums cost little, a multiple
// of four warps, and at most kRowBlocks blocks. Depends on T alone.
int64_t backward_rows(int64_t T) {
  const int64_t rows = ceil_div(ceil_div(T, kRowBlocks), 4) * 4;
  return rows < 16 ? 16 : rows;
}

template <typename E>
void launch_backward(const LayerNormBackward& args, Stream stream, int rung) {
  const int64_t T = args.dy.dim(0), H = args.dy.dim(1), rows = backward_rows(T),
                blocks = ceil_div(T, rows);
  const Workspace<float> sums(3 * blocks * H, Device::cuda);
  const auto partial = [&](const Operand& target, int which) {
    return target.defined() ? sums.data() + which * blocks * H : nullptr;
  };
  const BackwardRows<E> a{cuda_data<E>(args.dy),
                          cuda_data<E>(args.z),
                          cuda_data<float>(args.mean),
                          cuda_data<float>(args.rstd),
                          cuda_data<float>(args.weight),
                          cuda_data<E>(args.dz),
                          cuda_data_or_null<E>(args.dx),
                          args.accumulate_dz,
                          partial(args.dbias, 0),
                          partial(args.dweight, 1),
                          partial(args.dbeta, 2),
                          cuda_data_or_null<int32_t>(args.position),
                          cuda_data_or_null<int32_t>(args.row_sample),
                          args.dropout,
                          T,
                          H,
                          1.0f / static_cast<float>(H),
                          rows};
  const bool packed = H % kPack<E> == 0 && aligned_to(16, a.dy, a.z, a.weight, a.dz, a.dx);
  const auto rereading = [&](auto kernel, int team) {
    launch(kernel, ceil_div(blocks, kThreads / team), kThreads, 0, stream, a);
  };
  switch (choose(rung, packed, H)) {
    case Rows::thread:
      rereading(backward_rereading<false, 1, E>, 1);
      break;
    case Rows::warp:
      rereading(backward_rereading<false, kWarpSize, E>, kWarpSize);
      break;
    case Rows::warp_packs:
      rereading(backward_rereading<true, kWarpSize, E>, kWarpSize);
      break;
    case Rows::block:
      rereading(backward_rereading<false, kThreads, E>, kThreads);
      break;
    case Rows::block_packs:
      rereading(backward_rereading<true, kThreads, E>, kThreads);
      break;
    case Rows::registers:
      with_packs<E>(H, [&](auto packs) {
        launch(backward_in_registers<decltype(packs)::value, E>, blocks, kRowThreads, 0, stream, a);
      });
  }
  const auto target = [](const Operand& y, bool accumulate) {
    return ColumnTarget{cuda_data_or_null<float>(y), accumulate};
  };
  add_partials_cuda<float>(
      {sums.data(),
       blocks,
       H,
       {target(args.dbias, args.accumulate_dbias), target(args.dweight, args.accumulate_dweight),
        target(args.dbeta, args.accumulate_dbeta)}},
      stream);
}

// ---- 12. Instantiations ------------------------------------------------------------------------
#define MB_LAYER_NORM(E)                                                 \
  template void launch_forward<E>(const LayerNormForward&, Stream, int); \
  template void launch_backward<E>(const LayerNormBackward&, Stream, int);
MB_LAYER_NORM(float)
MB_LAYER_NORM(__nv_bfloat16)
MB_LAYER_NORM(__half)
#undef MB_LAYER_NORM

}  // namespace

void layer_norm_forward_cuda_rung(const LayerNormForward& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kLayerNormRungs, "layer_norm_forward: rung {} of {}", rung,
            kLayerNormRungs);
  with_cuda_element(args.x.dtype(),
                    [&](auto e) { launch_forward<decltype(e)>(args, stream, rung); });
}

void layer_norm_backward_cuda_rung(const LayerNormBackward& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kLayerNormRungs, "layer_norm_backward: rung {} of {}", rung,
            kLayerNormRungs);
  with_cuda_element(args.dy.dtype(),
                    [&](auto e) { launch_backward<decltype(e)>(args, stream, rung); });
}

void layer_norm_forward_cuda(const LayerNormForward& args, Stream stream) {
  layer_norm_forward_cuda_rung(args, stream, kLayerNormRungs);
}

void layer_norm_backward_cuda(const LayerNormBackward& args, Stream stream) {
  layer_norm_backward_cuda_rung(args, stream, kLayerNormRungs);
}

}  // namespace minibert
