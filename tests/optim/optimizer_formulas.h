// optimizer_formulas.h: the published optimizers as plain loops in double, a function each, written
// from the papers and from the code that the table of docs/optimizers.md names: what the tests hold
// the rows of kVariants to. No code of minibert is called, and rows share nothing but Adam's
// moments and norms.
#pragma once

#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace minibert::testing {

using Vector = std::vector<double>;

inline double norm(const Vector& x) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  return std::sqrt(squares);
}

/// One tensor between steps, and the settings of a run.
struct FormulaTensor {
  Vector w, m, v;
  bool decays = true;  // false: named by no_decay
};
struct FormulaStep {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, decay = 0.01;
  int t = 1;  // counts from 1
};
/// One step of a tensor with its (already clipped) gradient.
using Formula = std::function<void(FormulaTensor&, const Vector& g, const FormulaStep&)>;

namespace formulas {

inline double ratio_or_one(double above, double below) {
  return above > 0 && below > 0 ? above / below : 1;
}

inline void adam_moments(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  for (size_t i = 0; i < g.size(); ++i) {
    x.m[i] = s.beta1 * x.m[i] + (1 - s.beta1) * g[i];
    x.v[i] = s.beta2 * x.v[i] + (1 - s.beta2) * g[i] * g[i];
  }
}

/// m^ / (sqrt(v^) + eps).
inline Vector corrected_direction(const FormulaTensor& x, const FormulaStep& s, double eps) {
  Vector r(x.w.size());
  for (size_t i = 0; i < r.size(); ++i) {
    const double m_hat = x.m[i] / (1 - std::pow(s.beta1, s.t));
    const double v_hat = x.v[i] / (1 - std::pow(s.beta2, s.t));
    r[i] = m_hat / (std::sqrt(v_hat) + eps);
  }
  return r;
}
/// m / (sqrt(v) + eps).
inline Vector plain_direction(const FormulaTensor& x, double eps) {
  Vector r(x.w.size());
  for (size_t i = 0; i < r.size(); ++i) r[i] = x.m[i] / (std::sqrt(x.v[i]) + eps);
  return r;
}
inline Vector with_decay(Vector r, const FormulaTensor& x, double decay) {
  for (size_t i = 0; i < r.size(); ++i) r[i] += decay * x.w[i];
  return r;
}
inline void move(FormulaTensor& x, double step, const Vector& u) {
  for (size_t i = 0; i < u.size(); ++i) x.w[i] -= step * u[i];
}
inline double decay_of(const FormulaTensor& x, const FormulaStep& s) {
  return x.decays ? s.decay : 0;
}

// ---- Without a trust ratio ----------------------------------------------------------------------
inline void sgd(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  for (size_t i = 0; i < g.size(); ++i) {
    x.m[i] = s.beta1 * x.m[i] + (g[i] + decay_of(x, s) * x.w[i]);
    x.w[i] -= s.lr * x.m[i];
  }
}
inline void adamw_google(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  adam_moments(x, g, s);
  move(x, s.lr, with_decay(plain_direction(x, 1e-6), x, decay_of(x, s)));
}
inline void adamw(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  adam_moments(x, g, s);
  for (double& w : x.w) w *= 1 - s.lr * decay_of(x, s);
  move(x, s.lr, corrected_direction(x, s, 1e-8));
}

// ---- LARS ---------------------------------------------------------------------------------------
inline void lars(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  for (size_t i = 0; i < g.size(); ++i)
    x.m[i] = s.beta1 * x.m[i] + (1 - s.beta1) * (g[i] + decay_of(x, s) * x.w[i]);
  move(x, s.lr * ratio_or_one(norm(x.w), norm(x.m)), x.m);
}
/// The velocity of the source is minus m.
inline void lars_mlperf(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  const double w_norm = norm(x.w), g_norm = norm(g);
  double ratio = 1;
  if (x.decays && w_norm > 0 && g_norm > 0) ratio = 0.001 * w_norm / (g_norm + s.decay * w_norm);
  for (size_t i = 0; i < g.size(); ++i)
    x.m[i] = s.beta1 * x.m[i] + s.lr * ratio * (g[i] + decay_of(x, s) * x.w[i]);
  move(x, 1, x.m);
}

// ---- LAMB ---------------------------------------------------------------------------------------
inline void lamb_v3(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  adam_moments(x, g, s);
  const Vector u = with_decay(plain_direction(x, 1e-6), x, decay_of(x, s));
  move(x, s.lr * (x.decays ? ratio_or_one(norm(x.w), norm(u)) : 1), u);
}
inline void lamb(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  adam_moments(x, g, s);
  const Vector u = with_decay(corrected_direction(x, s, 1e-6), x, decay_of(x, s));
  move(x, s.lr * (x.decays ? ratio_or_one(norm(x.w), norm(u)) : 1), u);
}
inline void lamb_apex(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  adam_moments(x, g, s);
  const Vector u = with_decay(corrected_direction(x, s, 1e-6), x, decay_of(x, s));
  move(x, s.lr * (decay_of(x, s) != 0 ? ratio_or_one(norm(x.w), norm(u)) : 1), u);
}
inline void nvlamb(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  adam_moments(x, g, s);
  const Vector u = with_decay(corrected_direction(x, s, 1e-6), x, decay_of(x, s));
  move(x, s.lr * ratio_or_one(norm(x.w), norm(u)), u);
}
inline void lamb_deepspeed(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  adam_moments(x, g, s);
  const Vector u = with_decay(plain_direction(x, 1e-8), x, decay_of(x, s));
  const double w_norm = norm(x.w), u_norm = norm(u);
  double coefficient = 1;
  if (w_norm != 0 && u_norm != 0) {
    coefficient = w_norm / u_norm;
    if (coefficient > 10) coefficient = 10;
    if (coefficient < 0.01) coefficient = 0.01;
  }
  const double correction = std::sqrt(1 - std::pow(s.beta2, s.t)) / (1 - std::pow(s.beta1, s.t));
  move(x, s.lr * correction * coefficient, u);
}
inline void lamb_clamped(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  adam_moments(x, g, s);
  const Vector u = with_decay(plain_direction(x, 1e-6), x, decay_of(x, s));
  move(x, s.lr * ratio_or_one(std::min(norm(x.w), 10.0), norm(u)), u);
}
inline void lans(FormulaTensor& x, const Vector& g, const FormulaStep& s) {
  Vector unit = g;
  if (norm(g) > 0)
    for (double& value : unit) value /= norm(g);
  adam_moments(x, unit, s);
  const Vector u = with_decay(corrected_direction(x, s, 1e-6), x, decay_of(x, s));
  Vector q(unit.size());
  for (size_t i = 0; i < q.size(); ++i)
    q[i] = unit[i] / (std::sqrt(x.v[i] / (1 - std::pow(s.beta2, s.t))) + 1e-6) +
           decay_of(x, s) * x.w[i];
  const double w_norm = norm(x.w);
  const double of_u = ratio_or_one(w_norm, norm(u)), of_q = ratio_or_one(w_norm, norm(q));
  move(x, s.lr * s.beta1 * of_u, u);
  move(x, s.lr * (1 - s.beta1) * of_q, q);
}

}  // namespace formulas

struct PublishedOptimizer {
  Formula step;
  bool clips = true;  // all gradients to max_grad_norm, together
};
inline const std::map<std::string, PublishedOptimizer>& published_optimizers() {
  static const std::map<std::string, PublishedOptimizer> rows{
      {"sgd", {formulas::sgd}},
      {"adamw-google", {formulas::adamw_google}},
      {"adamw", {formulas::adamw}},
      {"lars", {formulas::lars, false}},
      {"lars-mlperf", {formulas::lars_mlperf, false}},
      {"lamb-v3", {formulas::lamb_v3}},
      {"lamb", {formulas::lamb}},
      {"lamb-mlperf", {formulas::lamb}},
      {"lamb-apex", {formulas::lamb_apex}},
      {"nvlamb", {formulas::nvlamb}},
      {"lamb-deepspeed", {formulas::lamb_deepspeed, false}},
      {"lamb-clamped", {formulas::lamb_clamped, false}},
      {"lans", {formulas::lans, false}},
  };
  return rows;
}

}  // namespace minibert::testing
