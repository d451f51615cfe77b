// optimizer.h: LAMB and AdamW as rows of one table of policies, and one update loop for all of
// them: norm of the gradient -> finite check -> clip -> update of every tensor of an arena. Called
// by models/training once a global step; calls core/kernels/optimizer.h. A new variant is a row of
// kVariants in optimizer.cpp (and a new kernel only if its arithmetic is new). Easy to break: a
// step with a non-finite gradient touches neither weights, moments nor the applied-step count,
// which alone feeds bias correction and schedules. Sources: arXiv 1904.00962 (LAMB), 1711.05101
// (AdamW), google-research/bert optimization.py. Test: ctest -R optim_optimizer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "core/kernels/optimizer.h"

namespace minibert {

enum class OptimizerKind { lamb, adamw };  // which kernel of core/kernels/optimizer.h

/// What distinguishes the published optimizers. One row each; see kVariants in optimizer.cpp.
struct OptimizerVariant {
  const char* name;      // as in a configuration, "lamb"
  OptimizerKind kind;    // lamb: direction x trust ratio; adamw: direction alone
  bool bias_correction;  // m / (1 - beta1^t) and v / (1 - beta2^t)
  bool adapt_undecayed;  // LAMB: tensors named in no_decay have a trust ratio too (else 1)
  bool decay_first;      // AdamW: w *= 1 - lr * decay before the direction (PyTorch), else inside
  float eps;             // default, added outside the root
  const char* summary;   // one line with the source, for --help and the log
};

/// The table, in order of increasing complexity.
std::span<const OptimizerVariant> optimizer_variants();
/// Errors: UsageError naming the known variants.
const OptimizerVariant& optimizer_variant(const std::string& name);

struct OptimizerOptions {
  std::string name = "lamb";   // a row of optimizer_variants()
  double beta1 = 0.9;          // of the first moment
  double beta2 = 0.999;        // of the second; in double: 1 - 0.999f is 1.3e-5 away from 0.001
  std::optional<float> eps;    // default: the variant's
  float weight_decay = 0.01f;  // of tensors that no_decay does not name
  float max_grad_norm = 1.0f;  // global L2 norm to clip to; 0 = off
  std::vector<std::string> no_decay = {"bias", "LayerNorm"};  // parts of names: no weight decay
};

/// Optimizer over all parameters of an arena: owns both moments, laid out by the arena's table.
///   1. g' = g / max(1, |g| / max_grad_norm), |g| over the used elements of all tensors (as apex)
///   2. t = applied_steps + 1; the variant's update with learning_rate (core/kernels/optimizer.h)
/// Gaps between slices and padding rows are neither read nor written.
class Optimizer {
 public:
  /// Allocates gradients (if absent) and moments. The arena must outlive the optimizer.
  /// Errors  UsageError for an unknown name and for coefficients out of range.
  Optimizer(Arena& arena, OptimizerOptions options);

  struct StepReport {
    double grad_norm = 0;   // before clipping; NaN or infinity if not applied
    float clip_factor = 1;  // what gradients were multiplied with
    bool applied = false;   // false: a gradient was not finite and nothing was touched
    /// Its name, if not applied; of several the last in the arena's order: backward starts there,
    /// and those before it may have caught it from that one.
    std::string bad_gradient;
  };
  /// One update with what lies in arena.gradients() (which stays as it is).
  /// Units  learning_rate is absolute: Schedule::learning_rate(applied_steps()).
  /// Errors  UsageError if learning_rate is negative or not finite.
  StepReport step(float learning_rate);

  int64_t applied_steps() const { return applied_steps_; }
  void set_applied_steps(int64_t steps);
  /// Of the last applied step, one per slice, in the arena's order; empty for AdamW and before the
  /// first step. `weight` is the norm before the update.
  const std::vector<TensorNorms>& norms() const { return norms_; }
  /// Name of the first parameter with a NaN or an infinity, or "". One pass over the weights.
  std::string first_non_finite_weight() const;

  const OptimizerOptions& options() const { return options_; }
  const OptimizerVariant& variant() const { return variant_; }
  float eps() const { return options_.eps.value_or(variant_.eps); }
  /// Every knob on one line, for the log.
  std::string describe() const;

  /// Both moments of every parameter: "<parameter>.exp_avg" and "<parameter>.exp_avg_sq" (PyTorch's
  /// names), shaped as the parameter in files, without padding. Views: they share storage and
  /// change at the next step. A checkpoint also needs applied_steps().
  std::vector<std::pair<std::string, Tensor>> state() const;
  /// Copies moments in by name, whatever the layout was when they were saved; order is free.
  /// Errors  CheckpointError for a missing or unknown name or another shape or dtype; then nothing
  /// was changed.
  void load_state(const std::vector<std::pair<std::string, Tensor>>& state);

 private:
  OptimizerStepArgs step_args(float learning_rate, float clip_factor) const;

  Arena& arena_;
  OptimizerOptions options_;
  const OptimizerVariant& variant_;
  Tensor first_moment_, second_moment_;   // [arena.table().size()]
  std::vector<OptimizerTensor> tensors_;  // one per slice
  std::vector<TensorNorms> norms_;
  int64_t applied_steps_ = 0;
};

}  // namespace minibert
