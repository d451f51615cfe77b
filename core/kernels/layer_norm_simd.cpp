// layer_norm_simd.cpp: a block of rows, forward and backward; section 7 of the chapter layer_norm
// (layer_norm.h). Called by layer_norm.cpp, which deals blocks of rows to threads.
// Idea: a row is read from memory once and stays in the first-level cache for the passes over it.
// Dropout's factors (0 or the scale) are drawn into a row of their own first.
// Easy to break: lanes behind column H must not enter a sum, and no column behind H is touched.
// Test: ctest -R layer_norm.
#include "core/kernels/layer_norm_simd.h"

#include <hwy/cache_control.h>
#include <math.h>

#include "core/kernels/math_simd.h"
#include "core/kernels/philox_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

constexpr FloatTag kFloat;
constexpr int64_t kLanes = HWY_MAX_BYTES / 4;
constexpr int64_t kLineFloats = 16;  // a cache line

// body(c, count) for vectors of columns from c on; count < kLanes only in the last.
template <class Body>
HWY_INLINE void for_columns(int64_t H, const Body& body) {
  int64_t c = 0;
  for (; c + kLanes <= H; c += kLanes) body(c, static_cast<size_t>(kLanes));
  if (c < H) body(c, static_cast<size_t>(H - c));
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

// factor[h] = 0 or dropout's scale, for the columns of row t. Meanwhile `first` and `second`, rows
// [H] that are read next (null: none), come from memory.
HWY_INLINE void draw_row(const RowDropout& dropout, const PhiloxKeys& keys, int64_t t, int64_t H,
                         const float* first, const float* second, float* factor) {
  const auto position = static_cast<uint32_t>(dropout.position[t]);
  const auto sample = static_cast<uint32_t>(dropout.row_sample[t]);
  for (int64_t c = 0; c < H; c += 2 * kLanes) {
    for (int64_t line = c; line < c + 2 * kLanes && line < H; line += kLineFloats) {
      hwy::Prefetch(first + line);
      if (second) hwy::Prefetch(second + line);
    }
    const WordPair words = philox_columns(static_cast<uint32_t>(c / 4), position, sample,
                                          dropout.step_layer_purpose, keys);
    hn::Store(dropout_factor(words.first, dropout.threshold, dropout.scale), kFloat, factor + c);
    hn::Store(dropout_factor(words.second, dropout.threshold, dropout.scale), kFloat,
              factor + c + kLanes);
  }
}

// ---- Forward -----------------------------------------------------------------------------------

// Writes the row z = residual + factor * (x + bias) and returns its sum.
HWY_INLINE double sum_row(const LayerNormForwardRows& r, const float* x, const float* residual,
                          float* z) {
  FloatVec sum = hn::Zero(kFloat);
  for_columns(r.H, [&](int64_t c, size_t count) HWY_ATTR {
    FloatVec v = load_some(kFloat, x + c, count);
    if (r.bias) v = hn::Add(v, load_some(kFloat, r.bias + c, count));
    if (r.dropout.threshold != 0) v = hn::Mul(v, hn::Load(kFloat, r.factor + c));
    if (residual) v = hn::Add(v, load_some(kFloat, residual + c, count));
    if (z) store_some(kFloat, v, z + c, count);
    sum = hn::Add(sum, v);
  });
  return sum_lanes(sum);
}

HWY_INLINE void normalize_row(const LayerNormForwardRows& r, int64_t t, double sum, const float* z,
                              float* y) {
  // The first mean may be off by a few roundings; `rest` is what it leaves. Var = E[d^2] - E[d]^2
  // cancels nothing here, since d = z - first has nearly no mean.
  const float first = static_cast<float>(sum / static_cast<double>(r.H));
  const FloatVec first_vector = hn::Set(kFloat, first);
  FloatVec differences = hn::Zero(kFloat), squares = hn::Zero(kFloat);
  for_columns(r.H, [&](int64_t c, size_t count) HWY_ATTR {
    const FloatVec d = first_lanes(hn::Sub(load_some(kFloat, z + c, count), first_vector), count);
    differences = hn::Add(differences, d);
    squares = hn::MulAdd(d, d, squares);
  });
  const double rest = sum_lanes(differences) / static_cast<double>(r.H);
  const double variance = sum_lanes(squares) / static_cast<double>(r.H) - rest * rest;
  const double rstd = 1.0 / sqrt((variance < 0 ? 0 : variance) + static_cast<double>(r.eps));
  r.mean[t] = static_cast<float>(first + rest);
  r.rstd[t] = static_cast<float>(rstd);
  const FloatVec rest_vector = hn::Set(kFloat, static_cast<float>(rest));
  const FloatVec rstd_vector = hn::Set(kFloat, static_cast<float>(rstd));
  for_columns(r.H, [&](int64_t c, size_t count) HWY_ATTR {
    const FloatVec d = hn::Sub(load_some(kFloat, z + c, count), first_vector);
    const FloatVec xhat = hn::Mul(hn::Sub(d, rest_vector), rstd_vector);
    store_some(kFloat,
               hn::MulAdd(xhat, load_some(kFloat, r.weight + c, count),
                          load_some(kFloat, r.beta + c, count)),
               y + c, count);
  });
}

// ---- Backward ----------------------------------------------------------------------------------

// Of one row: d = z - mean, g = dy * weight.
struct RowSums {
  double d, g, gd;
};

HWY_INLINE RowSums sum_row_backward(const LayerNormBackwardRows& r, FloatVec mean, const float* dy,
                                    const float* z) {
  FloatVec sum_d = hn::Zero(kFloat), sum_g = hn::Zero(kFloat), sum_gd = hn::Zero(kFloat);
  for_columns(r.H, [&](int64_t c, size_t count) HWY_ATTR {
    const FloatVec d = first_lanes(hn::Sub(load_some(kFloat, z + c, count), mean), count);
    const FloatVec g =
        hn::Mul(load_some(kFloat, dy + c, count), load_some(kFloat, r.weight + c, count));
    sum_d = hn::Add(sum_d, d);
    sum_g = hn::Add(sum_g, g);
    sum_gd = hn::MulAdd(g, d, sum_gd);
  });
  return {sum_lanes(sum_d), sum_lanes(sum_g), sum_lanes(sum_gd)};
}

// to[0 .. count - 1] += v
HWY_INLINE void add_to(float* to, FloatVec v, size_t count) {
  store_some(kFloat, hn::Add(load_some(kFloat, to, count), v), to, count);
}

HWY_INLINE void backward_row(const LayerNormBackwardRows& r, int64_t t) {
  const float *dy = r.dy + t * r.H, *z = r.z + t * r.H;
  float *dz = r.dz + t * r.H, *dx = r.dx ? r.dx + t * r.H : nullptr;
  const FloatVec mean = hn::Set(kFloat, r.mean[t]), rstd = hn::Set(kFloat, r.rstd[t]);
  const RowSums sums = sum_row_backward(r, mean, dy, z);
  const double H = static_cast<double>(r.H), rest = sums.d / H;  // mean was rounded by `rest`
  const FloatVec rest_vector = hn::Set(kFloat, static_cast<float>(rest));
  const FloatVec average_g = hn::Set(kFloat, static_cast<float>(sums.g / H));
  const FloatVec average_g_xhat =
      hn::Set(kFloat, static_cast<float>(r.rstd[t] * (sums.gd - rest * sums.g) / H));
  for_columns(r.H, [&](int64_t c, size_t count) HWY_ATTR {
    const FloatVec dy_vector = load_some(kFloat, dy + c, count);
    const FloatVec d = hn::Sub(load_some(kFloat, z + c, count), mean);
    const FloatVec xhat = hn::Mul(hn::Sub(d, rest_vector), rstd);
    const FloatVec g = hn::Mul(dy_vector, load_some(kFloat, r.weight + c, count));
    const FloatVec gradient =
        hn::Mul(rstd, hn::NegMulAdd(xhat, average_g_xhat, hn::Sub(g, average_g)));
    FloatVec masked = gradient;
    if (r.dropout.threshold != 0) masked = hn::Mul(gradient, hn::Load(kFloat, r.factor + c));
    if (dx) store_some(kFloat, masked, dx + c, count);
    if (r.accumulate_dz) {
      add_to(dz + c, gradient, count);
    } else {
      store_some(kFloat, gradient, dz + c, count);
    }
    if (r.dbias) add_to(r.dbias + c, masked, count);
    if (r.dweight) add_to(r.dweight + c, hn::Mul(dy_vector, xhat), count);
    if (r.dbeta) add_to(r.dbeta + c, dy_vector, count);
  });
}

}  // namespace

HWY_FLATTEN void layer_norm_forward_rows(const LayerNormForwardRows& r, int64_t begin,
                                         int64_t end) {
  const PhiloxKeys keys(r.dropout.seed);
  for (int64_t t = begin; t < end; ++t) {
    const float *x = r.x + t * r.H, *residual = r.residual ? r.residual + t * r.H : nullptr;
    float* z = r.z ? r.z + t * r.H : nullptr;
    if (r.dropout.threshold != 0) draw_row(r.dropout, keys, t, r.H, x, residual, r.factor);
    const double sum = sum_row(r, x, residual, z);
    normalize_row(r, t, sum, z ? z : x, r.y + t * r.H);
  }
}

HWY_FLATTEN void layer_norm_backward_rows(const LayerNormBackwardRows& r, int64_t begin,
                                          int64_t end) {
  const PhiloxKeys keys(r.dropout.seed);
  const size_t column_bytes = sizeof(float) * static_cast<size_t>(r.H);
  if (r.dbias) memset(r.dbias, 0, column_bytes);
  if (r.dweight) memset(r.dweight, 0, column_bytes);
  if (r.dbeta) memset(r.dbeta, 0, column_bytes);
  for (int64_t t = begin; t < end; ++t) {
    if (r.dropout.threshold != 0)
      draw_row(r.dropout, keys, t, r.H, r.dy + t * r.H, r.z + t * r.H, r.factor);
    backward_row(r, t);
  }
}

}  // namespace minibert::MB_SIMD_NAMESPACE
