// optimizer.h: multi-tensor optimizer step over an arena: two passes over memory for LAMB, one for
// AdamW, and the norms of all gradients. Called by optim/optimizer.cpp once a global step.
// Easy to get wrong: eps is added outside the root; 1 - beta is computed in double; an element
// outside every tensor's range (gaps, vocabulary padding) is neither read nor written.
// Sources: arXiv 1904.00962 algorithm 2 (LAMB, v5), arXiv 1711.05101 (AdamW).
// Test: ctest -R core_kernels_optimizer. Its share of a training step: minibert bench step.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   for each element      g' = g c     m = b1 m + (1 - b1) g'     v = b2 v + (1 - b2) g'^2
//                         r = (m cm) / (sqrt(v cv) + eps)
//                         c is the clip factor, cm and cv the bias correction
//   AdamW, Google's       w -= lr (r + decay w)
//   AdamW, PyTorch's      w = w (1 - lr decay) - lr r     equal to Google's but for rounding
//   LAMB                  u = r + decay w     ratio = |w| / |u|   (1 where |w| or |u| is 0)
//                         w -= lr ratio u     |.| the L2 norm over one tensor; phi is the identity
//   No bias correction is cm = cv = 1; bias correction cm = 1 / (1 - b1^t), cv = 1 / (1 - b2^t).
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   weights gradients first_moment second_moment   [size] f32, flat buffers of one arena
//   tensors   ranges [offset, offset + count) that don't overlap, in any order; count may be 0
//   norms     one a tensor, in double
// ---- 3. Cost ------------------------------------------------------------------------------------
//   bound by memory:  AdamW 28 bytes a weight (reads w g m v, writes w m v);
//   LAMB 24 (reads w g m v, writes m v) and 16 (reads w m v, writes w): 40;
//   tensor_norms 4. About 15 FLOP a weight and pass.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Element arithmetic in f32. Squares are summed in double: f32 would overflow at 1e19 and lose an
//   embedding's norm. A tensor is cut into chunks of kOptimizerChunk elements from its first on,
//   chunk sums are added in order: same bits for every thread count. Instruction sets differ in the
//   last bit (fused multiply-add, number of lanes).
//   NaN and infinity are not looked for here: tensor_norms shows them before the step.
//
// ---- 5. Interface ------------------------------------------------------------------------------
inline constexpr int64_t kOptimizerChunk = 16384;  // elements: 64 KiB in each of four buffers

/// Coefficients of the Adam direction, the same for all tensors of a step:
///   g' = g * gradient_scale;  m = beta1 m + (1 - beta1) g';  v = beta2 v + (1 - beta2) g'^2
///   direction = (m * m_correction) / (sqrt(v * v_correction) + eps) [+ decay w]
struct AdamCoefficients {
  double beta1 = 0.9, beta2 = 0.999;  // double: 1 - 0.999f is 1.3e-5 away from 0.001
  float eps = 1e-6f;
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
  double weight = 0, update = 0;  // L2; weight as it was before the update
  float trust_ratio = 1;
};

struct OptimizerStepArgs {
  Tensor weights, gradients, first_moment, second_moment;  // [size] f32 each
  std::vector<OptimizerTensor> tensors;
  AdamCoefficients adam;
  float learning_rate = 0;
};

/// LAMB: first pass updates m, v and sums |w|^2 and |update|^2 in fixed chunks; second pass
/// recomputes the update from m, v, w and applies w -= lr * ratio * update; ratio = 1 where a norm
/// is 0. Writes one TensorNorms a tensor.
/// Errors  UsageError for buffers of different sizes, another type than f32, ranges outside them.
void lamb_step(const OptimizerStepArgs& args, std::vector<TensorNorms>& norms, Stream stream = {});
/// AdamW with decay inside the update (Google's): w -= lr * (direction + decay w); `decay_first` =
/// PyTorch's order, w *= 1 - lr * decay before the direction. Errors as lamb_step.
void adamw_step(const OptimizerStepArgs& args, bool decay_first, Stream stream = {});
/// L2 norm of each tensor's range in a flat buffer (gradients, weights), in double: NaN or infinite
/// exactly if an element is.
std::vector<double> tensor_norms(const Tensor& buffer, const std::vector<OptimizerTensor>& tensors,
                                 Stream stream = {});
void lamb_step_reference(const OptimizerStepArgs& args, std::vector<TensorNorms>& norms);
void adamw_step_reference(const OptimizerStepArgs& args, bool decay_first);
std::vector<double> tensor_norms_reference(const Tensor& buffer,
                                           const std::vector<OptimizerTensor>& tensors);

}  // namespace minibert
