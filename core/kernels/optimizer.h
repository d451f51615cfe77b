// optimizer.h: the optimizer step over all tensors of an arena: two passes over memory where a trust
// ratio needs the update's norm (LAMB), one elsewhere (AdamW), and the gradients' square sums. Every
// optimizer is this one update under an UpdateRule. Called by optim/optimizer.cpp once a global step,
// around step_decide (step.h), whose results in the StepState steer it. Easy to get wrong: 1 - beta is
// computed in double; an element outside every tensor's range (gaps, vocabulary padding) is neither
// read nor written; a skipped step writes nothing at all.
// Sources: arXiv 1904.00962 algorithms 1 (LARS) and 2 (LAMB, v5), arXiv 1711.05101 (AdamW), arXiv
// 2006.13484 algorithm 2 (LANS). Test: ctest -R core_kernels_optimizer. Its share of a training step:
// minibert bench step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <math.h>

#include "core/operand.h"
#include "core/profile.h"
#include "core/step_state.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   for each element      g' = g c     c: state.gradient_scale, or the tensor's gradient_scales
//   adam                  m = b1 m + a g'     v = b2 v + (1 - b2) g'^2     a = 1 - b1, or 1
//                         r = (m cm) / (sqrt(v cv) + eps)     or / sqrt(v cv + eps)
//                         u = r + decay w
//   lans                  as adam, and q = g' / (sqrt(v cv) + eps) + decay w; g' has the norm 1
//   momentum              d = g' + decay w     m = b1 m + a d     u = m, or b1 m + a d (Nesterov)
//   ratio                 T(x) = phi(|w|) k / x within [least, most]; 1 where phi(|w|) or x is 0
//                         |.| the L2 norm over one tensor; phi: |w| within bounds
//     of none             1
//     of update           T(|u|)              lans: T(|u|) and T(|q|)
//     of gradient         T(|g'| + decay |w| + eps)
//   weights               w -= s ratio u      s = learning rate, times the step's correction
//     lans                w -= s (b1 T(|u|) u + a T(|q|) q)
//     decay first         w = w (1 - lr decay) - s r            PyTorch's AdamW
//     rate in momentum    m = b1 m + s ratio a d     w -= u     so each gradient keeps its step's rate
//   No bias correction is cm = cv = 1; of moments cm = 1 / (1 - b1^t), cv = 1 / (1 - b2^t).
//   w is the master; the working copy is w rounded to E, in the same pass.
//   Unless state.applied, no call but the square sums' does anything.
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   masters gradients first_moment second_moment   [size] f32, flat buffers of one arena;
//             momentum has no second_moment
//   working   [size] E (f32, bf16, f16); for f32 the masters themselves
//   tensors   ranges [offset, offset + count) in ascending order; count may be 0
//   pieces    tensors cut at the borders of chunks: element k * kOptimizerChunk of the buffers is
//             the first of chunk k, whatever tensor lies there
// ---- 3. Cost ------------------------------------------------------------------------------------
//   bound by memory, bytes a weight:      adam                        lans   momentum
//     optimizer_moments                   24 (w g m v -> m v)         24     16 (w g m -> m)
//     optimizer_apply                     16 (w m v -> w)             20     12 (w m -> w)
//     optimizer_step                      28 (w g m v -> w m v)       -      20 (w g m -> w m)
//     optimizer_norms 8 (w g); square sums 4; a working copy of its own: 2 more.
//   About 15 FLOP a weight and pass.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Element arithmetic in f32. Squares are summed in double: f32 would overflow at 1e19 and lose an
//   embedding's norm. Each piece has its own sum; a tensor's pieces are added in order. A piece
//   depends on the arena's layout alone, so threads do not change bits, nor do ranks that share the
//   buffers out at chunk borders and exchange piece sums. Instruction sets differ in the last bit
//   (fused multiply-add, number of lanes). CUDA: moments, and weights without a ratio, have the bits
//   of the instruction sets that fuse. A piece is summed in another order than on the CPU, so norms,
//   and through the ratio weights, agree with the CPU's only to within rounding.
//
// ---- 5. Interface ------------------------------------------------------------------------------
inline constexpr int64_t kOptimizerChunk = 16384;  // elements: 64 KiB in each of four buffers

/// What differs from tensor to tensor. Offsets in elements of the flat buffers; only `count`
/// leading elements take part.
struct OptimizerTensor {
  int64_t offset = 0, count = 0;
  float decay = 0;                      // weight decay
  bool adapt = true;                    // has a trust ratio; false: 1
  int32_t first_piece = 0, pieces = 0;  // set by cut_into_pieces
};
/// A tensor's share of one chunk.
struct OptimizerPiece {
  int64_t offset = 0;
  int32_t count = 0, tensor = 0;
};
/// All pieces of all tensors, in order; tells each tensor where its own are.
/// Errors  UsageError for a range outside [0, size) or one that starts before its predecessor ends.
std::vector<OptimizerPiece> cut_into_pieces(std::span<OptimizerTensor> tensors, int64_t size);

/// Both tables in the device's memory.
struct OptimizerTables {
  const OptimizerTensor* tensors = nullptr;
  const OptimizerPiece* pieces = nullptr;
  int32_t tensor_count = 0, piece_count = 0;
};
/// The pieces that a call works on: all of them, or a rank's share.
struct PieceRange {
  int32_t first = 0, count = 0;
  int64_t elements = 0;  // in these pieces
};
/// Pieces first .. end - 1.
PieceRange piece_range(std::span<const OptimizerPiece> pieces, size_t first, size_t end);

// ---- Square sums: of gradients, for step_decide; of weights ------------------------------------
struct SquareSumsArgs {
  Operand x;  // [size] f32
  OptimizerTables tables;
  PieceRange range = {};
  double* piece_sums = nullptr;   // [piece_count]
  double* tensor_sums = nullptr;  // [tensor_count]
};
/// piece_sums of the range: NaN or infinite exactly if an element is.
/// Errors  UsageError unless x is f32 of rank 1.
void piece_square_sums(const SquareSumsArgs& args);
/// tensor_sums from all piece_sums, in order.
void tensor_square_sums(const SquareSumsArgs& args);

// ---- The rule ----------------------------------------------------------------------------------
enum class Direction : uint8_t { adam, lans, momentum };
/// What a trust ratio divides the weight's norm by.
enum class RatioOf : uint8_t { none, update, gradient };

/// How a tensor's norms become its trust ratio.
struct TrustRule {
  double weight_norm_min = 0, weight_norm_max = 0;  // phi's bounds; a maximum of 0: none
  double ratio_min = 0, ratio_max = 0;  // likewise, of a ratio of two norms that are not 0
  double coefficient = 1;               // k
  double eps = 0;                       // added to the divisor; of gradient alone
};

/// Section 1 as data.
struct UpdateRule {
  Direction direction = Direction::adam;
  double beta1 = 0.9, beta2 = 0.999;  // double: 1 - 0.999f is 1.3e-5 away from 0.001
  float eps = 1e-6f;                  // adam, lans
  bool eps_inside_root = false;       // adam, lans
  bool averages = true;               // a is 1 - b1; false: 1
  bool decay_first = false;           // adam without a ratio: PyTorch's order
  bool nesterov = false;              // momentum, unless its ratio is of the update
  bool rate_in_momentum = false;      // momentum, unless its ratio is of the update
  RatioOf ratio_of = RatioOf::none;
  TrustRule trust = {};
};

MB_INLINE bool has_second_moment(const UpdateRule& rule) {
  return rule.direction != Direction::momentum;
}
/// a, the share of a new gradient in the first moment.
MB_INLINE double gradient_share(const UpdateRule& rule) {
  return rule.averages ? 1 - rule.beta1 : 1.0;
}

// ---- Factors of gradients, by tensor ------------------------------------------------------------
struct GradientScalesArgs {
  OptimizerTables tables;
  Device device = Device::cpu;
  const double* tensor_sums = nullptr;  // [tensor_count], of the gradients as they are: scaled
  const StepState* state = nullptr;
  float max_norm = 0;       // tensors are scaled down to this norm, unscaled
  bool normalize = false;   // to the norm 1, up or down; max_norm is not used then
  float* scales = nullptr;  // [tensor_count]; stays as it is in a skipped step
};
/// What each tensor's gradient is multiplied with, the loss scale's inverse in it.
void gradient_scales(const GradientScalesArgs& args);

MB_INLINE float gradient_scale(const GradientScalesArgs& args, double square_sum) {
  constexpr double kLargest = 3.0e38;  // the inverse of a tiny norm is still a float
  const double norm = sqrt(square_sum), unscaled = norm / args.state->loss_scale;
  if (args.normalize && norm > 0)
    return static_cast<float>(norm * kLargest < 1 ? kLargest : 1 / norm);
  const bool clips = !args.normalize && unscaled > args.max_norm;
  return static_cast<float>((clips ? args.max_norm / unscaled : 1.0) / args.state->loss_scale);
}

// ---- The update --------------------------------------------------------------------------------
struct SquareSums {
  double weight = 0, update = 0;  // update: of what the ratio divides by
  double gradient_update = 0;     // lans: of q
};
/// Norms of one tensor, for the trust ratio and the log.
struct TensorNorms {
  double weight = 0, update = 0;  // L2; weight as it was before the update; update: |u|, or |g'|
  float trust_ratio = 1;
  float gradient_ratio = 1;  // lans: T(|q|)
};
struct OptimizerArgs {
  Operand masters, working;                        // [size] f32; [size] E
  Operand gradients, first_moment, second_moment;  // [size] f32
  OptimizerTables tables;
  PieceRange range;
  SquareSums* piece_sums = nullptr;  // [piece_count]; with a ratio alone
  TensorNorms* norms = nullptr;      // [tensor_count]; likewise; stays as it is in a skipped step
  UpdateRule rule;
  const StepState* state = nullptr;        // applied, gradient_scale, learning_rate, corrections
  const float* gradient_scales = nullptr;  // [tensor_count]; null: state.gradient_scale for all
};
/// A ratio of the update, in three calls: the range's moments, and its piece_sums of |w|^2 and |u|^2;
/// then norms from all piece_sums; then the range's weights, whose update is recomputed from m, v, w.
/// Errors  UsageError for buffers of different sizes or types, a working copy in f32 that is not the
/// masters.
void optimizer_moments(const OptimizerArgs& args);
void optimizer_ratios(const OptimizerArgs& args);
void optimizer_apply(const OptimizerArgs& args);
/// A ratio of the gradient: the range's piece_sums of |w|^2 and |g'|^2, before optimizer_ratios and
/// optimizer_step. Errors as optimizer_moments.
void optimizer_norms(const OptimizerArgs& args);
/// Moments and weights in one call: without a ratio, or with one of the gradient in norms; not lans.
/// Errors as optimizer_moments.
void optimizer_step(const OptimizerArgs& args);

MB_INLINE double bounded(double x, float least, float most) {
  if (most > 0 && x > most) return most;
  return x < least ? least : x;
}

/// T of section 1 for a tensor; `divisor` is |u|, |q| or |g'|.
MB_INLINE float trust_ratio(const UpdateRule& rule, const OptimizerTensor& tensor,
                            double weight_norm, double divisor) {
  const TrustRule& trust = rule.trust;
  const double weight = bounded(weight_norm, trust.weight_norm_min, trust.weight_norm_max);
  if (!tensor.adapt || weight == 0 || divisor == 0) return 1;
  if (rule.ratio_of == RatioOf::gradient) divisor += tensor.decay * weight_norm + trust.eps;
  return static_cast<float>(
      bounded(trust.coefficient * weight / divisor, trust.ratio_min, trust.ratio_max));
}

/// Norms and ratios of a tensor from its sums.
MB_INLINE TensorNorms norms_of(const UpdateRule& rule, const OptimizerTensor& tensor,
                               const SquareSums& sums) {
  TensorNorms norms;
  norms.weight = sqrt(sums.weight);
  norms.update = sqrt(sums.update);
  norms.trust_ratio = trust_ratio(rule, tensor, norms.weight, norms.update);
  if (rule.direction == Direction::lans)
    norms.gradient_ratio = trust_ratio(rule, tensor, norms.weight, sqrt(sums.gradient_update));
  return norms;
}

/// What a tensor's elements are multiplied with: worked out once a piece, by CPU and CUDA alike.
struct PieceFactors {
  float c;              // of the gradient
  float share;          // a; with the rate in the momentum, times s ratio
  float step;           // s ratio; lans: s T(|u|) b1; with the rate in the momentum: 1
  float gradient_step;  // lans: s T(|q|) a
  float keep;           // of the weight: 1 - lr decay where decay comes first, else 1
};
/// `c` as section 1's; `norms` of the tensor where they hold the ratios of this step, else null.
MB_INLINE PieceFactors piece_factors(const UpdateRule& rule, const StepState& state,
                                     const OptimizerTensor& tensor, float c,
                                     const TensorNorms* norms) {
  const float a = static_cast<float>(gradient_share(rule));
  const float s = state.learning_rate * state.step_correction;
  PieceFactors f{c, a, norms ? s * norms->trust_ratio : s, 0, 1};
  if (rule.direction == Direction::lans) {
    f.step *= static_cast<float>(rule.beta1);
    f.gradient_step = (norms ? s * norms->gradient_ratio : s) * a;
  }
  if (rule.rate_in_momentum) {
    f.share = a * f.step;
    f.step = 1;
  }
  if (rule.decay_first)
    f.keep = static_cast<float>(1 - static_cast<double>(state.learning_rate) * tensor.decay);
  return f;
}

// References know neither pieces nor ranges: whole tensors, in double.
void square_sums_reference(const SquareSumsArgs& args);  // tensor_sums
void optimizer_reference(const OptimizerArgs& args);     // all calls that the rule needs

Cost piece_square_sums_cost(const SquareSumsArgs& args);
Cost tensor_square_sums_cost(const SquareSumsArgs& args);
Cost gradient_scales_cost(const GradientScalesArgs& args);
Cost optimizer_norms_cost(const OptimizerArgs& args);
Cost optimizer_moments_cost(const OptimizerArgs& args);
Cost optimizer_ratios_cost(const OptimizerArgs& args);
Cost optimizer_apply_cost(const OptimizerArgs& args);
Cost optimizer_step_cost(const OptimizerArgs& args);

void piece_square_sums_cuda(const SquareSumsArgs& args, Stream stream);
void tensor_square_sums_cuda(const SquareSumsArgs& args, Stream stream);
void gradient_scales_cuda(const GradientScalesArgs& args, Stream stream);
void optimizer_norms_cuda(const OptimizerArgs& args, Stream stream);
void optimizer_moments_cuda(const OptimizerArgs& args, Stream stream);
void optimizer_ratios_cuda(const OptimizerArgs& args, Stream stream);
void optimizer_apply_cuda(const OptimizerArgs& args, Stream stream);
void optimizer_step_cuda(const OptimizerArgs& args, Stream stream);
/// Rung 1 .. kOptimizerRungs of optimizer.cu, the last of which optimizer_moments_cuda and
/// optimizer_apply_cuda run; for tests.
inline constexpr int kOptimizerRungs = 3;
void optimizer_moments_cuda_rung(const OptimizerArgs& args, Stream stream, int rung);
void optimizer_apply_cuda_rung(const OptimizerArgs& args, Stream stream, int rung);

}  // namespace minibert
