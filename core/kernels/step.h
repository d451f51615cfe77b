// step.h: the scalars of a training step, computed where the step runs: loss scales, the decision
// to apply or skip it, and what is kept from step to step, all in a StepState.
// Called by models/training (step_begin, before the first micro-batch) and by optim/optimizer.cpp
// (step_decide before the update, step_finish after it). The host reads the state once the step is
// over. Easy to break: data_step and the counts of step_begin are arguments, so it is queued in
// front of a captured graph, never inside; a skipped step advances neither applied_steps nor what is
// looked up by it. Source of the scale's rules: torch.amp.GradScaler. Test: ctest -R kernels_step.
#pragma once

#include "core/operand.h"
#include "core/profile.h"
#include "core/step_state.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   begin    mlm_scale = loss_scale / max(1, masked rows)     nsp_scale = loss_scale / sequences, or 0
//   decide   |g| = sqrt(sum of the tensors' square sums) / loss_scale
//            clip = 1 / max(1, |g| / max_grad_norm)           gradient_scale = clip / loss_scale
//            applied = every sum is finite and applied_steps < max_steps
//            learning rate and bias corrections: row `applied_steps` of a table
//   finish   applied: ++applied_steps, ++clean_steps; at growth_interval clean steps
//                     loss_scale *= growth unless that is infinite, and clean_steps = 0
//            a sum not finite: ++skipped_steps, clean_steps = 0,
//                     loss_scale = max(floor, loss_scale * backoff)
//            applied_steps = max_steps: nothing
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   square_sums [tensors] double, in the arena's order; rates [max_steps]; all in device memory
// ---- 3. Cost ------------------------------------------------------------------------------------
//   One thread; 8 bytes a tensor.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Sums in double, in order. The host makes the table once, and CPU and CUDA call the same rules
//   (step_rules.h), so everything here has the same bits on every device. growth and backoff are
//   doubles, and the product is rounded to float once, as torch does it.
// ---- 5. Interface -------------------------------------------------------------------------------

/// Dynamic loss scaling. Defaults are torch.amp.GradScaler's; floor and max_skips are ours and are
/// explained in optim/loss_scaler.h, which also checks the values.
struct LossScaling {
  bool enabled = false;  // false: the scale stays as it is (1)
  float initial = 65536;
  double growth = 2, backoff = 0.5;
  int32_t growth_interval = 2000;  // applied steps
  float floor = 1;
  int32_t max_skips = 10;  // in a row; read by the host alone
};

/// What a step uses when `row` steps have been applied before it.
struct StepRates {
  float learning_rate = 0;
  float m_correction = 1, v_correction = 1;  // 1 / (1 - beta^(row + 1)), or 1
  float step_correction = 1;  // sqrt(1 - beta2^(row + 1)) / (1 - beta1^(row + 1)), or 1
};

struct StepBeginArgs {
  StepState* state = nullptr;  // in the memory of `device`
  Device device = Device::cpu;
  uint32_t data_step = 0;
  int64_t masked_rows = 0;  // of the whole global step
  int64_t sequences = 0;    // likewise; 0: no NSP
};
/// Sets data_step and the scales of the two losses, and zeroes the counts.
void step_begin(const StepBeginArgs& args);

/// The same for every step of a run.
struct StepControlArgs {
  StepState* state = nullptr;  // this and the tables are in the memory of `device`
  Device device = Device::cpu;
  int32_t tensors = 0;
  const double* square_sums = nullptr;  // [tensors], of the gradients as they are: scaled
  int64_t max_steps = 0;
  const StepRates* rates = nullptr;  // [max_steps]
  float max_grad_norm = 0;           // 0: no clipping
  LossScaling scaling;
};
/// Fills the optimizer's decision in the state: before the update.
void step_decide(const StepControlArgs& args);
/// Advances the counters and the loss scale: after the update.
void step_finish(const StepControlArgs& args);

Cost step_control_cost(const StepControlArgs& args);
void step_begin_cuda(const StepBeginArgs& args, Stream stream);
void step_decide_cuda(const StepControlArgs& args, Stream stream);
void step_finish_cuda(const StepControlArgs& args, Stream stream);

}  // namespace minibert
