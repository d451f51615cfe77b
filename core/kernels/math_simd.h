// math_simd.h: exp, erf, tanh and the normal distribution on f32 vectors, for *_simd.cpp files.
// Called by elementwise, gemm's epilogues, attention, layer_norm and cross_entropy. Everything here
// is inlined into minibert::MB_SIMD_NAMESPACE, so that each instruction set has its own copy; NaN
// goes in, NaN comes out (overflow detection relies on it). Errors against double: exp 2 units in
// the last place, erf, tanh and the distribution 1e-7 absolute. Coefficients: tools/fit_math.py.
// Test: ctest -R kernels_elementwise.
#pragma once

#include "core/kernels/elements_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {

// ---- Polynomials, Horner's way: c0 + x (c1 + x (c2 + ...)) -------------------------------------
template <class D>
HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D>, float c) {
  return hn::Set(d, c);
}
template <class D, class... More>
HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D> x, float c, More... more) {
  return hn::MulAdd(x, polynomial(d, x, more...), hn::Set(d, c));
}

// ---- exp ---------------------------------------------------------------------------------------
/// e^x. Infinity above 88.72, 0 below -103.97, subnormals in between; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> Exp(D d, hn::Vec<D> x) {
  const hn::RebindToSigned<D> di;
  const auto high = hn::Set(d, 89.0f), low = hn::Set(d, -104.0f);
  // Clamped by comparisons: unlike Min and Max, they let NaN through on every machine.
  x = hn::IfThenElse(hn::Gt(x, high), high, x);
  x = hn::IfThenElse(hn::Lt(x, low), low, x);
  const auto n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504089f)));
  auto r = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), x);  // ln 2 in two parts: n * high part
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6f), r);           // is exact
  const auto rest =
      polynomial(d, r, 0.5f, 0.166665792f, 0.0416667573f, 0.00836294983f, 0.00139061501f);
  const auto mantissa = hn::Add(hn::MulAdd(hn::Mul(r, r), rest, r), hn::Set(d, 1.0f));
  // 2^n as two factors, since n reaches 128 and -150.
  const auto whole = hn::ConvertTo(di, n), half = hn::ShiftRight<1>(whole);
  const auto bias = hn::Set(di, 127);
  const auto first = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const auto second = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), bias)));
  return hn::Mul(hn::Mul(mantissa, first), second);
}

// ---- The normal distribution, and erf ----------------------------------------------------------
/// P(Z > a) for a >= 1.4 and exp(-a^2 / 2), from which it is made.
template <class D>
HWY_INLINE hn::Vec<D> normal_tail(D d, hn::Vec<D> a, hn::Vec<D> exp_half_square) {
  const auto one = hn::Set(d, 1.0f);
  const auto t = hn::Div(one, hn::MulAdd(a, hn::Set(d, 0.35f), one));
  const auto p = polynomial(d, t, 0.139630362f, 0.139632881f, 0.122276224f, 0.0912815183f,
                            0.0264279488f, 0.0532429554f, -0.119421721f, 0.0471802801f);
  return hn::Mul(hn::Mul(t, p), exp_half_square);
}

/// P(Z <= x) - 1/2 for |x| <= 1.414.
template <class D>
HWY_INLINE hn::Vec<D> normal_centre(D d, hn::Vec<D> x) {
  const auto rest = polynomial(d, hn::Mul(x, x), 0.148942277f, -0.0664902478f, 0.00997274183f,
                               -0.00118543673f, 0.000113352195f, -8.2753777e-06f, 3.38161755e-07f);
  return hn::MulAdd(x, rest, hn::Mul(x, hn::Set(d, 0.25f)));  // x / 4 is exact: less is rounded
}

inline constexpr float kNormalSplit = 1.41f;  // centre below, tail above

/// exp(-x^2 / 2).
template <class D>
HWY_INLINE hn::Vec<D> exp_half_square(D d, hn::Vec<D> x) {
  return Exp(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5f)));
}

/// P(Z <= x), accurate relative to itself in the left tail; `density_factor` = exp(-x^2 / 2).
template <class D>
HWY_INLINE hn::Vec<D> normal_probability(D d, hn::Vec<D> x, hn::Vec<D> density_factor) {
  const auto a = hn::Abs(x);
  const auto above = normal_tail(d, a, density_factor);
  const auto tail = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), above, hn::Sub(hn::Set(d, 1.0f), above));
  const auto centre = hn::Add(normal_centre(d, x), hn::Set(d, 0.5f));
  return hn::IfThenElse(hn::Lt(a, hn::Set(d, kNormalSplit)), centre, tail);
}

/// erf(x), absolute error below 1e-7.
template <class D>
HWY_INLINE hn::Vec<D> Erf(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1.0f), square = hn::Mul(x, x), a = hn::Abs(x);
  const auto above =
      normal_tail(d, hn::Mul(a, hn::Set(d, 1.41421356237f)), Exp(d, hn::Neg(square)));
  const auto tail = hn::CopySign(hn::NegMulAdd(hn::Set(d, 2.0f), above, one), x);
  const auto rest = polynomial(d, square, 0.128379166f, -0.37612626f, 0.112835787f, -0.0268533472f,
                               0.0051871622f, -0.00079978531f, 7.80690316e-05f);
  return hn::IfThenElse(hn::Lt(a, one), hn::MulAdd(x, rest, x), tail);
}

// ---- tanh and the logistic function ------------------------------------------------------------
/// s = 1 / (1 + e^-x) and its slope s (1 - s), both accurate relative to themselves: neither is
/// taken as a difference from 1.
template <class D>
struct Logistic {
  hn::Vec<D> value, slope;
};
template <class D>
HWY_INLINE Logistic<D> logistic(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1.0f);
  const auto e = Exp(d, hn::Neg(hn::Abs(x)));
  const auto larger = hn::Div(one, hn::Add(one, e)), smaller = hn::Mul(e, larger);
  return {hn::IfThenElse(hn::Lt(x, hn::Zero(d)), smaller, larger), hn::Mul(smaller, larger)};
}

/// tanh(x), relative error below 3e-7.
template <class D>
HWY_INLINE hn::Vec<D> Tanh(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1.0f), two = hn::Set(d, 2.0f);
  const auto a = hn::Abs(x), square = hn::Mul(a, a);
  const auto rest = polynomial(d, square, -0.333333284f, 0.133327141f, -0.0538426153f, 0.020958418f,
                               -0.00604109326f);
  const auto near_zero = hn::MulAdd(hn::Mul(square, rest), a, a);
  const auto far = hn::Sub(one, hn::Div(two, hn::Add(Exp(d, hn::Mul(two, a)), one)));
  return hn::CopySign(hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.625f)), near_zero, far), x);
}

}  // namespace minibert::MB_SIMD_NAMESPACE
