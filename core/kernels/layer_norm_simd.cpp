// layer_norm_simd.cpp: a block of rows, forward and backward; section 7 of the chapter layer_norm
// (layer_norm.h). Called by layer_norm.cpp, which deals blocks of rows to threads.
// Idea: a row is read from memory once and stays in the first-level cache for the passes over it.
// Dropout's factors (0 or the scale) are drawn into a row of their own first.
// Easy to break: lanes beyond column H must not enter a sum, and no column beyond H is touched.
// Test: ctest -R layer_norm.
#include <hwy/cache_control.h>
#include <math.h>

#include "core/kernels/elements_simd.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/philox_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

constexpr FloatTag kFloat;
constexpr int64_t kLanes = HWY_MAX_BYTES / 4;
constexpr int64_t kLineBytes = 64;  // a cache line

// Row t of an operand [T, H]; null where it is not given.
template <class E>
HWY_INLINE E* row_of(const Operand& x, int64_t t) {
  return x.defined() ? x.data<E>() + t * x.dim(1) : nullptr;
}

// Zero in the lanes from `count` on.
HWY_INLINE FloatVec first_lanes(FloatVec v, size_t count) {
  return count == static_cast<size_t>(kLanes) ? v
                                              : hn::IfThenElseZero(hn::FirstN(kFloat, count), v);
}

HWY_INLINE double sum_lanes(FloatVec v) {
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, kFloat, lanes);
  double sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

// factor[h] = 0 or dropout's scale, for the columns of row t. Meanwhile `first` and `second`, rows [H]
// that are read next (null: none), come from memory.
template <class E>
HWY_INLINE void draw_row(const RowDropout& dropout, int64_t t, int64_t H, const E* first,
                         const E* second, float* factor) {
  constexpr int64_t kLine = kLineBytes / static_cast<int64_t>(sizeof(E));
  for (int64_t c = 0; c < H; c += 2 * kLanes) {
    for (int64_t line = c; line < c + 2 * kLanes && line < H; line += kLine) {
      hwy::Prefetch(first + line);
      if (second) hwy::Prefetch(second + line);
    }
    FloatVec factors[2];
    dropout.draw(t, c, factors);
    hn::Store(factors[0], kFloat, factor + c);
    hn::Store(factors[1], kFloat, factor + c + kLanes);
  }
}

// ---- Forward -----------------------------------------------------------------------------------

// Writes the row z = residual + dropout(x + bias) and returns the sum of what it wrote. bias,
// residual, factor (no dropout) and z may be null.
template <class E>
HWY_INLINE double sum_row(const E* x, const E* bias, const E* residual, const float* factor, E* z,
                          int64_t H) {
  FloatVec sum = hn::Zero(kFloat);
  for_vectors(H, [&](int64_t c, size_t count) MB_INLINE_BODY {
    FloatVec v = load_some(kFloat, x + c, count);
    if (bias) v = hn::Add(v, load_some(kFloat, bias + c, count));
    if (factor) v = apply_dropout(v, hn::Load(kFloat, factor + c));
    if (residual) v = hn::Add(v, load_some(kFloat, residual + c, count));
    if (z) {
      store_some(kFloat, v, z + c, count);
      if constexpr (sizeof(E) < sizeof(float)) v = load_some(kFloat, z + c, count);  // as rounded
    }
    sum = hn::Add(sum, v);
  });
  return sum_lanes(sum);
}

template <class E>
HWY_INLINE void normalize_row(const LayerNormForward& args, int64_t t, double sum, const E* z, E* y,
                              int64_t H) {
  const float *weight = args.weight.data<float>(), *beta = args.beta.data<float>();
  // The first mean may be off by a few roundings; `rest` is what it leaves. Var = E[d^2] - E[d]^2
  // cancels nothing here, since d = z - first has nearly no mean.
  const float first = static_cast<float>(sum / static_cast<double>(H));
  const FloatVec first_vector = hn::Set(kFloat, first);
  FloatVec differences = hn::Zero(kFloat), squares = hn::Zero(kFloat);
  for_vectors(H, [&](int64_t c, size_t count) MB_INLINE_BODY {
    const FloatVec d = first_lanes(hn::Sub(load_some(kFloat, z + c, count), first_vector), count);
    differences = hn::Add(differences, d);
    squares = hn::MulAdd(d, d, squares);
  });
  const double rest = sum_lanes(differences) / static_cast<double>(H);
  const double variance = sum_lanes(squares) / static_cast<double>(H) - rest * rest;
  const double rstd = 1.0 / sqrt((variance < 0 ? 0 : variance) + static_cast<double>(args.eps));
  args.mean.data<float>()[t] = static_cast<float>(first + rest);
  args.rstd.data<float>()[t] = static_cast<float>(rstd);
  const FloatVec rest_vector = hn::Set(kFloat, static_cast<float>(rest));
  const FloatVec rstd_vector = hn::Set(kFloat, static_cast<float>(rstd));
  for_vectors(H, [&](int64_t c, size_t count) MB_INLINE_BODY {
    const FloatVec d = hn::Sub(load_some(kFloat, z + c, count), first_vector);
    const FloatVec xhat = hn::Mul(hn::Sub(d, rest_vector), rstd_vector);
    store_some(
        kFloat,
        hn::MulAdd(xhat, load_some(kFloat, weight + c, count), load_some(kFloat, beta + c, count)),
        y + c, count);
  });
}

template <class E>
HWY_INLINE void forward_rows(const LayerNormForward& args, float* factor, int64_t begin,
                             int64_t end) {
  const RowDropout dropout(args.dropout, args.position, args.row_sample);
  const int64_t H = args.x.dim(1);
  const E* bias = args.bias.data_or_null<E>();
  for (int64_t t = begin; t < end; ++t) {
    const E *x = row_of<E>(args.x, t), *residual = row_of<E>(args.residual, t);
    E* z = row_of<E>(args.z, t);
    if (factor) draw_row(dropout, t, H, x, residual, factor);
    const double sum = sum_row<E>(x, bias, residual, factor, z, H);
    normalize_row<E>(args, t, sum, z ? z : x, row_of<E>(args.y, t), H);
  }
}

// ---- Backward ----------------------------------------------------------------------------------

// Of one row: d = z - mean, g = dy * weight.
struct RowSums {
  double d, g, gd;
};

template <class E>
HWY_INLINE RowSums sum_row_backward(FloatVec mean, const float* weight, const E* dy, const E* z,
                                    int64_t H) {
  FloatVec sum_d = hn::Zero(kFloat), sum_g = hn::Zero(kFloat), sum_gd = hn::Zero(kFloat);
  for_vectors(H, [&](int64_t c, size_t count) MB_INLINE_BODY {
    const FloatVec d = first_lanes(hn::Sub(load_some(kFloat, z + c, count), mean), count);
    const FloatVec g =
        hn::Mul(load_some(kFloat, dy + c, count), load_some(kFloat, weight + c, count));
    sum_d = hn::Add(sum_d, d);
    sum_g = hn::Add(sum_g, g);
    sum_gd = hn::MulAdd(g, d, sum_gd);
  });
  return {sum_lanes(sum_d), sum_lanes(sum_g), sum_lanes(sum_gd)};
}

// to[0 .. count - 1] += v
template <class E>
HWY_INLINE void add_to(E* to, FloatVec v, size_t count) {
  store_some(kFloat, hn::Add(load_some(kFloat, to, count), v), to, count);
}

template <class E>
HWY_INLINE void backward_row(const LayerNormBackward& args, int64_t t, const float* factor,
                             float* dbias, float* dweight, float* dbeta) {
  const int64_t columns = args.dy.dim(1);
  const E *dy = row_of<E>(args.dy, t), *z = row_of<E>(args.z, t);
  E *dz = row_of<E>(args.dz, t), *dx = row_of<E>(args.dx, t);
  const float* weight = args.weight.data<float>();
  const bool accumulate_dz = args.accumulate_dz;
  const float row_rstd = args.rstd.data<float>()[t];
  const FloatVec mean = hn::Set(kFloat, args.mean.data<float>()[t]);
  const FloatVec rstd = hn::Set(kFloat, row_rstd);
  const RowSums sums = sum_row_backward<E>(mean, weight, dy, z, columns);
  const double H = static_cast<double>(columns), rest = sums.d / H;  // mean was rounded by `rest`
  const FloatVec rest_vector = hn::Set(kFloat, static_cast<float>(rest));
  const FloatVec average_g = hn::Set(kFloat, static_cast<float>(sums.g / H));
  const FloatVec average_g_xhat =
      hn::Set(kFloat, static_cast<float>(row_rstd * (sums.gd - rest * sums.g) / H));
  for_vectors(columns, [&](int64_t c, size_t count) MB_INLINE_BODY {
    const FloatVec dy_vector = load_some(kFloat, dy + c, count);
    const FloatVec d = hn::Sub(load_some(kFloat, z + c, count), mean);
    const FloatVec xhat = hn::Mul(hn::Sub(d, rest_vector), rstd);
    const FloatVec g = hn::Mul(dy_vector, load_some(kFloat, weight + c, count));
    const FloatVec gradient =
        hn::Mul(rstd, hn::NegMulAdd(xhat, average_g_xhat, hn::Sub(g, average_g)));
    FloatVec masked = gradient;
    if (factor) masked = apply_dropout(gradient, hn::Load(kFloat, factor + c));
    if (dx) store_some(kFloat, masked, dx + c, count);
    if (accumulate_dz) {
      add_to(dz + c, gradient, count);
    } else {
      store_some(kFloat, gradient, dz + c, count);
    }
    if (dbias) add_to(dbias + c, masked, count);
    if (dweight) add_to(dweight + c, hn::Mul(dy_vector, xhat), count);
    if (dbeta) add_to(dbeta + c, dy_vector, count);
  });
}

template <class E>
HWY_INLINE void backward_rows(const LayerNormBackward& args, float* factor, float* dbias,
                              float* dweight, float* dbeta, int64_t begin, int64_t end) {
  const RowDropout dropout(args.dropout, args.position, args.row_sample);
  const int64_t H = args.dy.dim(1);
  for (int64_t t = begin; t < end; ++t) {
    if (factor) draw_row(dropout, t, H, row_of<E>(args.dy, t), row_of<E>(args.z, t), factor);
    backward_row<E>(args, t, factor, dbias, dweight, dbeta);
  }
}

}  // namespace

HWY_FLATTEN void layer_norm_forward_rows(const LayerNormForward& args, float* factor, int64_t begin,
                                         int64_t end) {
  with_element(args.x.dtype(),
               [&](auto e) { forward_rows<decltype(e)>(args, factor, begin, end); });
}

HWY_FLATTEN void layer_norm_backward_rows(const LayerNormBackward& args, float* factor,
                                          float* dbias, float* dweight, float* dbeta, int64_t begin,
                                          int64_t end) {
  const size_t bytes = sizeof(float) * static_cast<size_t>(args.dy.dim(1));
  if (dbias) memset(dbias, 0, bytes);
  if (dweight) memset(dweight, 0, bytes);
  if (dbeta) memset(dbeta, 0, bytes);
  with_element(args.dy.dtype(), [&](auto e) {
    backward_rows<decltype(e)>(args, factor, dbias, dweight, dbeta, begin, end);
  });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
