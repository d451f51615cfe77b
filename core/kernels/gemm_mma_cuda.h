// gemm_mma_cuda.h: section 10, the production kernel on tensor cores, for bf16, f16 and tf32.
// Included by the files that instantiate it (gemm_mma_*.cu) alone. Section 8 (gemm.cu) shows the way
// of the data. Easy to break: a slot of shared memory is written one round after it was last read, and
// the one barrier of the round stands between the two. Test: ctest -R gemm_cuda.
// Source: the pipeline is that of CUTLASS's multistage kernels for sm_80 (MmaMultistage).
#pragma once

#include "core/kernels/gemm_epilogue_cuda.h"

namespace minibert {

// ---- 10. Production kernel: tensor cores --------------------------------------------------------
/// A block's tile of c and its warps' tiles, in elements; slots of the pipeline; least blocks that a
/// multiprocessor must hold at a time (it bounds the registers).
template <int kM_, int kN_, int kWarpM_, int kWarpN_, int kStages_, int kBlocks_>
struct GemmTile {
  static constexpr int kM = kM_, kN = kN_, kWarpM = kWarpM_, kWarpN = kWarpN_;
  static constexpr int kStages = kStages_, kBlocks = kBlocks_;
  static constexpr int kWarpsDown = kM / kWarpM, kWarpsAcross = kN / kWarpN;
  static constexpr int kThreads = kWarpsDown * kWarpsAcross * kWarpSize;
  static constexpr int kStageBytes = (kM + kN) * kGemmRoundBytes;
  static constexpr int kSumBytes = kM * kN * static_cast<int>(sizeof(float));
  static constexpr int kSharedBytes =
      kStages * kStageBytes > kSumBytes ? kStages* kStageBytes : kSumBytes;
};

/// kRows rows of op(a) (or columns of op(b)) by one round's elements of K, in shared memory as a
/// slot holds them: in the lines of the matrix's own storage, along K or along the rows. A chunk is 16
/// bytes. Chunks of a line change places by the line's number, so that neither the copies nor the
/// eight rows that ldmatrix reads at a time meet in a bank.
template <typename E, int kRows, bool kAlongK>
struct OperandTile {
  static constexpr int kK = kGemmRoundBytes / static_cast<int>(sizeof(E));
  static constexpr int kPerChunk = kPack<E>;
  static constexpr int kLines = kAlongK ? kRows : kK;
  static constexpr int kChunks = (kAlongK ? kK : kRows) / kPerChunk;  // of a line
  static constexpr int kLineBytes = kChunks * 16;
  static constexpr int kBytes = kRows * kGemmRoundBytes;

  /// Where chunk `chunk` of line `line` lies, in bytes.
  __device__ static __forceinline__ int place(int line, int chunk) {
    if constexpr (kAlongK) {
      chunk ^= line >> 1 & 3;  // two lines of 64 bytes share the 32 banks
    } else if constexpr (sizeof(E) == 2) {
      chunk ^= line & 7;
    } else {
      chunk ^= (line & 3) << 1;  // read by single words: four lines, eight columns
    }
    return line * kLineBytes + chunk * 16;
  }
};

/// A thread's share of the copies from a matrix in global memory to slots, round by round along K.
template <typename E, int kRows, bool kAlongK, int kThreads>
class TileCopier {
  using Tile = OperandTile<E, kRows, kAlongK>;
  static constexpr int kCopies = Tile::kLines * Tile::kChunks / kThreads;
  static constexpr int kLinesApart = kThreads / Tile::kChunks;  // of a thread's neighbouring copies
  static_assert(kThreads % Tile::kChunks == 0 && Tile::kLines % kLinesApart == 0);
  static_assert(kLinesApart % 4 == 0 && (kLinesApart % 8 == 0 || sizeof(E) == 4 || kCopies == 1),
                "a thread's chunks must have the same place in their lines");

 public:
  /// The tile begins at row `row0` of `rows`; K begins at `k`. `stride` is in elements.
  __device__ __forceinline__ TileCopier(const void* matrix, int64_t stride, int row0, int rows,
                                        int k)
      : line_(static_cast<int>(threadIdx.x) / Tile::kChunks),
        chunk_(static_cast<int>(threadIdx.x) % Tile::kChunks),
        advance_(kAlongK ? kGemmRoundBytes : Tile::kK * stride * static_cast<int>(sizeof(E))),
        to_(Tile::place(line_, chunk_)) {
    // Rows beyond the last are copies of it: what becomes of them is not stored. So no copy but
    // those at the end of K needs a test.
    const int left = rows - row0;
    const int last_chunk = (left + Tile::kPerChunk - 1) / Tile::kPerChunk - 1;
    const int64_t line0 = kAlongK ? row0 : k, in_line = kAlongK ? k : row0;
    const int chunk = kAlongK ? chunk_ : min(chunk_, last_chunk);
    from_ = static_cast<const char*>(matrix) +
            (line0 * stride + in_line + chunk * Tile::kPerChunk) * sizeof(E);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int line = line_ + i * kLinesApart;
      offset_[i] = static_cast<uint32_t>((kAlongK ? min(line, left - 1) : line) * stride *
                                         static_cast<int>(sizeof(E)));
    }
  }

  /// Queues this round's copies to s_slot, and moves on. `left`: elements of K from here on; with
  /// kWhole at least a round's.
  template <bool kWhole>
  __device__ __forceinline__ void copy(char* s_slot, int left) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      char* to = s_slot + to_ + i * kLinesApart * Tile::kLineBytes;
      const char* from = from_ + offset_[i];
      if constexpr (kWhole) {
        cp_async16(to, from);
      } else {
        const bool exists =
            kAlongK ? chunk_ * Tile::kPerChunk < left : line_ + i * kLinesApart < left;
        cp_async16_if(to, from, exists);
      }
    }
    from_ += advance_;
  }

 private:
  int line_, chunk_;  // of the first copy
  int64_t advance_;   // bytes from one round to the next
  const char* from_;  // this thread's chunk of the tile's first line
  int to_;
  uint32_t offset_[kCopies];  // bytes from there; rows of up to 32 MB
};

/// Reads fragments of a warp's kRowsOfWarp rows from a slot, 16 rows by 32 bytes of K: four matrices
/// of eight rows by 16 bytes, which mma wants in this order (rows, K):
///   a: one fragment      r[0] low low   r[1] high low   r[2] low high   r[3] high high
///   b: two neighbours    r[0] low low   r[1] low high   r[2] high low   r[3] high high
/// An operand of b is two registers side by side, so another order would cost a move for each.
template <typename E, int kRows, bool kAlongK, int kRowsOfWarp, bool kIsA>
class FragmentReader {
  using Tile = OperandTile<E, kRows, kAlongK>;
  static constexpr int kSteps = kGemmRoundBytes / 32;  // tensor-core steps of a round
  static constexpr int kStepLines = Tile::kK / kSteps;
  static constexpr bool kByWords = !kAlongK && sizeof(E) == 4;  // ldmatrix can't turn 32-bit words

  /// Whether matrix q of a fragment is of the high rows, and of the high half of K.
  __device__ static constexpr int high_rows(int q) { return kIsA ? q % 2 : q / 2; }
  __device__ static constexpr int high_k(int q) { return kIsA ? q / 2 : q % 2; }

 public:
  /// Addresses that differ by a constant in every lane share one of these.
  static constexpr int kAddresses = kAlongK ? kSteps : kByWords ? 4 : kRowsOfWarp / 16;

  /// `row0`: the warp's first row.
  __device__ __forceinline__ explicit FragmentReader(int row0) {
    const int lane = lane_id(), q = lane / 8, line = lane % 8, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < kAddresses; ++i) {
      if constexpr (kAlongK) {
        offset_[i] = Tile::place(row0 + 8 * high_rows(q) + line, 2 * i + high_k(q));
      } else if constexpr (!kByWords) {
        offset_[i] = Tile::place(8 * high_k(q) + line, row0 / 8 + 2 * i + high_rows(q));
      } else {
        const int row = row0 + 8 * i + g;  // i = 0..3: the rows of two fragments
        offset_[i] = Tile::place(t, row / 4) + row % 4 * 4;
      }
    }
  }

  /// Rows 16 i .. 16 i + 15 of the warp's, step `step` of the round.
  __device__ __forceinline__ void read(uint32_t (&r)[4], const char* s_slot, int i,
                                       int step) const {
    if constexpr (kAlongK) {
      ldmatrix_x4(r, s_slot + offset_[step] + i * 16 * Tile::kLineBytes);
    } else if constexpr (!kByWords) {
      ldmatrix_x4_trans(r, s_slot + offset_[i] + step * kStepLines * Tile::kLineBytes);
    } else {
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const char* word = s_slot + offset_[i % 2 * 2 + high_rows(q)] + i / 2 * 32 * 4 +
                           (step * kStepLines + high_k(q) * 4) * Tile::kLineBytes;
        r[q] = *reinterpret_cast<const uint32_t*>(word);
      }
    }
    if constexpr (sizeof(E) == 4) {
#pragma unroll
      for (uint32_t& x : r) x = cvt_tf32(__uint_as_float(x));
    }
  }

 private:
  int offset_[kAddresses];
};

/// Tile (m, n) of a block: neighbours in the grid take eight rows of tiles before the next column, so
/// that blocks that run together read the same parts of a and b from the second-level cache.
__device__ __forceinline__ void tile_of_block(int id, int tiles_m, int tiles_n, int& m, int& n) {
  constexpr int kBand = 8;
  const int of_band = kBand * tiles_n;
  const int first = id / of_band * kBand, rows = min(tiles_m - first, kBand);
  m = first + id % of_band % rows;
  n = id % of_band / rows;
}

/// c += a b of one fragment each, both 32 bytes of K deep.
template <typename E>
__device__ __forceinline__ void mma_step(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1) {
  if constexpr (sizeof(E) == 2) {
    mma_m16n8k16<E>(c, a, b0, b1);
  } else {
    mma_m16n8k8_tf32(c, a, b0, b1);
  }
}

/// Grid: tiles of c, then splits of K. kRowSums: the blocks of the first column of tiles also multiply
/// a by ones, which are one more column of b.
template <typename E, typename Tile, bool kAAlongK, bool kBAlongK, bool kRowSums>
__global__ void MB_LAUNCH_BOUNDS(Tile::kThreads, Tile::kBlocks)
    gemm_mma_kernel(const GemmLaunch p) {
  using ATile = OperandTile<E, Tile::kM, kAAlongK>;
  constexpr int kK = ATile::kK, kSteps = kGemmRoundBytes / 32;
  constexpr int kDown = Tile::kWarpM / 16, kAcross = Tile::kWarpN / 16;  // fragments of a warp
  char* const s_slots = dynamic_shared<char>();

  const int M = p.finish.M, N = p.finish.N;
  int tile_m, tile_n;
  tile_of_block(static_cast<int>(blockIdx.x), (M + Tile::kM - 1) / Tile::kM,
                (N + Tile::kN - 1) / Tile::kN, tile_m, tile_n);
  const int m0 = tile_m * Tile::kM, n0 = tile_n * Tile::kN, split = static_cast<int>(blockIdx.y);
  const int k_begin = split * p.split_k;
  int k_to_copy = min(p.K - k_begin, p.split_k);  // elements of K that no copy was queued for
  int rounds = (k_to_copy + kK - 1) / kK;

  TileCopier<E, Tile::kM, kAAlongK, Tile::kThreads> copy_a(p.a, p.a_stride, m0, M, k_begin);
  TileCopier<E, Tile::kN, kBAlongK, Tile::kThreads> copy_b(p.b, p.b_stride, n0, N, k_begin);
  const auto queue_copies = [&](char* s_slot) {
    if (k_to_copy >= kK) {
      copy_a.template copy<true>(s_slot, kK);
      copy_b.template copy<true>(s_slot + ATile::kBytes, kK);
    } else if (k_to_copy > 0) {
      copy_a.template copy<false>(s_slot, k_to_copy);
      copy_b.template copy<false>(s_slot + ATile::kBytes, k_to_copy);
    }
    k_to_copy -= kK;
    cp_async_commit();  // an empty group too: cp_async_wait counts groups
  };

  const int warp_m = warp_id() % Tile::kWarpsDown * Tile::kWarpM;
  const int warp_n = warp_id() / Tile::kWarpsDown * Tile::kWarpN;
  const FragmentReader<E, Tile::kM, kAAlongK, Tile::kWarpM, true> read_a(warp_m);
  const FragmentReader<E, Tile::kN, kBAlongK, Tile::kWarpN, false> read_b(warp_n);
  float r_c[kDown][2 * kAcross][4] = {};
  [[maybe_unused]] float r_row_sum[kDown][4] = {};  // each of its eight columns is the sum
  const bool sums_rows = kRowSums && n0 + warp_n == 0;
  uint32_t r_a[2][kDown][4], r_b[2][kAcross][4];  // the step being multiplied and the next
  const auto read_step = [&](const char* s_slot, int step) {
#pragma unroll
    for (int i = 0; i < kDown; ++i) read_a.read(r_a[step % 2][i], s_slot, i, step);
#pragma unroll
    for (int j = 0; j < kAcross; ++j)
      read_b.read(r_b[step % 2][j], s_slot + ATile::kBytes, j, step);
  };
  const auto multiply_step = [&](int step) {
    const auto& a = r_a[step % 2];
    const auto& b = r_b[step % 2];
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int k = 0; k < 2 * kAcross; ++k) {
        const int j = i % 2 ? 2 * kAcross - 1 - k : k;  // there and back: operands stay at hand
        mma_step<E>(r_c[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
    if constexpr (kRowSums) {
      const uint32_t ones = pack2<E>(1.0f, 1.0f);
      if (!sums_rows) return;
#pragma unroll
      for (int i = 0; i < kDown; ++i) mma_step<E>(r_row_sum[i], a[i], ones, ones);
    }
  };

  if (rounds > 0) {
#pragma unroll
    for (int s = 0; s < Tile::kStages - 1; ++s) queue_copies(s_slots + s * Tile::kStageBytes);
    // The slot that was read in the round before is the one to fill.
    int fill = (Tile::kStages - 1) * Tile::kStageBytes, reading = 0;
    cp_async_wait<Tile::kStages - 2>();
    __syncthreads();
    read_step(s_slots, 0);
    while (true) {
#pragma unroll
      for (int step = 0; step < kSteps - 1; ++step) {
        read_step(s_slots + reading, step + 1);
        if (step == 0) queue_copies(s_slots + fill);
        multiply_step(step);
      }
      if (--rounds == 0) break;
      fill = reading;
      reading =
          reading == (Tile::kStages - 1) * Tile::kStageBytes ? 0 : reading + Tile::kStageBytes;
      cp_async_wait<Tile::kStages - 2>();
      __syncthreads();  // the next slot is whole, and nobody reads this one any more
      read_step(s_slots + reading, 0);
      multiply_step(kSteps - 1);
    }
    multiply_step(kSteps - 1);
    cp_async_wait<0>();
    __syncthreads();  // the slots become the tile of sums
  }

  float* const s_tile = dynamic_shared<float>();
  const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
  for (int i = 0; i < kDown; ++i) {
#pragma unroll
    for (int j = 0; j < 2 * kAcross; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Pack<float, 2> pair{{r_c[i][j][2 * half], r_c[i][j][2 * half + 1]}};
        const int row = warp_m + 16 * i + 8 * half + g, column = warp_n + 8 * j + 2 * t;
        store_pack(s_tile + staged<Tile::kN>(row, column), pair);
      }
    }
    if constexpr (kRowSums) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = m0 + warp_m + 16 * i + 8 * half + g;
        if (sums_rows && t == 0 && row < M)
          p.row_sums[static_cast<int64_t>(split) * M + row] = r_row_sum[i][2 * half];
      }
    }
  }
  __syncthreads();
  finish_tile<E, Tile::kM, Tile::kN, Tile::kThreads>(
      p.finish, m0, n0, split, dynamic_shared<double>(), StagedTile<Tile::kN>{s_tile});
}

// ---- 11. Launcher of one type -------------------------------------------------------------------
template <typename E, typename Tile, bool kAAlongK, bool kBAlongK, bool kRowSums = false>
void launch_mma(const GemmLaunch& p, Stream stream) {
  const int64_t tiles = ceil_div(p.finish.M, Tile::kM) * ceil_div(p.finish.N, Tile::kN);
  launch(gemm_mma_kernel<E, Tile, kAAlongK, kBAlongK, kRowSums>, {tiles, p.splits}, Tile::kThreads,
         Tile::kSharedBytes, stream, p);
}

/// 128 x 128 with four warps of 64 x 64: an operand read from shared memory is used in four or eight
/// products, and two blocks of a multiprocessor hide each other's epilogue. 64 x 64 with warps of
/// 32 x 32 where c has too few large tiles to occupy the chip. Factors of tf32 take twice the registers
/// of 16-bit ones, so there a warp has 64 x 32, and eight of them fill the multiprocessor.
template <typename E>
using LargeTile = std::conditional_t<std::is_same_v<E, float>, GemmTile<128, 128, 64, 32, 4, 1>,
                                     GemmTile<128, 128, 64, 64, 4, 2>>;
using SmallTile = GemmTile<64, 64, 32, 32, 4, 4>;

template <typename E>
void gemm_mma(const GemmLaunch& p, GemmTileSize size, Stream stream) {
  const bool a_along_k = !p.transpose_a, b_along_k = p.transpose_b;
  const bool large = size == GemmTileSize::large;
  if constexpr (sizeof(E) == 2) {
    if (p.row_sums) {  // dy^T x, with the gradient of a bias
      large ? launch_mma<E, LargeTile<E>, false, false, true>(p, stream)
            : launch_mma<E, SmallTile, false, false, true>(p, stream);
      return;
    }
  }
  if (a_along_k && b_along_k) {
    large ? launch_mma<E, LargeTile<E>, true, true>(p, stream)
          : launch_mma<E, SmallTile, true, true>(p, stream);
  } else if (a_along_k) {
    large ? launch_mma<E, LargeTile<E>, true, false>(p, stream)
          : launch_mma<E, SmallTile, true, false>(p, stream);
  } else if (!b_along_k) {
    large ? launch_mma<E, LargeTile<E>, false, false>(p, stream)
          : launch_mma<E, SmallTile, false, false>(p, stream);
  } else {
    launch_mma<E, SmallTile, false, true>(p, stream);  // no linear layer needs it: one tile will do
  }
}

}  // namespace minibert
