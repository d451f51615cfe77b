// gemm_epilogue_cuda.h: section 10's last step: what happens to a finished sum on its way to c.
// Called by all production kernels with their tile in shared memory, and by the pass that adds the
// parts of a split K. A thread keeps the same few columns and walks down the rows of its tile, so
// bias and column sums stay in registers, and rows are written in packs of 16 bytes. Easy to break: the
// row read ahead (pre_activation, or c where it is added to) may be the very memory that c is written
// to, so only a row that this thread itself writes later may be read ahead.
#pragma once

#include "core/kernels/elements_cuda.h"
#include "core/kernels/gelu_cuda.h"
#include "core/kernels/gemm_cuda.h"

namespace minibert {

/// The tile of a block of the second pass, which adds the parts of K or finishes a plain product.
inline constexpr int kFinishM = 64, kFinishN = 128, kFinishThreads = 256;

namespace detail {

template <typename C, int kWidth, typename Function>
__device__ __forceinline__ void apply(float (&x)[kWidth], const Pack<C, kWidth>& p,
                                      const Function& function) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) x[i] = function(x[i], to_float(p[i]));
}

/// x of columns `column` .. column + kWidth - 1 of a row, as dropout leaves it.
template <int kWidth>
__device__ __forceinline__ void drop(float (&x)[kWidth], const RowDropout& dropout, int column) {
  // A call of Philox serves four neighbours.
  constexpr int kDrawn = kWidth < 4 ? 4 : kWidth;
  static_assert(kWidth == 1 || kWidth == kDrawn);
  const int first = kWidth == 1 ? column % 4 : 0;
  Floats<kDrawn> drawn{};
#pragma unroll
  for (int i = 0; i < kDrawn; ++i) drawn[i] = x[kWidth == 1 ? 0 : i];
  drawn = dropout(drawn, column - first);
#pragma unroll
  for (int i = 0; i < kDrawn; ++i)
    if (kWidth > 1 || i == first) x[kWidth == 1 ? 0 : i] = drawn[i];
}

/// Finishes rows m0 .. m0 + kTileM - 1, columns n0 .. n0 + kTileN - 1, as far as they exist.
/// load(row, column, x) gives the sums of kWidth columns, both counted from the tile's corner.
template <typename E, typename C, int kWidth, int kTileM, int kTileN, int kThreads, typename Load>
__device__ __forceinline__ void finish_rows(const GemmFinish& f, C* c, int m0, int n0,
                                            double* s_sums, const Load& load) {
  using Epilogue = GemmArgs::Epilogue;
  constexpr int kAcross = kTileN / kWidth;       // threads beside one another in a row
  constexpr int kTogether = kThreads / kAcross;  // rows at one time
  static_assert(kThreads % kAcross == 0 && kTileM % kTogether == 0);
  const int column = static_cast<int>(threadIdx.x) % kAcross * kWidth;
  const int first = static_cast<int>(threadIdx.x) / kAcross;
  const bool mine = n0 + column < f.N;
  const int rows = mine ? min(kTileM, f.M - m0) : 0;
  const int64_t corner = static_cast<int64_t>(m0) * f.N + n0 + column;
  C* const pre = static_cast<C*>(f.pre_activation);

  float r_bias[kWidth] = {}, r_sum[kWidth] = {};
  if (f.bias != nullptr && mine) {
    const auto bias = load_pack<kWidth>(static_cast<const E*>(f.bias) + n0 + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) r_bias[i] = to_float(bias[i]);
  }
  // Accumulation and epilogues exclude one another: one matrix at most is read.
  const C* reads = f.accumulate ? c : f.epilogue == Epilogue::dgelu ? pre : nullptr;
  if constexpr (std::is_same_v<C, E>) {
    if (f.epilogue == Epilogue::residual) reads = static_cast<const E*>(f.residual);
  }
  Pack<C, kWidth> r_next{};
  if (reads != nullptr && first < rows)
    r_next = load_pack<kWidth>(reads + corner + static_cast<int64_t>(first) * f.N);

#pragma unroll 1
  for (int row = first; row < rows; row += kTogether) {
    const int64_t at = corner + static_cast<int64_t>(row) * f.N;
    const Pack<C, kWidth> r_read = r_next;
    if (reads != nullptr && row + kTogether < rows)
      r_next = load_pack<kWidth>(reads + at + static_cast<int64_t>(kTogether) * f.N);
    float x[kWidth];
    load(row, column, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[i] += r_bias[i];
    if (f.accumulate) {
      apply(x, r_read, [](float y, float before) { return y + before; });
    } else if (f.epilogue == Epilogue::bias_gelu) {
      Pack<C, kWidth> p;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) p[i] = from_float<C>(x[i]);
      if (pre != nullptr) store_pack(pre + at, p);
      if (f.gelu == Gelu::erf) {
        apply(x, p, [](float, float rounded) { return gelu<Gelu::erf>(rounded); });
      } else {
        apply(x, p, [](float, float rounded) { return gelu<Gelu::tanh>(rounded); });
      }
    } else if (f.epilogue == Epilogue::dgelu) {
      if (f.gelu == Gelu::erf) {
        apply(x, r_read, [](float y, float p) { return y * gelu_slope<Gelu::erf>(p); });
      } else {
        apply(x, r_read, [](float y, float p) { return y * gelu_slope<Gelu::tanh>(p); });
      }
#pragma unroll
      for (int i = 0; i < kWidth; ++i) r_sum[i] += x[i];
    } else if constexpr (std::is_same_v<C, E>) {
      if (f.epilogue == Epilogue::residual) {
        drop(x, RowDropout(f.dropout, f.position, f.row_sample, m0 + row), n0 + column);
        apply(x, r_read, [](float y, float residual) { return residual + y; });
      }
    }
    Pack<C, kWidth> y;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) y[i] = from_float<C>(x[i]);
    store_pack(c + at, y);
  }

  if (f.column_sums == nullptr) return;
  __syncthreads();  // s_sums lies where load() read from
#pragma unroll
  for (int i = 0; i < kWidth; ++i) s_sums[first * kTileN + column + i] = r_sum[i];
  __syncthreads();
  for (int n = static_cast<int>(threadIdx.x); n < kTileN && n0 + n < f.N; n += kThreads) {
    double sum = 0;
    for (int i = 0; i < kTogether; ++i) sum += s_sums[i * kTileN + n];
    f.column_sums[static_cast<int64_t>(m0 / kTileM) * f.N + n0 + n] = sum;
  }
}

}  // namespace detail

/// Finishes the tile at row m0, column n0; called by all threads of the block. `s_sums` is shared
/// memory for kThreads * 16 / sizeof(C) doubles, and may be what `load` reads from: load(row, column,
/// x) sets the array x of 1, 4 or 8 floats to the sums of that many columns.
template <typename E, int kTileM, int kTileN, int kThreads, typename Load>
__device__ __forceinline__ void finish_tile(const GemmFinish& f, int m0, int n0, int split,
                                            double* s_sums, const Load& load) {
  const int64_t skip = split * f.split_stride;
  if (f.c_is_f32) {
    float* c = static_cast<float*>(f.c) + skip;
    f.wide ? detail::finish_rows<E, float, 4, kTileM, kTileN, kThreads>(f, c, m0, n0, s_sums, load)
           : detail::finish_rows<E, float, 1, kTileM, kTileN, kThreads>(f, c, m0, n0, s_sums, load);
  } else if constexpr (!std::is_same_v<E, float>) {
    E* c = static_cast<E*>(f.c);
    f.wide ? detail::finish_rows<E, E, 8, kTileM, kTileN, kThreads>(f, c, m0, n0, s_sums, load)
           : detail::finish_rows<E, E, 1, kTileM, kTileN, kThreads>(f, c, m0, n0, s_sums, load);
  }
}

// ---- The tile of sums in shared memory ---------------------------------------------------------
/// Float [row][column] of a tile kTileN wide, as an offset in floats. Chunks of four columns change
/// places so that neither the stores of tensor-core fragments (four rows by eight columns at a time)
/// nor loads of packs of four or eight columns meet in a bank.
template <int kTileN>
__device__ __forceinline__ int staged(int row, int column) {
  const int chunk = column / 4;
  return row * kTileN + ((chunk ^ (chunk >> 3 & 1) ^ (row & 3) << 1) * 4 + column % 4);
}

/// The `load` of finish_tile for a tile staged in shared memory.
template <int kTileN>
struct StagedTile {
  const float* s_tile;

  template <int kWidth>
  __device__ __forceinline__ void operator()(int row, int column, float (&x)[kWidth]) const {
    if constexpr (kWidth == 1) {
      x[0] = s_tile[staged<kTileN>(row, column)];
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; i += 4) {
        const auto four = load_pack<4>(s_tile + staged<kTileN>(row, column + i));
#pragma unroll
        for (int j = 0; j < 4; ++j) x[i + j] = four[j];
      }
    }
  }
};

}  // namespace minibert
