// step_rules.h: section 6 of the step chapter: its rules for one thread, each on one screen. Host
// code and CUDA kernels call the same functions, so there is no second, fast version to compare
// with: tests hold them to torch.amp.GradScaler and to formulas. Called by step.cpp.
#pragma once

#include <math.h>

#include "core/kernels/step.h"
#include "core/portable.h"

namespace minibert {

MB_INLINE void begin_step(const StepBeginArgs& args) {
  StepState& s = *args.state;
  const int64_t rows = args.masked_rows > 1 ? args.masked_rows : 1;
  s.data_step = args.data_step;
  s.mlm_scale = s.loss_scale / static_cast<float>(rows);
  s.nsp_scale = args.sequences > 0 ? s.loss_scale / static_cast<float>(args.sequences) : 0.0f;
  s.mlm = s.nsp = LossCounts{};
}

MB_INLINE void decide_step(const StepControlArgs& args) {
  StepState& s = *args.state;
  double squares = 0;
  int32_t bad_tensor = -1;  // a local: a store to the state would hold up the loads that follow it
  for (int32_t k = 0; k < args.tensors; ++k) {
    const double square_sum = args.square_sums[k];
    squares += square_sum;
    if (!isfinite(square_sum)) bad_tensor = k;
  }
  s.bad_tensor = bad_tensor;
  const double scale = s.loss_scale;
  s.grad_norm = sqrt(squares) / scale;
  const bool finite = bad_tensor < 0;
  const bool clips = finite && args.max_grad_norm > 0 && s.grad_norm > args.max_grad_norm;
  const double clip = clips ? 1 / (s.grad_norm / args.max_grad_norm) : 1.0;
  s.gradient_scale = static_cast<float>(clip / scale);
  const bool is_over = s.applied_steps >= args.max_steps;
  s.applied = finite && !is_over ? 1 : 0;
  if (is_over) return;
  const StepRates& rates = args.rates[s.applied_steps];
  s.learning_rate = rates.learning_rate;
  s.m_correction = rates.m_correction;
  s.v_correction = rates.v_correction;
  s.step_correction = rates.step_correction;
}

/// What torch's _amp_update_scale_ does where no element was infinite or NaN.
MB_INLINE void grow_scale(const LossScaling& scaling, StepState& s) {
  if (++s.clean_steps < scaling.growth_interval) return;
  const float grown = static_cast<float>(s.loss_scale * scaling.growth);
  if (isfinite(grown)) s.loss_scale = grown;
  s.clean_steps = 0;
}

/// And where one was; torch has no floor.
MB_INLINE void back_off_scale(const LossScaling& scaling, StepState& s) {
  if (s.loss_scale <= scaling.floor) ++s.skips_at_floor;
  const float less = static_cast<float>(s.loss_scale * scaling.backoff);
  s.loss_scale = less > scaling.floor ? less : scaling.floor;
  s.clean_steps = 0;
}

MB_INLINE void finish_step(const StepControlArgs& args) {
  StepState& s = *args.state;
  if (s.applied_steps >= args.max_steps) return;
  if (s.applied != 0) {
    ++s.applied_steps;
    s.skips_in_a_row = s.skips_at_floor = 0;
    s.scale_was_stable = 1;
    if (args.scaling.enabled) grow_scale(args.scaling, s);
  } else {
    ++s.skipped_steps;
    ++s.skips_in_a_row;
    if (args.scaling.enabled) back_off_scale(args.scaling, s);
  }
}

}  // namespace minibert
