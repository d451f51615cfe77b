// step_state.h: what a training step reads and writes besides tensors, in the device's memory.
// One struct for each model: the step's number and scales, its losses' counts, what the optimizer
// decided. Kernels get pointers to its fields, so a step, once started, needs no answer from the
// host, and a captured graph replays with new values. Written by the chapter step (kernels/step.h)
// and, the counts, by cross_entropy; read by the kernels of dropout, losses and optimizer, and read
// back by models/training/train_step.h after the step. Easy to break: a skipped step advances
// data_step alone; applied_steps feeds schedule and bias correction.
// Test: ctest -R core_kernels_step.
#pragma once

#include <stdint.h>

namespace minibert {

/// What a loss counts, unscaled.
struct LossCounts {
  double loss_sum = 0;  // sum of row losses
  int64_t rows = 0;     // rows with a label
  int64_t correct = 0;
};

/// Where a loss reads its scale and adds what it counted; both in the device's memory.
struct LossSite {
  const float* scale = nullptr;  // of the sum over rows
  LossCounts* counts = nullptr;  // null: nothing is counted
};

struct StepState {
  // ---- Of this step: set by step_begin
  uint32_t data_step = 0;  // from 0; dropout's counter reads it
  float mlm_scale = 0;     // loss_scale / masked rows of the whole step
  float nsp_scale = 0;     // loss_scale / sequences of the whole step; 0: no NSP
  LossCounts mlm, nsp;     // sums over the step's micro-batches

  // ---- The optimizer's decision on this step
  double grad_norm = 0;      // global, unscaled, before clipping; NaN or infinity if not finite
  float gradient_scale = 1;  // what gradients are multiplied with: clip factor / loss scale
  float learning_rate = 0;   // of this step, if it is applied
  float m_correction = 1, v_correction = 1;  // Adam's bias corrections of this step, of the moments
  float step_correction = 1;                 // or of the step's size
  uint32_t applied = 0;                      // 1: this step changed the weights
  int32_t bad_tensor = -1;  // last tensor (in the arena's order) with a gradient that is not
                            // finite; backward starts at the end, so it is the first that went bad

  // ---- Kept from step to step
  int64_t applied_steps = 0;  // steps that changed the weights
  int64_t skipped_steps = 0;  // steps that found a gradient not finite
  float loss_scale = 1;
  int32_t clean_steps = 0;  // applied since the scale last changed
  int32_t skips_in_a_row = 0;
  int32_t skips_at_floor = 0;     // the last ones of them, taken with the scale at its floor
  uint32_t scale_was_stable = 0;  // 1: a step has been applied under this scaler
};

}  // namespace minibert
