// optimizer_simd.cpp: section 7 of the optimizer chapter, compiled once per instruction set.
// One element function each for moments and direction; the three passes put them together. A tail
// shorter than a vector goes through zero-padded copies (zeros stay zeros and add nothing to sums).
// Easy to break: lamb_apply must recompute exactly the u whose norm lamb_moments took.
#include "core/kernels/optimizer_simd.h"

#include "core/kernels/math_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

using D = FloatTag;
using V = FloatVec;
constexpr D d;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

// Sum of squares of f32 values, in double: the two halves of a vector have a sum each.
class Squares {
 public:
  HWY_INLINE void add(V x) {
    const auto low = hn::PromoteTo(dd_, hn::LowerHalf(x));
    const auto high = hn::PromoteTo(dd_, hn::UpperHalf(hn::Half<D>(), x));
    low_ = hn::MulAdd(low, low, low_);
    high_ = hn::MulAdd(high, high, high_);
  }
  HWY_INLINE double total() const { return hn::GetLane(hn::SumOfLanes(dd_, hn::Add(low_, high_))); }

 private:
  using DD = hn::Repartition<double, D>;
  DD dd_;
  hn::Vec<DD> low_ = hn::Zero(DD()), high_ = hn::Zero(DD());
};

HWY_INLINE void update_moments(const AdamChunk& chunk, const AdamConstants& a, int64_t i) {
  const V g = hn::Mul(hn::LoadU(d, chunk.g + i), hn::Set(d, a.c));
  const V m = hn::MulAdd(hn::Set(d, a.b1), hn::LoadU(d, chunk.m + i),
                         hn::Mul(hn::Set(d, a.one_minus_b1), g));
  const V v = hn::MulAdd(hn::Set(d, a.b2), hn::LoadU(d, chunk.v + i),
                         hn::Mul(hn::Set(d, a.one_minus_b2), hn::Mul(g, g)));
  hn::StoreU(m, d, chunk.m + i);
  hn::StoreU(v, d, chunk.v + i);
}

// r + decay w, from m and v as they now stand.
HWY_INLINE V direction(const AdamChunk& chunk, const AdamConstants& a, int64_t i, V w) {
  const V m = hn::LoadU(d, chunk.m + i), v = hn::LoadU(d, chunk.v + i);
  const V root = hn::Sqrt(hn::Mul(v, hn::Set(d, a.cv)));
  const V r = hn::Div(hn::Mul(m, hn::Set(d, a.cm)), hn::Add(root, hn::Set(d, a.eps)));
  return hn::MulAdd(hn::Set(d, a.decay), w, r);
}

// Calls pass(chunk of whole vectors), then pass(padded copy of the rest) and copies m, v, w back.
template <class Pass>
HWY_INLINE void in_whole_vectors(const AdamChunk& chunk, Pass&& pass) {
  AdamChunk whole = chunk;
  whole.n = chunk.n / kLanes * kLanes;
  if (whole.n > 0) pass(whole);
  const int64_t rest = chunk.n - whole.n;
  if (rest == 0) return;
  HWY_ALIGN float w[kLanes] = {}, g[kLanes] = {}, m[kLanes] = {}, v[kLanes] = {};
  for (int64_t i = 0; i < rest; ++i) {
    w[i] = chunk.w[whole.n + i];
    g[i] = chunk.g[whole.n + i];
    m[i] = chunk.m[whole.n + i];
    v[i] = chunk.v[whole.n + i];
  }
  pass(AdamChunk{w, g, m, v, kLanes});
  for (int64_t i = 0; i < rest; ++i) {
    chunk.w[whole.n + i] = w[i];
    chunk.m[whole.n + i] = m[i];
    chunk.v[whole.n + i] = v[i];
  }
}

}  // namespace

SquareSums lamb_moments(const AdamChunk& chunk, const AdamConstants& a) {
  Squares weight, update;
  in_whole_vectors(chunk, [&](const AdamChunk& part) {
    for (int64_t i = 0; i < part.n; i += kLanes) {
      update_moments(part, a, i);
      const V w = hn::LoadU(d, part.w + i);
      weight.add(w);
      update.add(direction(part, a, i, w));
    }
  });
  return {weight.total(), update.total()};
}

void lamb_apply(const AdamChunk& chunk, const AdamConstants& a) {
  const V step = hn::Set(d, a.step);
  in_whole_vectors(chunk, [&](const AdamChunk& part) {
    for (int64_t i = 0; i < part.n; i += kLanes) {
      const V w = hn::LoadU(d, part.w + i);
      hn::StoreU(hn::NegMulAdd(step, direction(part, a, i, w), w), d, part.w + i);
    }
  });
}

void adamw_chunk(const AdamChunk& chunk, const AdamConstants& a) {
  const V step = hn::Set(d, a.step), keep = hn::Set(d, a.keep);
  in_whole_vectors(chunk, [&](const AdamChunk& part) {
    for (int64_t i = 0; i < part.n; i += kLanes) {
      update_moments(part, a, i);
      const V w = hn::LoadU(d, part.w + i);
      hn::StoreU(hn::NegMulAdd(step, direction(part, a, i, w), hn::Mul(keep, w)), d, part.w + i);
    }
  });
}

double square_sum(const float* x, int64_t n) {
  Squares squares;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) squares.add(hn::LoadU(d, x + i));
  squares.add(load_some(d, x + i, static_cast<size_t>(n - i)));
  return squares.total();
}

}  // namespace minibert::MB_SIMD_NAMESPACE
