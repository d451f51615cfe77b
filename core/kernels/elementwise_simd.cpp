// elementwise_simd.cpp: section 7 of the elementwise chapter: one block of each map, vectorised.
// Compiled once per instruction set; elementwise.cpp deals the blocks to threads (MB_SIMD).
#include "core/kernels/elementwise_simd.h"

#include "core/kernels/gelu_simd.h"
#include "core/kernels/philox_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

// y[i] (+)= value(i, count): `value` gives the vector of the `count` elements from i on. The last,
// partial vector goes through a buffer, so that nothing past the arrays is touched.
template <class Value>
HWY_INLINE void map_block(float* y, int64_t n, bool accumulate, Value value) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    FloatVec v = value(i, static_cast<size_t>(lanes));
    if (accumulate) v = hn::Add(hn::LoadU(d, y + i), v);
    hn::StoreU(v, d, y + i);
  }
  if (i == n) return;
  const size_t rest = static_cast<size_t>(n - i);
  FloatVec v = value(i, rest);
  if (accumulate) v = hn::Add(load_some(d, y + i, rest), v);
  store_some(d, v, y + i, rest);
}

template <class Function>
HWY_INLINE void map_one(const float* x, float* y, int64_t n, Function function) {
  const FloatTag d;
  map_block(y, n, false,
            [&](int64_t i, size_t count) HWY_ATTR { return function(load_some(d, x + i, count)); });
}

template <class Function>
HWY_INLINE void map_two(const float* x, const float* z, float* y, int64_t n, bool accumulate,
                        Function function) {
  const FloatTag d;
  map_block(y, n, accumulate, [&](int64_t i, size_t count) HWY_ATTR {
    return function(load_some(d, x + i, count), load_some(d, z + i, count));
  });
}

}  // namespace

void exp_block(const float* x, float* y, int64_t n) {
  map_one(x, y, n, [](FloatVec v) HWY_ATTR { return Exp(FloatTag(), v); });
}

void erf_block(const float* x, float* y, int64_t n) {
  map_one(x, y, n, [](FloatVec v) HWY_ATTR { return Erf(FloatTag(), v); });
}

void tanh_block(const float* x, float* y, int64_t n) {
  map_one(x, y, n, [](FloatVec v) HWY_ATTR { return Tanh(FloatTag(), v); });
}

void gelu_block(const float* x, float* y, int64_t n, bool erf) {
  if (erf) {
    map_one(x, y, n, [](FloatVec v) HWY_ATTR { return gelu_erf(v); });
  } else {
    map_one(x, y, n, [](FloatVec v) HWY_ATTR { return gelu_tanh(v); });
  }
}

void gelu_slope_block(const float* x, const float* dy, float* dx, int64_t n, bool erf,
                      bool accumulate) {
  if (erf) {
    map_two(x, dy, dx, n, accumulate,
            [](FloatVec v, FloatVec g) HWY_ATTR { return hn::Mul(g, gelu_erf_slope(v)); });
  } else {
    map_two(x, dy, dx, n, accumulate,
            [](FloatVec v, FloatVec g) HWY_ATTR { return hn::Mul(g, gelu_tanh_slope(v)); });
  }
}

void tanh_slope_block(const float* y, const float* dy, float* dx, int64_t n, bool accumulate) {
  const FloatVec one = hn::Set(FloatTag(), 1.0f);
  map_two(y, dy, dx, n, accumulate,
          [one](FloatVec v, FloatVec g) HWY_ATTR { return hn::Mul(g, hn::NegMulAdd(v, v, one)); });
}

void add_block(const float* a, const float* b, float* y, int64_t n) {
  map_two(a, b, y, n, false, [](FloatVec v, FloatVec w) HWY_ATTR { return hn::Add(v, w); });
}

void multiply_block(const float* a, const float* b, float* y, int64_t n, bool accumulate) {
  map_two(a, b, y, n, accumulate, [](FloatVec v, FloatVec w) HWY_ATTR { return hn::Mul(v, w); });
}

void scale_block(const float* x, float factor, float* y, int64_t n, bool accumulate) {
  const FloatTag d;
  const FloatVec f = hn::Set(d, factor);
  map_block(y, n, accumulate, [&](int64_t i, size_t count) HWY_ATTR {
    return hn::Mul(load_some(d, x + i, count), f);
  });
}

void fill_block(float* y, float value, int64_t n) {
  const FloatVec v = hn::Set(FloatTag(), value);
  map_block(y, n, false, [v](int64_t, size_t) HWY_ATTR { return v; });
}

void dropout_row(const float* x, float* y, int64_t H, uint32_t position, uint32_t sample,
                 const DropoutSite& site, bool accumulate) {
  const FloatTag d;
  const PhiloxKeys keys(site.seed);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t h = 0; h < H; h += 2 * lanes) {
    const WordPair words = philox_columns(static_cast<uint32_t>(h / 4), position, sample,
                                          site.step_layer_purpose, keys);
    const FloatVec factors[2] = {dropout_factor(words.first, site.threshold, site.scale),
                                 dropout_factor(words.second, site.threshold, site.scale)};
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = h + half * lanes;
      if (first >= H) break;
      const size_t count = static_cast<size_t>(H - first < lanes ? H - first : lanes);
      const auto dropped = hn::Eq(factors[half], hn::Zero(d));
      // A dropped NaN is 0, as it would be without the multiplication.
      FloatVec v =
          hn::IfThenZeroElse(dropped, hn::Mul(load_some(d, x + first, count), factors[half]));
      if (accumulate) v = hn::Add(load_some(d, y + first, count), v);
      store_some(d, v, y + first, count);
    }
  }
}

}  // namespace minibert::MB_SIMD_NAMESPACE
