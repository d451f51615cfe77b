// gemm_ffma_cuda.h: section 10, the production kernel for products that are exact in f32.
// Included by gemm_ffma.cu, which instantiates it. The same slots, copies and last step as on tensor
// cores (gemm_mma_cuda.h); the middle is 64 fused multiply-adds a thread for each k. Easy to break:
// which rows a thread owns depends on how its operand lies in memory. Test: ctest -R gemm_cuda.
#pragma once

#include "core/kernels/gemm_mma_cuda.h"

namespace minibert {

// ---- 10. Production kernel: exact f32 -----------------------------------------------------------
/// Reads what one of kThreads neighbours needs of a warp's 8 kThreads rows: eight rows by four k, in
/// eight loads of 16 bytes, whichever way the slot's lines run.
template <int kRows, bool kAlongK, int kThreads>
class StripReader {
  using Tile = OperandTile<float, kRows, kAlongK>;

 public:
  /// `row0`: the warp's first row; `thread`: 0 .. kThreads - 1.
  __device__ __forceinline__ StripReader(int row0, int thread) : row0_(row0), thread_(thread) {}

  /// Row i = 0..7 of this thread: neighbours read neighbouring lines, or neighbouring chunks of one.
  __device__ __forceinline__ int row(int i) const {
    return row0_ + (kAlongK ? thread_ + kThreads * i : thread_ * 4 + i % 4 + i / 4 * 4 * kThreads);
  }

  /// Elements [row][k] of chunk `chunk` of the round's K.
  __device__ __forceinline__ void read(float (&r)[8][4], const char* s_slot, int chunk) const {
    if constexpr (kAlongK) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const auto four = load(s_slot, row(i), chunk);
#pragma unroll
        for (int k = 0; k < 4; ++k) r[i][k] = four[k];
      }
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
          const auto four = load(s_slot, 4 * chunk + k, row(i) / 4);
#pragma unroll
          for (int j = 0; j < 4; ++j) r[i + j][k] = four[j];
        }
      }
    }
  }

 private:
  __device__ static __forceinline__ Pack<float, 4> load(const char* s_slot, int line, int chunk) {
    return load_pack<4>(reinterpret_cast<const float*>(s_slot + Tile::place(line, chunk)));
  }
  int row0_, thread_;
};

/// Grid: tiles of c, then splits of K. A warp is 4 x 8 threads, each with 8 x 8 sums.
template <typename Tile, bool kAAlongK, bool kBAlongK>
__global__ void MB_LAUNCH_BOUNDS(Tile::kThreads, Tile::kBlocks)
    gemm_ffma_kernel(const GemmLaunch p) {
  static_assert(Tile::kWarpM == 32 && Tile::kWarpN == 64);
  using ATile = OperandTile<float, Tile::kM, kAAlongK>;
  constexpr int kK = ATile::kK;
  char* const s_slots = dynamic_shared<char>();

  const int M = p.finish.M, N = p.finish.N;
  int tile_m, tile_n;
  tile_of_block(static_cast<int>(blockIdx.x), (M + Tile::kM - 1) / Tile::kM,
                (N + Tile::kN - 1) / Tile::kN, tile_m, tile_n);
  const int m0 = tile_m * Tile::kM, n0 = tile_n * Tile::kN, split = static_cast<int>(blockIdx.y);
  const int k_begin = split * p.split_k;
  int k_to_copy = min(p.K - k_begin, p.split_k);
  const int rounds = (k_to_copy + kK - 1) / kK;

  TileCopier<float, Tile::kM, kAAlongK, Tile::kThreads> copy_a(p.a, p.a_stride, m0, M, k_begin);
  TileCopier<float, Tile::kN, kBAlongK, Tile::kThreads> copy_b(p.b, p.b_stride, n0, N, k_begin);
  const auto queue_copies = [&](char* s_slot) {
    if (k_to_copy > 0) {
      copy_a.template copy<false>(s_slot, k_to_copy);
      copy_b.template copy<false>(s_slot + ATile::kBytes, k_to_copy);
    }
    k_to_copy -= kK;
    cp_async_commit();  // an empty group too: cp_async_wait counts groups
  };

  const StripReader<Tile::kM, kAAlongK, 4> read_a(warp_id() % Tile::kWarpsDown * Tile::kWarpM,
                                                  lane_id() / 8);
  const StripReader<Tile::kN, kBAlongK, 8> read_b(warp_id() / Tile::kWarpsDown * Tile::kWarpN,
                                                  lane_id() % 8);
  float r_c[8][8] = {}, r_a[8][4], r_b[8][4];

#pragma unroll
  for (int s = 0; s < Tile::kStages - 1; ++s) queue_copies(s_slots + s * Tile::kStageBytes);
  int fill = (Tile::kStages - 1) * Tile::kStageBytes, reading = 0;
#pragma unroll 1
  for (int round = 0; round < rounds; ++round) {
    cp_async_wait<Tile::kStages - 2>();
    __syncthreads();  // this slot is whole, and nobody reads the one before any more
    queue_copies(s_slots + fill);
#pragma unroll
    for (int chunk = 0; chunk < kK / 4; ++chunk) {
      read_a.read(r_a, s_slots + reading, chunk);
      read_b.read(r_b, s_slots + reading + ATile::kBytes, chunk);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
#pragma unroll
          for (int j = 0; j < 8; ++j) r_c[i][j] = fmaf(r_a[i][k], r_b[j][k], r_c[i][j]);
        }
      }
    }
    fill = reading;
    reading = reading == (Tile::kStages - 1) * Tile::kStageBytes ? 0 : reading + Tile::kStageBytes;
  }
  cp_async_wait<0>();
  __syncthreads();  // the slots become the tile of sums

  float* const s_tile = dynamic_shared<float>();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int j = 0; j < 8; ++j) s_tile[staged<Tile::kN>(read_a.row(i), read_b.row(j))] = r_c[i][j];
  }
  __syncthreads();
  finish_tile<float, Tile::kM, Tile::kN, Tile::kThreads>(
      p.finish, m0, n0, split, dynamic_shared<double>(), StagedTile<Tile::kN>{s_tile});
}

}  // namespace minibert
