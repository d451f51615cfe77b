// optimizer_simd.cpp: section 7 of the optimizer chapter, compiled once per instruction set.
// One element function each for moments and update; the passes put them together, each once for a
// direction. A tail shorter than a vector is loaded with zeros after it, which stay zeros and add
// nothing to sums. Easy to break: optimizer_apply must recompute exactly the u whose norm
// optimizer_moments took; LAMB's and AdamW's bits are those of the plain adam path, so a new option of
// theirs may only add what leaves them (a product by 1, a sum with 0 that is fused).
#include <type_traits>

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

// One piece of the f32 buffers, and section 1's letters. Null: v of a rule without second moment.
struct Piece {
  HWY_INLINE Piece(const OptimizerArgs& args, const OptimizerPiece& piece)
      : Piece(args, piece, args.tables.tensors[piece.tensor],
              args.gradient_scales ? args.gradient_scales[piece.tensor]
                                   : args.state->gradient_scale) {}
  HWY_INLINE Piece(const OptimizerArgs& args, const OptimizerPiece& piece,
                   const OptimizerTensor& tensor, float scale)
      : factors(piece_factors(
            args.rule, *args.state, tensor, scale,
            args.rule.ratio_of == RatioOf::none ? nullptr : args.norms + piece.tensor)),
        w(args.masters.data<float>() + piece.offset),
        g(args.gradients.data<float>() + piece.offset),
        m(args.first_moment.data<float>() + piece.offset),
        v(has_second_moment(args.rule) ? args.second_moment.data<float>() + piece.offset : nullptr),
        n(piece.count),
        c(hn::Set(d, factors.c)),
        b1(hn::Set(d, static_cast<float>(args.rule.beta1))),
        share(hn::Set(d, factors.share)),
        b2(hn::Set(d, static_cast<float>(args.rule.beta2))),
        one_minus_b2(hn::Set(d, static_cast<float>(1 - args.rule.beta2))),
        cm(hn::Set(d, args.state->m_correction)),
        cv(hn::Set(d, args.state->v_correction)),
        eps(hn::Set(d, args.rule.eps_inside_root ? 0 : args.rule.eps)),
        eps_inside(hn::Set(d, args.rule.eps_inside_root ? args.rule.eps : 0)),
        decay(hn::Set(d, args.rule.decay_first ? 0 : tensor.decay)),
        step(hn::Set(d, factors.step)),
        gradient_step(hn::Set(d, factors.gradient_step)),
        keep(hn::Set(d, factors.keep)),
        nesterov(args.rule.nesterov) {}

  PieceFactors factors;
  float* w;
  const float* g;
  float* m;
  float* v;
  int64_t n;
  V c, b1, share, b2, one_minus_b2, cm, cv, eps, eps_inside, decay, step, gradient_step, keep;
  bool nesterov;
};

// What elements have once their moments are new. g: scaled; of momentum, d with its share.
struct Moments {
  V g, m, v;
};

/// Moments as they are, and the gradient for those directions whose update has it.
template <Direction kDirection>
HWY_INLINE Moments load_moments(const Piece& p, int64_t i, size_t count) {
  const V m = load_some(d, p.m + i, count);
  if constexpr (kDirection == Direction::momentum) return {hn::Zero(d), m, hn::Zero(d)};
  const V v = load_some(d, p.v + i, count);
  if constexpr (kDirection == Direction::adam) return {hn::Zero(d), m, v};
  return {hn::Mul(load_some(d, p.g + i, count), p.c), m, v};
}

template <Direction kDirection>
HWY_INLINE Moments update_moments(const Piece& p, int64_t i, size_t count, V w) {
  const V g = hn::Mul(load_some(d, p.g + i, count), p.c);
  const V old_m = load_some(d, p.m + i, count);
  Moments now{};
  if constexpr (kDirection == Direction::momentum) {
    const V added = hn::Mul(p.share, hn::MulAdd(p.decay, w, g));
    now = {added, hn::MulAdd(p.b1, old_m, added), hn::Zero(d)};
  } else {
    const V old_v = load_some(d, p.v + i, count);
    now = {g, hn::MulAdd(p.b1, old_m, hn::Mul(p.share, g)),
           hn::MulAdd(p.b2, old_v, hn::Mul(p.one_minus_b2, hn::Mul(g, g)))};
    store_some(d, now.v, p.v + i, count);
  }
  store_some(d, now.m, p.m + i, count);
  return now;
}

/// sqrt(v cv) + eps, or sqrt(v cv + eps).
HWY_INLINE V root(const Piece& p, V v) {
  return hn::Add(hn::Sqrt(hn::MulAdd(v, p.cv, p.eps_inside)), p.eps);
}

/// u.
template <Direction kDirection>
HWY_INLINE V update_of(const Piece& p, const Moments& now, V w) {
  if constexpr (kDirection == Direction::momentum) return now.m;
  return hn::MulAdd(p.decay, w, hn::Div(hn::Mul(now.m, p.cm), root(p, now.v)));
}

/// q, of lans.
HWY_INLINE V gradient_update_of(const Piece& p, const Moments& now, V w) {
  return hn::MulAdd(p.decay, w, hn::Div(now.g, root(p, now.v)));
}

// The working copy: none in f32, where the masters are it.
HWY_INLINE void store_working(V, float*, size_t) {}
template <class E>
HWY_INLINE void store_working(V w, E* p, size_t count) {
  store_some(d, w, p, count);
}

template <Direction kDirection>
SquareSums moments_of_elements(const Piece& p) {
  Squares weight, update, gradient_update;
  for_vectors(p.n, [&](int64_t i, size_t count) MB_INLINE_BODY {
    const V w = load_some(d, p.w + i, count);
    const Moments now = update_moments<kDirection>(p, i, count, w);
    weight.add(w);
    update.add(update_of<kDirection>(p, now, w));
    if constexpr (kDirection == Direction::lans) gradient_update.add(gradient_update_of(p, now, w));
  });
  return {weight.total(), update.total(), gradient_update.total()};
}

template <Direction kDirection, class E>
void apply_to_elements(const Piece& p, E* working) {
  for_vectors(p.n, [&](int64_t i, size_t count) MB_INLINE_BODY {
    const V w = load_some(d, p.w + i, count);
    const Moments now = load_moments<kDirection>(p, i, count);
    V updated = hn::NegMulAdd(p.step, update_of<kDirection>(p, now, w), w);
    if constexpr (kDirection == Direction::lans)
      updated = hn::NegMulAdd(p.gradient_step, gradient_update_of(p, now, w), updated);
    store_some(d, updated, p.w + i, count);
    store_working(updated, working + i, count);
  });
}

template <class E>
void adam_elements(const Piece& p, E* working) {
  for_vectors(p.n, [&](int64_t i, size_t count) MB_INLINE_BODY {
    const V w = load_some(d, p.w + i, count);
    const Moments now = update_moments<Direction::adam>(p, i, count, w);
    const V u = update_of<Direction::adam>(p, now, w);
    const V updated = hn::NegMulAdd(p.step, u, hn::Mul(p.keep, w));
    store_some(d, updated, p.w + i, count);
    store_working(updated, working + i, count);
  });
}

template <class E>
void momentum_elements(const Piece& p, E* working) {
  for_vectors(p.n, [&](int64_t i, size_t count) MB_INLINE_BODY {
    const V w = load_some(d, p.w + i, count);
    const Moments now = update_moments<Direction::momentum>(p, i, count, w);
    const V u = p.nesterov ? hn::MulAdd(p.b1, now.m, now.g) : now.m;
    const V updated = hn::NegMulAdd(p.step, u, w);
    store_some(d, updated, p.w + i, count);
    store_working(updated, working + i, count);
  });
}

/// body(constant of the direction).
template <class Body>
auto with_direction(Direction direction, const Body& body) {
  if (direction == Direction::momentum)
    return body(std::integral_constant<Direction, Direction::momentum>());
  if (direction == Direction::lans)
    return body(std::integral_constant<Direction, Direction::lans>());
  return body(std::integral_constant<Direction, Direction::adam>());
}

}  // namespace

double square_sum_piece(const SquareSumsArgs& args, const OptimizerPiece& piece) {
  const float* x = args.x.data<float>() + piece.offset;
  Squares squares;
  for_vectors(piece.count,
              [&](int64_t i, size_t count) HWY_ATTR { squares.add(load_some(d, x + i, count)); });
  return squares.total();
}

/// The sums of w^2 and g'^2.
SquareSums optimizer_norms_piece(const OptimizerArgs& args, const OptimizerPiece& piece) {
  const Piece p(args, piece);
  Squares weight, gradient;
  for_vectors(p.n, [&](int64_t i, size_t count) HWY_ATTR {
    weight.add(load_some(d, p.w + i, count));
    gradient.add(hn::Mul(load_some(d, p.g + i, count), p.c));
  });
  return {weight.total(), gradient.total(), 0};
}

/// The first pass of a ratio of the update: moments, and the sums of w^2 and u^2.
SquareSums optimizer_moments_piece(const OptimizerArgs& args, const OptimizerPiece& piece) {
  const Piece p(args, piece);
  return with_direction(args.rule.direction, [&](auto direction) {
    return moments_of_elements<decltype(direction)::value>(p);
  });
}

/// The second: w -= step u, with u from m, v and w.
void optimizer_apply_piece(const OptimizerArgs& args, const OptimizerPiece& piece) {
  const Piece p(args, piece);
  with_direction(args.rule.direction, [&](auto direction) {
    with_element(args.working.dtype(), [&](auto e) {
      apply_to_elements<decltype(direction)::value>(
          p, args.working.data<decltype(e)>() + piece.offset);
    });
  });
}

/// Moments, then w = keep w - step u.
void optimizer_step_piece(const OptimizerArgs& args, const OptimizerPiece& piece) {
  const Piece p(args, piece);
  with_element(args.working.dtype(), [&](auto e) {
    auto* const working = args.working.data<decltype(e)>() + piece.offset;
    args.rule.direction == Direction::momentum ? momentum_elements(p, working)
                                               : adam_elements(p, working);
  });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
