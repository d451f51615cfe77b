// compare_curves.h: whether two runs have the same curve: what differs between them, from which step
// on, and whether their MLM losses are farther apart than chance explains. Called by the verb compare.
//
// The common steps are cut into windows. In each, of n steps, with MLM losses x of one run:
//   noise of one step   s^2 = sum over neighbours (x[t+1] - x[t])^2 / (2 (n - 1))
// von Neumann's mean square successive difference: a trend within the window hardly adds to it, and
// chance that is independent from step to step (the batch, its masks, dropout) is all in it. Then
//   difference          d = mean(b) - mean(a)
//   band                z sqrt((s_a^2 + s_b^2) / n) + tolerance * mean(a)
// The first part is how far apart means of n steps lie if only chance differs: z standard deviations.
// The second is for what two runs can't tell about themselves: that runs with other seeds drift apart a
// little, for good. The runs agree if |d| <= band in every window. Runs with the same batches (same
// seed and data) differ by less than the band, which counts the batches' chance twice.
// Easy to break: a step at which one run alone is not finite puts its window outside the band; steps
// at which both are not finite count in no mean and are reported.
// Source: J. von Neumann, Annals of Mathematical Statistics 12 (1941), 367. Test: ctest -R
// compare_curves.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/curves/run_data.h"
#include "models/curves/svg_plot.h"

namespace minibert {

struct CompareOptions {
  double deviations = 4;    // z
  double tolerance = 0.01;  // share of the loss
  int64_t windows = 40;     // at most; each has at least 10 steps, or there is one
};

struct CurveWindow {
  int64_t first = 0, last = 0;  // steps
  int64_t steps = 0;            // at which both are finite
  double a = 0, b = 0;          // mean MLM losses of these steps, nats; NaN if there are none
  double difference = 0;        // b - a
  double band = 0;
  bool outside = false;
};

/// The first common step at which records differ, and in what.
struct DifferingStep {
  int64_t step = 0;
  std::string field, a, b;  // "grad_norm" and its values
};

struct CurveComparison {
  int64_t common_steps = 0;
  bool fine_tuning = false;               // then losses are of labels
  std::optional<DifferingStep> any;       // in whatever depends on more than the machine's speed
  std::optional<int64_t> loss_bits;       // first step whose loss differs at all
  std::optional<int64_t> loss_tolerance;  // first whose loss differs by more than the tolerance
  int64_t not_finite_in_one = 0, not_finite_in_both = 0;  // steps
  std::vector<CurveWindow> windows;

  int64_t outside() const;
  bool agree() const { return outside() == 0; }
};

/// Errors: DataError if the runs have fewer than two steps in common, or only one is of fine-tuning.
CurveComparison compare_curves(const RunData& a, const RunData& b, const CompareOptions& options);

/// The windows' differences between the two edges of the band.
Plot difference_plot(const CurveComparison& comparison);

}  // namespace minibert
