// compare_curves.cpp: steps in common, and windows of them.
#include "models/curves/compare_curves.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "models/training/compare_runs.h"

namespace minibert {
namespace {

using Pair = std::pair<const StepRecord*, const StepRecord*>;

std::vector<Pair> common_records(const RunData& a, const RunData& b) {
  std::vector<Pair> pairs;
  for (auto i = a.records.begin(), k = b.records.begin();
       i != a.records.end() && k != b.records.end();) {
    if (i->step == k->step) pairs.emplace_back(&*i, &*k);
    const int64_t step = std::min(i->step, k->step);
    if (i->step == step) ++i;
    if (k != b.records.end() && k->step == step) ++k;
  }
  return pairs;
}

/// Whether JSON would show the same number: equal, or both NaN.
bool same(double a, double b) {
  return json_number(a) == json_number(b);
}

bool farther_than(double a, double b, double tolerance) {
  return !same(a, b) && !(std::abs(a - b) <= tolerance * std::abs(a));
}

double mean(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value;
  return sum / static_cast<double>(x.size());  // of none: NaN
}

/// s^2 of the header. A single value has none.
double noise(const std::vector<double>& x) {
  if (x.size() < 2) return 0;
  double sum = 0;
  for (size_t i = 1; i < x.size(); ++i) sum += (x[i] - x[i - 1]) * (x[i] - x[i - 1]);
  return sum / (2 * static_cast<double>(x.size() - 1));
}

CurveWindow window_of(const std::vector<Pair>& pairs, size_t begin, size_t end,
                      const CompareOptions& options) {
  CurveWindow window{.first = pairs[begin].first->step, .last = pairs[end - 1].first->step};
  std::vector<double> a, b;
  for (size_t i = begin; i < end; ++i) {
    const double x = pairs[i].first->mlm_loss, y = pairs[i].second->mlm_loss;
    if (std::isfinite(x) != std::isfinite(y)) window.outside = true;
    if (!std::isfinite(x) || !std::isfinite(y)) continue;
    a.push_back(x);
    b.push_back(y);
  }
  window.steps = static_cast<int64_t>(a.size());
  window.a = mean(a);
  window.b = mean(b);
  window.difference = window.b - window.a;
  window.band =
      options.deviations * std::sqrt((noise(a) + noise(b)) / static_cast<double>(a.size())) +
      options.tolerance * std::abs(window.a);
  if (window.steps > 0 && std::abs(window.difference) > window.band) window.outside = true;
  return window;
}

}  // namespace

int64_t CurveComparison::outside() const {
  return std::count_if(windows.begin(), windows.end(),
                       [](const CurveWindow& window) { return window.outside; });
}

CurveComparison compare_curves(const RunData& a, const RunData& b, const CompareOptions& options) {
  MB_CHECK_AS(DataError, a.fine_tuning() == b.fine_tuning(),
              "{} and {}: one is a run of pre-training and the other of fine-tuning, expected two "
              "of a kind: their losses are of different things.",
              a.folder.string(), b.folder.string());
  const std::vector<Pair> pairs = common_records(a, b);
  MB_CHECK_AS(DataError, pairs.size() >= 2,
              "{} and {}: have {} steps in common, expected at least 2. Compare runs that have "
              "recorded the same steps.",
              a.folder.string(), b.folder.string(), pairs.size());
  CurveComparison result;
  result.fine_tuning = a.fine_tuning();
  result.common_steps = static_cast<int64_t>(pairs.size());
  for (const auto& [x, y] : pairs) {
    if (!result.any)
      if (const auto found = field_difference(*x, *y))
        result.any = {x->step, found->field, found->value, found->expected};
    if (!result.loss_bits && !same(x->loss, y->loss)) result.loss_bits = x->step;
    if (!result.loss_tolerance && farther_than(x->loss, y->loss, options.tolerance))
      result.loss_tolerance = x->step;
    const int not_finite = !std::isfinite(x->mlm_loss) + !std::isfinite(y->mlm_loss);
    result.not_finite_in_one += not_finite == 1;
    result.not_finite_in_both += not_finite == 2;
  }
  constexpr size_t kLeastSteps = 10;
  const size_t windows =
      std::clamp<size_t>(pairs.size() / kLeastSteps, 1, static_cast<size_t>(options.windows));
  for (size_t w = 0; w < windows; ++w)
    result.windows.push_back(
        window_of(pairs, w * pairs.size() / windows, (w + 1) * pairs.size() / windows, options));
  return result;
}

Plot difference_plot(const CurveComparison& comparison) {
  PlotLine difference{.label = "b - a", .colour = 3, .style = LineStyle::dots};
  PlotLine upper{.label = "band", .colour = -1, .style = LineStyle::dashed}, lower = upper;
  for (const CurveWindow& window : comparison.windows) {
    const double x = 0.5 * static_cast<double>(window.first + window.last);
    difference.points.push_back({x, window.difference});
    upper.points.push_back({x, window.band});
    lower.points.push_back({x, -window.band});
  }
  return {.title = comparison.fine_tuning ? "Difference of losses" : "Difference of MLM losses",
          .unit = "nats",
          .caption = "Means of windows of steps; outside of the band chance does not explain it.",
          .lines = {std::move(upper), std::move(lower), std::move(difference)}};
}

}  // namespace minibert
