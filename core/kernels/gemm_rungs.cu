// gemm_rungs.cu: section 9, three simpler kernels, each with one idea more than the one before. They
// compute the plain product in f32; the second pass of gemm.cu then adds bias, GELU and the rest, so
// that a rung shows nothing but multiplication. Called by tests through gemm_cuda_rung.
// Easy to break: they read operands element by element, so any alignment is right.
#include "core/kernels/gemm_mma_cuda.h"

namespace minibert {
namespace {

/// What a rung reads and writes: op(a) [M, K], op(b) [K, N], product [M, N].
template <typename E>
struct PlainProduct {
  const E *a, *b;
  float* product;
  int M, N, K;
  bool transpose_a, transpose_b;

  __device__ __forceinline__ float at_a(int m, int k) const {
    return to_float(a[transpose_a ? static_cast<int64_t>(k) * M + m : m * int64_t{K} + k]);
  }
  __device__ __forceinline__ float at_b(int k, int n) const {
    return to_float(b[transpose_b ? static_cast<int64_t>(n) * K + k : k * int64_t{N} + n]);
  }
};

}  // namespace

// ---- 9. Rungs ----------------------------------------------------------------------------------
// Rung 1, naive: one thread, one element. Each of the 2 K loads is used once, so a multiprocessor
// waits for its caches: 8 bytes for each multiply-add, of which it could do 64 or 128 in a clock.
template <typename E>
__global__ void MB_LAUNCH_BOUNDS(256) gemm_naive_kernel(const PlainProduct<E> p) {
  const int n = static_cast<int>(blockIdx.x * 32 + threadIdx.x);
  const int m = static_cast<int>(blockIdx.y * 8 + threadIdx.y);
  if (m >= p.M || n >= p.N) return;
  float sum = 0;
  for (int k = 0; k < p.K; ++k) sum = fmaf(p.at_a(m, k), p.at_b(k, n), sum);
  p.product[static_cast<int64_t>(m) * p.N + n] = sum;
}

// Rung 2, tiled: the block fetches a 32 x 32 tile of each operand into shared memory, in the order of
// memory, and uses each element 32 times. Now shared memory is the limit: five loads (four of a, one
// of b) feed four multiply-adds of a thread.
template <typename E>
__global__ void MB_LAUNCH_BOUNDS(256, 4) gemm_tiled_kernel(const PlainProduct<E> p) {
  constexpr int kTile = 32, kRows = 8;      // of threads
  MB_SHARED(float[kTile + 1], s_a, kTile);  // [m][k]; the 33rd column keeps columns off one bank
  MB_SHARED(float[kTile + 1], s_b, kTile);  // [k][n]
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int m0 = static_cast<int>(blockIdx.y) * kTile, n0 = static_cast<int>(blockIdx.x) * kTile;
  float r_sum[kTile / kRows] = {};
  for (int k0 = 0; k0 < p.K; k0 += kTile) {
    for (int line = y; line < kTile; line += kRows) {  // neighbouring threads, neighbouring memory
      const int m = p.transpose_a ? x : line, k_of_a = p.transpose_a ? line : x;
      const int n = p.transpose_b ? line : x, k_of_b = p.transpose_b ? x : line;
      const bool in_a = m0 + m < p.M && k0 + k_of_a < p.K;
      const bool in_b = n0 + n < p.N && k0 + k_of_b < p.K;
      s_a[m][k_of_a] = in_a ? p.at_a(m0 + m, k0 + k_of_a) : 0.0f;
      s_b[k_of_b][n] = in_b ? p.at_b(k0 + k_of_b, n0 + n) : 0.0f;
    }
    __syncthreads();
    for (int k = 0; k < kTile; ++k) {
#pragma unroll
      for (int i = 0; i < kTile / kRows; ++i)
        r_sum[i] = fmaf(s_a[y + i * kRows][k], s_b[k][x], r_sum[i]);
    }
    __syncthreads();  // the tiles are read: the next may come
  }
#pragma unroll
  for (int i = 0; i < kTile / kRows; ++i) {
    const int m = m0 + y + i * kRows, n = n0 + x;
    if (m < p.M && n < p.N) p.product[static_cast<int64_t>(m) * p.N + n] = r_sum[i];
  }
}

// Rung 3, tensor cores without a pipeline: four warps of 32 x 32 in a block of 64 x 64. An
// instruction makes 16 x 8 x 16 multiply-adds of a warp, from fragments that ldmatrix reads out of
// shared memory. All wait for the copies, then all multiply: the tensor cores are idle half of the
// time. The production kernel copies ahead, and reads 64 x 64 a warp, twice as much use of a fragment.
template <typename E>
__global__ void MB_LAUNCH_BOUNDS(128) gemm_tensor_core_kernel(const PlainProduct<E> p) {
  constexpr int kTile = 64, kThreads = 128;
  constexpr int kK = 32 / static_cast<int>(sizeof(E));  // 32 bytes: one step
  // 48 bytes: eight lines begin in eight different groups of banks.
  constexpr int kLine = kK + 16 / static_cast<int>(sizeof(E));
  MB_SHARED(E[kLine], s_a, kTile);  // [m][k]
  MB_SHARED(E[kLine], s_b, kTile);  // [n][k]
  const int thread = static_cast<int>(threadIdx.x), lane = lane_id();
  const int m0 = static_cast<int>(blockIdx.y) * kTile, n0 = static_cast<int>(blockIdx.x) * kTile;
  const int warp_m = warp_id() % 2 * 32, warp_n = warp_id() / 2 * 32;
  float r_c[2][4][4] = {};
  for (int k0 = 0; k0 < p.K; k0 += kK) {
    for (int i = thread; i < kTile * kK; i += kThreads) {
      const int row = i / kK, k = i % kK;
      const bool in_a = m0 + row < p.M && k0 + k < p.K, in_b = n0 + row < p.N && k0 + k < p.K;
      s_a[row][k] = from_float<E>(in_a ? p.at_a(m0 + row, k0 + k) : 0.0f);
      s_b[row][k] = from_float<E>(in_b ? p.at_b(k0 + k, n0 + row) : 0.0f);
    }
    __syncthreads();
    uint32_t r_a[2][4], r_b[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      // Lane 8 q + j gives row j of matrix q. a: rows low, high, low, high; b: low, low, high, high.
      const int low = lane / 8 % 2, high = lane / 16;
      ldmatrix_x4(r_a[i], &s_a[warp_m + 16 * i + 8 * low + lane % 8][high * kK / 2]);
      ldmatrix_x4(r_b[i], &s_b[warp_n + 16 * i + 8 * high + lane % 8][low * kK / 2]);
    }
    if constexpr (sizeof(E) == 4) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        r_a[i / 4][i % 4] = cvt_tf32(__uint_as_float(r_a[i / 4][i % 4]));
        r_b[i / 4][i % 4] = cvt_tf32(__uint_as_float(r_b[i / 4][i % 4]));
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        mma_step<E>(r_c[i][j], r_a[i], r_b[j / 2][j % 2 * 2], r_b[j / 2][j % 2 * 2 + 1]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2 * 4 * 4; ++i) {
    const int down = i / 16, across = i / 4 % 4, element = i % 4;
    const int m = m0 + warp_m + 16 * down + element / 2 * 8 + lane / 4;
    const int n = n0 + warp_n + 8 * across + lane % 4 * 2 + element % 2;
    if (m < p.M && n < p.N)
      p.product[static_cast<int64_t>(m) * p.N + n] = r_c[down][across][element];
  }
}

// ---- 11. Launcher ------------------------------------------------------------------------------
namespace {

template <typename E>
void launch_rung(const PlainProduct<E>& p, bool tf32, GemmRung rung, Stream stream) {
  // Tensor cores round f32: a product that must be exact stays on the rung below.
  if (rung == GemmRung::tensor_core && std::is_same_v<E, float> && !tf32) rung = GemmRung::tiled;
  if (rung == GemmRung::naive) {
    launch(gemm_naive_kernel<E>, {ceil_div(p.N, 32), ceil_div(p.M, 8)}, dim3(32, 8), 0, stream, p);
  } else if (rung == GemmRung::tiled) {
    launch(gemm_tiled_kernel<E>, {ceil_div(p.N, 32), ceil_div(p.M, 32)}, dim3(32, 8), 0, stream, p);
  } else {
    launch(gemm_tensor_core_kernel<E>, {ceil_div(p.N, 64), ceil_div(p.M, 64)}, 128, 0, stream, p);
  }
}

}  // namespace

void gemm_cuda_rung(const GemmArgs& args, Stream stream, GemmRung rung) {
  if (rung == GemmRung::production) return gemm_cuda_ours(args, stream);
  gemm_sum_rows_apart(args, stream);
  const auto [M, N, K] = gemm_sizes(args);
  if (M == 0 || N == 0) return gemm_finish_products(args, nullptr, 1, stream);
  const DeviceWorkspace product(M * N * static_cast<int64_t>(sizeof(float)));
  // ---- 12. Instantiations: every rung in every type ----
  with_cuda_element(args.a.dtype(), [&](auto e) {
    using E = decltype(e);
    launch_rung(PlainProduct<E>{cuda_data<E>(args.a), cuda_data<E>(args.b), product.data<float>(),
                                static_cast<int>(M), static_cast<int>(N), static_cast<int>(K),
                                args.transpose_a, args.transpose_b},
                args.tf32, rung, stream);
  });
  gemm_finish_products(args, product.data<float>(), 1, stream);
}

}  // namespace minibert
