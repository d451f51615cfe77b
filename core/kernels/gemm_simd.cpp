// gemm_simd.cpp: inner kernel and packing of our own GEMM, and the epilogues of every GEMM; compiled
// once per instruction set. gemm_builtin.cpp and gemm.cpp block and thread around them. Panels are
// f32: packing is where bf16 and f16 are converted, so the inner kernel knows one type. It keeps a
// tile of c in registers: 12 rows x 2 vectors where there are 32 registers (AVX-512), 6 x 2 where
// there are 16. Easy to break: each c element is one chain of additions in ascending k, whatever
// the tile it lies in, so that its bits do not depend on blocking over M and N.
#include "core/kernels/gemm_simd.h"

#include <hwy/cache_control.h>

#include "core/kernels/gelu_simd.h"
#include "core/kernels/philox_simd.h"

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

HWY_INLINE float one(const float* p) {
  return *p;
}
template <class E>
HWY_INLINE float one(const E* p) {
  return hn::GetLane(load_some(FloatTag(), p, 1));
}

// panel[k][line] for lines that are contiguous in k: 16 elements of each line at a time, so that a
// cache line is used up at once whatever the stride between lines.
constexpr int64_t kStep = 16;
HWY_INLINE const float* widen(const float* p, float*) {
  return p;
}
template <class E>
HWY_INLINE const float* widen(const E* p, float* HWY_RESTRICT buffer) {
  const FloatTag d;
  for (int64_t i = 0; i < kStep; i += static_cast<int64_t>(kLanes))
    hn::Store(load(d, p + i), d, buffer + i);
  return buffer;
}

template <int64_t kWidth, class E>
HWY_INLINE void pack_across(const E* data, int64_t line_stride, int64_t depth,
                            float* HWY_RESTRICT panel) {
  int64_t k = 0;
  for (; k + kStep <= depth; k += kStep) {
    for (int64_t line = 0; line < kWidth; ++line) {
      HWY_ALIGN float buffer[kStep];
      const float* HWY_RESTRICT source = widen(data + line * line_stride + k, buffer);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kStep; ++i) panel[(k + i) * kWidth + line] = source[i];
    }
  }
  for (; k < depth; ++k) {
    for (int64_t line = 0; line < kWidth; ++line)
      panel[k * kWidth + line] = one(data + line * line_stride + k);
  }
}

// The same for lines that lie side by side: each k is one copy of a size known here.
template <int64_t kWidth>
HWY_INLINE void pack_along(const float* data, int64_t k_stride, int64_t depth,
                           float* HWY_RESTRICT panel) {
  for (int64_t k = 0; k < depth; ++k)
    memcpy(panel + k * kWidth, data + k * k_stride, kWidth * sizeof(float));
}

// By whole vectors: what they hold beyond kWidth belongs to the same row of the matrix or the next,
// and is overwritten by the next k. The last k has no next one.
template <int64_t kWidth, class E>
HWY_INLINE void pack_along(const E* data, int64_t k_stride, int64_t depth,
                           float* HWY_RESTRICT panel) {
  const FloatTag d;
  constexpr int64_t kVector = static_cast<int64_t>(kLanes);
  for (int64_t k = 0; k + 1 < depth; ++k) {
    for (int64_t i = 0; i < kWidth; i += kVector)
      hn::StoreU(load(d, data + k * k_stride + i), d, panel + k * kWidth + i);
  }
  const E* last = data + (depth - 1) * k_stride;
  float* end = panel + (depth - 1) * kWidth;
  for_vectors(kWidth, [&](int64_t i, size_t count) HWY_ATTR {
    store_some(d, load_some(d, last + i, count), end + i, count);
  });
}

template <class E>
HWY_INLINE void pack(const GemmOperand& from, const E* data, int64_t lines, int64_t width,
                     int64_t depth, float* panel) {
  if (lines == width) {
    constexpr int64_t kWide = static_cast<int64_t>(kColumns);
    if (from.k_stride == 1 && width == kRows)
      return pack_across<kRows>(data, from.line_stride, depth, panel);
    if (from.k_stride == 1) return pack_across<kWide>(data, from.line_stride, depth, panel);
    if (width == kRows) return pack_along<kRows>(data, from.k_stride, depth, panel);
    return pack_along<kWide>(data, from.k_stride, depth, panel);
  }
  for (int64_t k = 0; k < depth; ++k, panel += width) {
    const E* source = data + k * from.k_stride;
    for (int64_t line = 0; line < width; ++line)
      panel[line] = line < lines ? one(source + line * from.line_stride) : 0.0f;
  }
}

}  // namespace

GemmTile gemm_tile() {
  return {kRows, static_cast<int64_t>(kColumns)};
}

void gemm_pack(const GemmOperand& from, int64_t lines, int64_t width, int64_t depth, float* panel) {
  with_element(from.type, [&](auto e) {
    pack(from, static_cast<const decltype(e)*>(from.data), lines, width, depth, panel);
  });
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

// ---- Epilogues ---------------------------------------------------------------------------------
// for_vectors calls its body in two places. Left to itself GCC does not inline a body as long as
// GELU, and then loads all of GELU's constants again for each vector.
#define MB_INLINED __attribute__((always_inline))

namespace {

HWY_INLINE FloatVec gelu_of(FloatVec x, bool erf) {
  return erf ? gelu_erf(x) : gelu_tanh(x);
}
HWY_INLINE FloatVec slope_of(FloatVec x, bool erf) {
  return erf ? gelu_erf_slope(x) : gelu_tanh_slope(x);
}

// One row of a part. E is the type of a, b and bias, C that of c and pre_activation.
template <class E, class C>
struct Row {
  float* product;
  const E* bias;  // null: none
  C* c;
  C* pre;        // null: none
  double* sums;  // null: none
  int64_t columns;
};

HWY_INLINE bool same(const void* x, const void* y) {
  return x == y;
}

// x rounded to C, and saved unless `pre` is null.
HWY_INLINE FloatVec rounded(FloatVec x, float* pre, size_t count) {
  if (pre) store_some(FloatTag(), x, pre, count);
  return x;
}
template <class C>
HWY_INLINE FloatVec rounded(FloatVec x, C* pre, size_t count) {
  HWY_ALIGN C unsaved[kLanes];
  C* to = pre ? pre : unsaved;
  store_some(FloatTag(), x, to, count);
  return load_some(FloatTag(), to, count);
}

template <class E, class C>
HWY_INLINE void finish_linear(const Row<E, C>& row, bool accumulate) {
  const FloatTag d;
  for_vectors(row.columns, [&](int64_t i, size_t count) HWY_ATTR MB_INLINED {
    FloatVec x = load_some(d, row.product + i, count);
    if (accumulate && !same(row.c, row.product)) x = hn::Add(load_some(d, row.c + i, count), x);
    if (row.bias) x = hn::Add(x, load_some(d, row.bias + i, count));
    store_some(d, x, row.c + i, count);
  });
}

template <bool kErf, class E, class C>
HWY_INLINE void finish_bias_gelu(const Row<E, C>& row) {
  const FloatTag d;
  for_vectors(row.columns, [&](int64_t i, size_t count) HWY_ATTR MB_INLINED {
    FloatVec x = load_some(d, row.product + i, count);
    if (row.bias) x = hn::Add(x, load_some(d, row.bias + i, count));
    x = rounded(x, row.pre ? row.pre + i : nullptr, count);
    store_some(d, gelu_of(x, kErf), row.c + i, count);
  });
}

template <bool kErf, class E, class C>
HWY_INLINE void finish_dgelu(const Row<E, C>& row) {
  const FloatTag d;
  for_vectors(row.columns, [&](int64_t i, size_t count) HWY_ATTR MB_INLINED {
    const FloatVec slope = slope_of(load_some(d, row.pre + i, count), kErf);
    const FloatVec x = hn::Mul(load_some(d, row.product + i, count), slope);
    if (!same(row.c, row.product)) store_some(d, x, row.product + i, count);
    store_some(d, x, row.c + i, count);
  });
  if (!row.sums) return;
  const hn::ScalableTag<double> wide;
  const hn::Rebind<float, hn::ScalableTag<double>> half;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(wide));
  int64_t i = 0;
  for (; i + lanes <= row.columns; i += lanes) {
    const auto x = hn::PromoteTo(wide, hn::LoadU(half, row.product + i));
    hn::StoreU(hn::Add(hn::LoadU(wide, row.sums + i), x), wide, row.sums + i);
  }
  for (; i < row.columns; ++i) row.sums[i] += row.product[i];
}

// Row t of c, from `column` on. residual: its elements beside row.c's.
template <class E>
HWY_INLINE void finish_residual(const Row<E, E>& row, const E* residual, const RowDropout& dropout,
                                int64_t t, int64_t column) {
  constexpr int64_t kVector = static_cast<int64_t>(kLanes);
  const FloatTag d;
  for (int64_t i = 0; i < row.columns; i += 2 * kVector) {
    FloatVec factor[2];
    if (dropout.site.active()) dropout.draw(t, column + i, factor);
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = i + half * kVector, left = row.columns - first;
      if (left <= 0) break;
      const size_t count = static_cast<size_t>(left < kVector ? left : kVector);
      FloatVec x = load_some(d, row.product + first, count);
      if (row.bias) x = hn::Add(x, load_some(d, row.bias + first, count));
      if (dropout.site.active()) x = apply_dropout(x, factor[half]);
      x = hn::Add(x, load_some(d, residual + first, count));
      store_some(d, x, row.c + first, count);
    }
  }
}

template <class E, class C>
HWY_INLINE void finish(const GemmArgs& args, const GemmPart& part, double* sums, E, C) {
  using Epilogue = GemmArgs::Epilogue;
  const int64_t N = args.c.dim(1);
  const E* bias = args.bias.data_or_null<E>();
  C* pre = args.pre_activation.data_or_null<C>();
  const bool erf = args.gelu == Gelu::erf;
  const auto first_of = [&](int64_t i) { return (part.row + i) * N + part.column; };
  const auto row_of = [&](int64_t i) {
    return Row<E, C>{part.product + i * part.stride,
                     bias ? bias + part.column : nullptr,
                     args.c.data<C>() + first_of(i),
                     pre ? pre + first_of(i) : nullptr,
                     sums,
                     part.columns};
  };
  if constexpr (sizeof(C) == sizeof(E)) {
    if (args.epilogue == Epilogue::residual) {
      const RowDropout dropout(args.dropout, args.position, args.row_sample);
      for (int64_t i = 0; i < part.rows; ++i)
        finish_residual(row_of(i), args.residual.data<E>() + first_of(i), dropout, part.row + i,
                        part.column);
      return;
    }
  }
  for (int64_t i = 0; i < part.rows; ++i) {
    const Row<E, C> row = row_of(i);
    if (args.epilogue == Epilogue::none) {
      finish_linear(row, args.accumulate);
    } else if (args.epilogue == Epilogue::bias_gelu) {
      erf ? finish_bias_gelu<true>(row) : finish_bias_gelu<false>(row);
    } else {
      erf ? finish_dgelu<true>(row) : finish_dgelu<false>(row);
    }
  }
}

}  // namespace

void gemm_finish(const GemmArgs& args, const GemmPart& part, double* sums) {
  with_element(args.a.dtype(), [&](auto e) {
    if (args.c.dtype() == DType::f32) return finish(args, part, sums, e, float());
    finish(args, part, sums, e, e);
  });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
