// optimizer.h: multi-tensor optimizer step over an arena: two passes over memory for LAMB, one for
// AdamW. Called by optim/. Sources: arXiv 1904.00962 algorithm 2 (LAMB, v5), arXiv 1711.05101
// (AdamW).
#pragma once

#include <cstdint>
#include <vector>

#include "core/arena.h"
#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
/// Coefficients of the Adam direction, the same for all tensors of a step:
///   g' = g * gradient_scale;  m = beta1 m + (1 - beta1) g';  v = beta2 v + (1 - beta2) g'^2
///   direction = (m * m_correction) / (sqrt(v * v_correction) + eps) [+ decay w]
struct AdamCoefficients {
  float beta1 = 0.9f, beta2 = 0.999f, eps = 1e-6f;
  float m_correction = 1, v_correction = 1;  // 1 / (1 - beta^t), or 1 without bias correction
  float gradient_scale = 1;                  // clip factor (and 1 / loss scale)
};
/// What differs from tensor to tensor. Offsets in elements of the flat buffers; only `count`
/// leading elements take part.
struct OptimizerTensor {
  int64_t offset = 0, count = 0;
  float decay = 0;    // decoupled weight decay
  bool adapt = true;  // LAMB: trust ratio |w| / |update|; false: 1
};
/// Norms of one tensor, for the trust ratio and the log.
struct TensorNorms {
  double weight = 0, update = 0;  // L2
  float trust_ratio = 1;
};

struct OptimizerStepArgs {
  Tensor weights, gradients, first_moment, second_moment;  // [size] f32 each
  std::vector<OptimizerTensor> tensors;
  AdamCoefficients adam;
  float learning_rate = 0;
};

/// LAMB: first pass updates m, v and sums |w|^2 and |update|^2 in fixed chunks; second pass
/// recomputes the update from m, v, w and applies w -= lr * ratio * update. ratio = 1 where a norm
/// is 0 (no eeta). Writes one TensorNorms a tensor.
void lamb_step(const OptimizerStepArgs& args, std::vector<TensorNorms>& norms, Stream stream = {});
/// AdamW with decay inside the update (Google's): w -= lr * (direction + decay w); `decay_first` =
/// PyTorch's order, w *= 1 - lr * decay before the direction.
void adamw_step(const OptimizerStepArgs& args, bool decay_first, Stream stream = {});
void lamb_step_reference(const OptimizerStepArgs& args, std::vector<TensorNorms>& norms);
void adamw_step_reference(const OptimizerStepArgs& args, bool decay_first);

}  // namespace minibert
