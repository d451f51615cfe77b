// elementwise_simd.cpp: section 7 of the elementwise chapter: one block of each map, vectorised.
// Compiled once per instruction set; elementwise.cpp deals the blocks to threads (MB_SIMD).
// Easy to break: the last, partial vector must not touch anything beyond the arrays.
#include "core/kernels/elementwise_simd.h"

#include "core/kernels/elementwise.h"
#include "core/kernels/gelu_simd.h"
#include "core/kernels/philox_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

// y[i] (+)= value(i, count): `value` gives the vector of the `count` elements from i on.
template <class E, class Value>
HWY_INLINE void map_block(E* y, int64_t n, bool accumulate, const Value& value) {
  const FloatTag d;
  for_vectors(n, [&](int64_t i, size_t count) HWY_ATTR {
    FloatVec v = value(i, count);
    if (accumulate) v = hn::Add(load_some(d, y + i, count), v);
    store_some(d, v, y + i, count);
  });
}

template <class E, class Function>
HWY_INLINE void map_one(const E* x, E* y, int64_t n, const Function& function) {
  map_block(y, n, false, [&](int64_t i, size_t count) HWY_ATTR {
    return function(load_some(FloatTag(), x + i, count));
  });
}

template <class E, class Function>
HWY_INLINE void map_two(const E* x, const E* z, E* y, int64_t n, bool accumulate,
                        const Function& function) {
  map_block(y, n, accumulate, [&](int64_t i, size_t count) HWY_ATTR {
    return function(load_some(FloatTag(), x + i, count), load_some(FloatTag(), z + i, count));
  });
}

// The same for elements begin .. end - 1 of operands of one type.
template <class Function>
HWY_INLINE void map_one(const Operand& x, const Operand& y, int64_t begin, int64_t end,
                        const Function& function) {
  with_element(y.dtype(), [&](auto e) HWY_ATTR {
    using E = decltype(e);
    map_one(x.data<E>() + begin, y.data<E>() + begin, end - begin, function);
  });
}

template <class Function>
HWY_INLINE void map_two(const Operand& x, const Operand& z, const Operand& y, int64_t begin,
                        int64_t end, bool accumulate, const Function& function) {
  with_element(y.dtype(), [&](auto e) HWY_ATTR {
    using E = decltype(e);
    map_two(x.data<E>() + begin, z.data<E>() + begin, y.data<E>() + begin, end - begin, accumulate,
            function);
  });
}

// y (+)= v, everywhere.
HWY_INLINE void fill_with(FloatVec v, const Operand& y, int64_t begin, int64_t end,
                          bool accumulate) {
  with_element(y.dtype(), [&](auto e) HWY_ATTR {
    map_block(y.data<decltype(e)>() + begin, end - begin, accumulate,
              [v](int64_t, size_t) HWY_ATTR { return v; });
  });
}

}  // namespace

// ---- f32 arrays --------------------------------------------------------------------------------
void exp_block(const float* x, float* y, int64_t n) {
  map_one(x, y, n, [](FloatVec v) HWY_ATTR { return Exp(FloatTag(), v); });
}

void erf_block(const float* x, float* y, int64_t n) {
  map_one(x, y, n, [](FloatVec v) HWY_ATTR { return Erf(FloatTag(), v); });
}

void tanh_block(const float* x, float* y, int64_t n) {
  map_one(x, y, n, [](FloatVec v) HWY_ATTR { return Tanh(FloatTag(), v); });
}

// ---- Elements begin .. end - 1 -----------------------------------------------------------------
void gelu_forward_block(const GeluForward& args, int64_t begin, int64_t end) {
  if (args.kind == Gelu::erf) {
    map_one(args.x, args.y, begin, end, [](FloatVec v) HWY_ATTR { return gelu_erf(v); });
  } else {
    map_one(args.x, args.y, begin, end, [](FloatVec v) HWY_ATTR { return gelu_tanh(v); });
  }
}

void gelu_backward_block(const GeluBackward& args, int64_t begin, int64_t end) {
  if (args.kind == Gelu::erf) {
    map_two(args.x, args.dy, args.dx, begin, end, args.accumulate,
            [](FloatVec v, FloatVec g) HWY_ATTR { return hn::Mul(g, gelu_erf_slope(v)); });
  } else {
    map_two(args.x, args.dy, args.dx, begin, end, args.accumulate,
            [](FloatVec v, FloatVec g) HWY_ATTR { return hn::Mul(g, gelu_tanh_slope(v)); });
  }
}

void tanh_forward_block(const TanhForward& args, int64_t begin, int64_t end) {
  map_one(args.x, args.y, begin, end, [](FloatVec v) HWY_ATTR { return Tanh(FloatTag(), v); });
}

void tanh_backward_block(const TanhBackward& args, int64_t begin, int64_t end) {
  const FloatVec one = hn::Set(FloatTag(), 1.0f);
  map_two(args.y, args.dy, args.dx, begin, end, args.accumulate,
          [one](FloatVec v, FloatVec g) HWY_ATTR { return hn::Mul(g, hn::NegMulAdd(v, v, one)); });
}

void add_forward_block(const AddForward& args, int64_t begin, int64_t end) {
  map_two(args.a, args.b, args.y, begin, end, false,
          [](FloatVec v, FloatVec w) HWY_ATTR { return hn::Add(v, w); });
}

void multiply_block(const MultiplyArgs& args, int64_t begin, int64_t end) {
  map_two(args.a, args.b, args.y, begin, end, args.accumulate,
          [](FloatVec v, FloatVec w) HWY_ATTR { return hn::Mul(v, w); });
}

void scale_block(const ScaleArgs& args, int64_t begin, int64_t end) {
  const FloatTag d;
  const FloatVec factor = hn::Set(d, args.factor);
  with_element(args.y.dtype(), [&](auto e) HWY_ATTR {
    using E = decltype(e);
    const E* x = args.x.data<E>() + begin;
    map_block(args.y.data<E>() + begin, end - begin, args.accumulate,
              [&](int64_t i, size_t count)
                  HWY_ATTR { return hn::Mul(load_some(d, x + i, count), factor); });
  });
}

void fill_block(const FillArgs& args, int64_t begin, int64_t end) {
  fill_with(hn::Set(FloatTag(), args.value), args.y, begin, end, /* accumulate= */ false);
}

void fill_from_block(const FillFromArgs& args, int64_t begin, int64_t end) {
  fill_with(hn::Set(FloatTag(), *args.scalar.data<float>()), args.y, begin, end, args.accumulate);
}

// ---- Rows begin .. end - 1 ---------------------------------------------------------------------
void add_bias_block(const AddBiasForward& args, int64_t begin, int64_t end) {
  const int64_t H = args.x.dim(1);
  with_element(args.y.dtype(), [&](auto e) HWY_ATTR {
    using E = decltype(e);
    const E *x = args.x.data<E>(), *bias = args.bias.data<E>();
    E* y = args.y.data<E>();
    for (int64_t t = begin; t < end; ++t)
      map_two(x + t * H, bias, y + t * H, H, false,
              [](FloatVec v, FloatVec w) HWY_ATTR { return hn::Add(v, w); });
  });
}

namespace {

// Row t of dropout_rows: x, y [H].
template <class E>
HWY_INLINE void dropout_row(const RowDropout& dropout, int64_t t, const E* x, E* y, int64_t H,
                            bool accumulate) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t h = 0; h < H; h += 2 * lanes) {
    FloatVec factors[2];
    dropout.draw(t, h, factors);
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = h + half * lanes;
      if (first >= H) break;
      const size_t count = static_cast<size_t>(H - first < lanes ? H - first : lanes);
      FloatVec v = apply_dropout(load_some(d, x + first, count), factors[half]);
      if (accumulate) v = hn::Add(load_some(d, y + first, count), v);
      store_some(d, v, y + first, count);
    }
  }
}

}  // namespace

void dropout_rows_block(const DropoutRows& args, int64_t begin, int64_t end) {
  const RowDropout dropout(args.dropout, args.position, args.row_sample);
  const int64_t H = args.x.dim(1);
  with_element(args.y.dtype(), [&](auto e) HWY_ATTR {
    using E = decltype(e);
    const E* x = args.x.data<E>();
    E* y = args.y.data<E>();
    for (int64_t t = begin; t < end; ++t)
      dropout_row(dropout, t, x + t * H, y + t * H, H, args.accumulate);
  });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
