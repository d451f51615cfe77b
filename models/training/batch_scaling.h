// batch_scaling.h: from one batch size at which learning rate, warm-up and steps are known to another
// batch size. Called by ConfigBuilder::finish() for the run and each phase, and by the plan's printout.
// Easy to break: the warm-up's share grows with the batch while the steps shrink with it, so the
// warm-up keeps its number of steps, and its epochs grow with the batch. Source: arXiv 1904.00962,
// sec. 4.3 (square-root scaling, linear-epoch warm-up). Test: ctest -R training_batch_scaling.
#pragma once

#include <cstdint>
#include <string>

#include "models/training/config.h"

namespace minibert {

struct BatchScaledSettings {
  double learning_rate = 0;
  double warmup = 0;  // as optim.warmup: below 1 a share of the steps, else whole steps
  int64_t steps = 0;  // 0: the reference has none
};

/// What the rule says for `config.global_batch_size` by the reference_ settings of `config`:
///   f = batch / reference batch;  learning rate = reference * sqrt(f);
///   warm-up share = reference share * f;  steps = reference steps / f, rounded.
/// Errors: UsageError without a reference batch and rate, or for a warm-up longer than the run.
BatchScaledSettings scaled_settings(const TrainConfig& config);

/// "batch scaling: sqrt from batch 64, learning rate 0.01, ..., to batch 256: learning rate 0.02, ...;
/// given instead: ..." if settings were given that the rule would derive. "" without batch scaling.
std::string describe_scaling(const TrainConfig& config);

}  // namespace minibert
