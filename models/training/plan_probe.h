// plan_probe.h: what a step takes here, measured: micro-batches of the run's model and data, and
// updates of its optimizer, for some seconds. Called by the verb `plan`. Easy to break: a machine
// that others use too has no one speed, so the median counts, and the spread is reported with it;
// weights and data are read, nothing is written. Test: ctest -R training_plan;
// tools/bench/plan_time compares with whole runs.
#pragma once

#include "models/training/plan.h"

namespace minibert {

/// Seconds, sorted; first ones left out, which meet new sizes.
struct PlanProbe {
  std::vector<double> flop_seconds;    // of a FLOP, one value a micro-batch
  std::vector<double> update_seconds;  // of an update
  /// Of a step of this rank with so many FLOPs: by the medians.
  double step_seconds(double flops) const;
  /// The same by the quartiles: 0.25, 0.75.
  double step_seconds(double flops, double quantile) const;
};

/// Trains on the first micro-batches for about `seconds`, and at least 3 of them. Sums over ranks are
/// not measured. Errors: UsageError if the device is not there; as training.
PlanProbe probe_steps(const PlanRequest& request, const PhaseNeeds& needs, double seconds);

/// Bytes of this process that no tensor has once it trains: program, libraries with what they keep for
/// their products, threads. Trains a step of a small model of the run's type for that. Device cpu
/// alone.
int64_t probe_process_bytes(const PlanRequest& request);

/// Value at this share of sorted ones, 0 to 1, between neighbours where it lies between.
double quantile_of(const std::vector<double>& sorted, double quantile);

}  // namespace minibert
