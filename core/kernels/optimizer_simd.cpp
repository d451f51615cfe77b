// optimizer_simd.cpp: section 7 of the optimizer chapter, compiled once per instruction set.
// One element function each for moments and direction; the three passes put them together. A tail
// shorter than a vector is loaded with zeros after it, which stay zeros and add nothing to sums.
// Easy to break: lamb_apply must recompute exactly the u whose norm lamb_moments took.
#include "core/kernels/elements_simd.h"
#include "core/kernels/optimizer.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag d;

// Sum of squares of f32 values, in double: the two halves of a vector have a sum each.
class Squares {
 public:
  HWY_INLINE void add(V x) {
    const auto low = hn::PromoteTo(dd_, hn::LowerHalf(x));
    const auto high = hn::PromoteTo(dd_, hn::UpperHalf(hn::Half<FloatTag>(), x));
    low_ = hn::MulAdd(low, low, low_);
    high_ = hn::MulAdd(high, high, high_);
  }
  HWY_INLINE double total() const { return hn::GetLane(hn::SumOfLanes(dd_, hn::Add(low_, high_))); }

 private:
  using DD = hn::Repartition<double, FloatTag>;
  DD dd_;
  hn::Vec<DD> low_ = hn::Zero(DD()), high_ = hn::Zero(DD());
};

// One piece of the f32 buffers, and section 1's letters.
struct Piece {
  HWY_INLINE Piece(const OptimizerArgs& args, const OptimizerPiece& piece)
      : w(args.masters.data<float>() + piece.offset),
        g(args.gradients.data<float>() + piece.offset),
        m(args.first_moment.data<float>() + piece.offset),
        v(args.second_moment.data<float>() + piece.offset),
        n(piece.count),
        c(hn::Set(d, args.state->gradient_scale)),
        b1(hn::Set(d, static_cast<float>(args.adam.beta1))),
        one_minus_b1(hn::Set(d, static_cast<float>(1 - args.adam.beta1))),
        b2(hn::Set(d, static_cast<float>(args.adam.beta2))),
        one_minus_b2(hn::Set(d, static_cast<float>(1 - args.adam.beta2))),
        cm(hn::Set(d, args.state->m_correction)),
        cv(hn::Set(d, args.state->v_correction)),
        eps(hn::Set(d, args.adam.eps)),
        decay(hn::Set(d, args.tables.tensors[piece.tensor].decay)) {}

  float* w;
  const float* g;
  float* m;
  float* v;
  int64_t n;
  V c, b1, one_minus_b1, b2, one_minus_b2, cm, cv, eps, decay;
};

struct Moments {
  V m, v;
};

HWY_INLINE Moments load_moments(const Piece& p, int64_t i, size_t count) {
  return {load_some(d, p.m + i, count), load_some(d, p.v + i, count)};
}

HWY_INLINE Moments update_moments(const Piece& p, int64_t i, size_t count) {
  const V g = hn::Mul(load_some(d, p.g + i, count), p.c);
  const Moments old = load_moments(p, i, count);
  const Moments now = {hn::MulAdd(p.b1, old.m, hn::Mul(p.one_minus_b1, g)),
                       hn::MulAdd(p.b2, old.v, hn::Mul(p.one_minus_b2, hn::Mul(g, g)))};
  store_some(d, now.m, p.m + i, count);
  store_some(d, now.v, p.v + i, count);
  return now;
}

// r + decay w.
HWY_INLINE V direction(const Piece& p, const Moments& moments, V w, V decay) {
  const V root = hn::Sqrt(hn::Mul(moments.v, p.cv));
  const V r = hn::Div(hn::Mul(moments.m, p.cm), hn::Add(root, p.eps));
  return hn::MulAdd(decay, w, r);
}

// The working copy: none in f32, where the masters are it.
HWY_INLINE void store_working(V, float*, size_t) {}
template <class E>
HWY_INLINE void store_working(V w, E* p, size_t count) {
  store_some(d, w, p, count);
}

template <class E>
void lamb_apply_elements(const Piece& p, E* working, float step) {
  const V vstep = hn::Set(d, step);
  for_vectors(p.n, [&](int64_t i, size_t count) HWY_ATTR {
    const V w = load_some(d, p.w + i, count);
    const V u = direction(p, load_moments(p, i, count), w, p.decay);
    const V updated = hn::NegMulAdd(vstep, u, w);
    store_some(d, updated, p.w + i, count);
    store_working(updated, working + i, count);
  });
}

template <class E>
void adamw_elements(const Piece& p, E* working, float step, float keep, V decay) {
  const V vstep = hn::Set(d, step), vkeep = hn::Set(d, keep);
  for_vectors(p.n, [&](int64_t i, size_t count) HWY_ATTR {
    const Moments moments = update_moments(p, i, count);
    const V w = load_some(d, p.w + i, count);
    const V updated = hn::NegMulAdd(vstep, direction(p, moments, w, decay), hn::Mul(vkeep, w));
    store_some(d, updated, p.w + i, count);
    store_working(updated, working + i, count);
  });
}

}  // namespace

double square_sum_piece(const SquareSumsArgs& args, const OptimizerPiece& piece) {
  const float* x = args.x.data<float>() + piece.offset;
  Squares squares;
  for_vectors(piece.count,
              [&](int64_t i, size_t count) HWY_ATTR { squares.add(load_some(d, x + i, count)); });
  return squares.total();
}

/// LAMB's first pass: m and v, and the sums of w^2 and u^2.
SquareSums lamb_moments_piece(const OptimizerArgs& args, const OptimizerPiece& piece) {
  const Piece p(args, piece);
  Squares weight, update;
  for_vectors(p.n, [&](int64_t i, size_t count) HWY_ATTR {
    const Moments moments = update_moments(p, i, count);
    const V w = load_some(d, p.w + i, count);
    weight.add(w);
    update.add(direction(p, moments, w, p.decay));
  });
  return {weight.total(), update.total()};
}

/// LAMB's second pass: w -= lr ratio u, with u from m, v and w.
void lamb_apply_piece(const OptimizerArgs& args, const OptimizerPiece& piece) {
  const Piece p(args, piece);
  const float step = args.state->learning_rate * args.norms[piece.tensor].trust_ratio;
  with_element(args.working.dtype(), [&](auto e) {
    lamb_apply_elements(p, args.working.data<decltype(e)>() + piece.offset, step);
  });
}

/// m, v, then w = keep w - step (r + decay w).
void adamw_piece(const OptimizerArgs& args, const OptimizerPiece& piece) {
  const Piece p(args, piece);
  const float lr = args.state->learning_rate, decay = args.tables.tensors[piece.tensor].decay;
  const bool first = args.adam.decay_first;
  const float keep = first ? static_cast<float>(1 - static_cast<double>(lr) * decay) : 1.0f;
  with_element(args.working.dtype(), [&](auto e) {
    adamw_elements(p, args.working.data<decltype(e)>() + piece.offset, lr, keep,
                   first ? hn::Zero(d) : p.decay);
  });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
