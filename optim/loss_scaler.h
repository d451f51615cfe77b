// loss_scaler.h: the host's side of dynamic loss scaling: checks the options, says where the scale
// starts, and when a run that skips steps must stop. The scale itself moves on the device
// (core/kernels/step.h). Called by optim/optimizer.cpp, and by models/training once a step is over.
// Easy to break: skipping is normal while the scale is looking for its place, so a count of skips
// alone says nothing. Test: ctest -R optim_loss_scaler.
#pragma once

#include <optional>
#include <string>

#include "core/kernels/step.h"
#include "core/step_state.h"

namespace minibert {

/// Why and when to stop. A skip costs a step's work but no weight is harmed, so a run stops only
/// where another skip can't help:
///   off        at the first gradient that is not finite: nothing will be different next time
///   at the floor   after max_skips skips in a row that were taken with the scale at its floor: a
///              smaller scale was ruled out, so it is not the scale that overflows. The floor is 1:
///              what overflows f16 without any scaling is a diverged model, and a scale below 1
///              would only push small gradients into f16's subnormals
///   stable     after max_skips skips in a row once a step was applied under this scaler: then the
///              scale was right and grows by 2 at most every growth_interval steps, so one or two
///              skips bring it back; ten are a factor of 1,024
/// A start from 2^40 may thus be halved 40 times before its first applied step. max_skips is 10 by
/// default: enough for a burst of bad batches, and ten lost steps are cheap to anyone.
class LossScaler {
 public:
  /// Errors: UsageError for values out of range.
  explicit LossScaler(LossScaling options);

  const LossScaling& options() const { return options_; }
  /// Where the scale of a new run starts: 1 if scaling is off.
  float initial() const { return options_.enabled ? options_.initial : 1.0f; }
  /// The reason to stop, after a step that left `state`; none to go on.
  std::optional<std::string> must_stop(const StepState& state) const;
  /// Every knob on one line, for the log.
  std::string describe() const;

 private:
  LossScaling options_;
};

}  // namespace minibert
