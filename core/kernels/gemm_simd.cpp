// gemm_simd.cpp: inner kernel, packing and epilogue rows of our own GEMM; compiled once per
// instruction set. gemm_builtin.cpp blocks and threads around them. The inner kernel keeps a tile
// of c in registers: 12 rows x 2 vectors where there are 32 registers (AVX-512), 6 x 2 where there
// are 16. Easy to break: each c element is one chain of additions in ascending k, whatever the tile
// it lies in, so that its bits do not depend on blocking over M and N.
#include "core/kernels/gemm_simd.h"

#include <hwy/cache_control.h>

#include "core/kernels/gelu_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

#if HWY_TARGET <= HWY_AVX3
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif
constexpr size_t kLanes = HWY_MAX_BYTES / sizeof(float);
constexpr size_t kColumns = 2 * kLanes;

// sum[r][j] over k of a_panel [depth, kRows] and b_panel [depth, kColumns], then handed to `store`.
template <class Store>
HWY_INLINE void multiply_panels(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b,
                                int64_t depth, Store store) {
  const FloatTag d;
  FloatVec sum[kRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(d);
  for (int64_t k = 0; k < depth; ++k) {
    const FloatVec b0 = hn::Load(d, b), b1 = hn::Load(d, b + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const FloatVec value = hn::Set(d, a[r]);
      sum[r][0] = hn::MulAdd(value, b0, sum[r][0]);
      sum[r][1] = hn::MulAdd(value, b1, sum[r][1]);
    }
    a += kRows;
    b += kColumns;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) store(r, sum[r][0], sum[r][1]);
}

// A whole tile, straight into c.
HWY_INLINE void multiply_whole(const float* a, const float* b, int64_t depth, float* c,
                               int64_t c_stride, bool add_c) {
  const FloatTag d;
  for (int r = 0; r < kRows; ++r) {
    hwy::Prefetch(c + r * c_stride);
    hwy::Prefetch(c + r * c_stride + kLanes);
  }
  multiply_panels(a, b, depth, [&](int r, FloatVec s0, FloatVec s1) HWY_ATTR {
    float* row = c + r * c_stride;
    if (add_c) {
      s0 = hn::Add(hn::LoadU(d, row), s0);
      s1 = hn::Add(hn::LoadU(d, row + kLanes), s1);
    }
    hn::StoreU(s0, d, row);
    hn::StoreU(s1, d, row + kLanes);
  });
}

// A tile over the border of c: `rows` x `columns` of it, by way of a buffer.
HWY_INLINE void multiply_border(const float* a, const float* b, int64_t depth, float* c,
                                int64_t c_stride, int64_t rows, int64_t columns, bool add_c) {
  const FloatTag d;
  HWY_ALIGN float tile[kRows * kColumns];
  multiply_panels(a, b, depth, [&](int r, FloatVec s0, FloatVec s1) HWY_ATTR {
    hn::Store(s0, d, tile + r * kColumns);
    hn::Store(s1, d, tile + r * kColumns + kLanes);
  });
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; ++j) {
      const float value = tile[static_cast<size_t>(r) * kColumns + static_cast<size_t>(j)];
      c[r * c_stride + j] = add_c ? c[r * c_stride + j] + value : value;
    }
  }
}

// panel[k][line] for lines that are contiguous in k: 16 elements of each line at a time, so that a
// cache line is used up at once whatever the stride between lines.
template <int64_t kWidth>
HWY_INLINE void pack_across(const GemmOperand& from, int64_t depth, float* HWY_RESTRICT panel) {
  constexpr int64_t kStep = 16;
  int64_t k = 0;
  for (; k + kStep <= depth; k += kStep) {
    for (int64_t line = 0; line < kWidth; ++line) {
      const float* HWY_RESTRICT source = from.data + line * from.line_stride + k;
#pragma GCC unroll 16
      for (int64_t i = 0; i < kStep; ++i) panel[(k + i) * kWidth + line] = source[i];
    }
  }
  for (; k < depth; ++k) {
    for (int64_t line = 0; line < kWidth; ++line)
      panel[k * kWidth + line] = from.data[line * from.line_stride + k];
  }
}

// The same for lines that lie side by side: each k is one copy of a size known here.
template <int64_t kWidth>
HWY_INLINE void pack_along(const GemmOperand& from, int64_t depth, float* HWY_RESTRICT panel) {
  for (int64_t k = 0; k < depth; ++k)
    memcpy(panel + k * kWidth, from.data + k * from.k_stride, kWidth * sizeof(float));
}

}  // namespace

GemmTile gemm_tile() {
  return {kRows, static_cast<int64_t>(kColumns)};
}

void gemm_pack(const GemmOperand& from, int64_t lines, int64_t width, int64_t depth, float* panel) {
  if (lines == width) {
    constexpr int64_t kWide = static_cast<int64_t>(kColumns);
    if (from.k_stride == 1 && width == kRows) return pack_across<kRows>(from, depth, panel);
    if (from.k_stride == 1) return pack_across<kWide>(from, depth, panel);
    if (width == kRows) return pack_along<kRows>(from, depth, panel);
    return pack_along<kWide>(from, depth, panel);
  }
  for (int64_t k = 0; k < depth; ++k, panel += width) {
    const float* source = from.data + k * from.k_stride;
    for (int64_t line = 0; line < width; ++line)
      panel[line] = line < lines ? source[line * from.line_stride] : 0.0f;
  }
}

void gemm_multiply(const GemmTileTask& task) {
  constexpr int64_t kWide = static_cast<int64_t>(kColumns);
  for (int64_t n = 0; n < task.columns; n += kWide) {
    const float* b = task.b_panels + n * task.depth;
    for (int64_t m = 0; m < task.rows; m += kRows) {
      const float* a = task.a_panels + m * task.depth;
      float* c = task.c + m * task.c_stride + n;
      const int64_t rows = task.rows - m, columns = task.columns - n;
      if (rows >= kRows && columns >= kWide) {
        multiply_whole(a, b, task.depth, c, task.c_stride, task.add_c);
      } else {
        multiply_border(a, b, task.depth, c, task.c_stride, rows < kRows ? rows : kRows,
                        columns < kWide ? columns : kWide, task.add_c);
      }
    }
  }
}

namespace {

// body(i, count) for vectors of a row; the last may be partial.
template <class Body>
HWY_INLINE void for_vectors(int64_t N, Body body) {
  constexpr int64_t kStep = static_cast<int64_t>(kLanes);
  int64_t i = 0;
  for (; i + kStep <= N; i += kStep) body(i, kLanes);
  if (i < N) body(i, static_cast<size_t>(N - i));
}

template <class Gelu>
HWY_INLINE void bias_gelu_row(float* pre, const float* bias, float* c, int64_t N, Gelu gelu) {
  const FloatTag d;
  for_vectors(N, [&](int64_t i, size_t count) HWY_ATTR {
    FloatVec x = load_some(d, pre + i, count);
    if (bias) x = hn::Add(x, load_some(d, bias + i, count));
    if (pre != c) store_some(d, x, pre + i, count);
    store_some(d, gelu(x), c + i, count);
  });
}

template <class Slope>
HWY_INLINE void dgelu_row(float* c, const float* pre, double* sums, int64_t N, Slope slope) {
  const FloatTag d;
  for_vectors(N, [&](int64_t i, size_t count) HWY_ATTR {
    const FloatVec x = hn::Mul(load_some(d, c + i, count), slope(load_some(d, pre + i, count)));
    store_some(d, x, c + i, count);
  });
  if (!sums) return;
  const hn::ScalableTag<double> wide;
  const hn::Rebind<float, hn::ScalableTag<double>> half;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(wide));
  int64_t i = 0;
  for (; i + lanes <= N; i += lanes) {
    const auto x = hn::PromoteTo(wide, hn::LoadU(half, c + i));
    hn::StoreU(hn::Add(hn::LoadU(wide, sums + i), x), wide, sums + i);
  }
  for (; i < N; ++i) sums[i] += c[i];
}

}  // namespace

void gemm_bias_gelu_row(float* pre, const float* bias, float* c, int64_t N, bool erf) {
  if (erf) {
    bias_gelu_row(pre, bias, c, N, [](FloatVec x) HWY_ATTR { return gelu_erf(x); });
  } else {
    bias_gelu_row(pre, bias, c, N, [](FloatVec x) HWY_ATTR { return gelu_tanh(x); });
  }
}

void gemm_dgelu_row(float* c, const float* pre, double* sums, int64_t N, bool erf) {
  if (erf) {
    dgelu_row(c, pre, sums, N, [](FloatVec x) HWY_ATTR { return gelu_erf_slope(x); });
  } else {
    dgelu_row(c, pre, sums, N, [](FloatVec x) HWY_ATTR { return gelu_tanh_slope(x); });
  }
}

}  // namespace minibert::MB_SIMD_NAMESPACE
