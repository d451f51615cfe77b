// optimizer.h: one step for every optimizer of the table in optimizer_policies.h: square sums of the
// gradients -> decision (finite? clip) -> update of every tensor of an arena -> loss scale. Called by
// models/training once a global step; calls core/kernels/optimizer.h and step.h. Easy to break: step()
// only queues kernels, it decides nothing and reads nothing back; a step with a non-finite gradient
// touches neither weights, moments nor the applied-step count, which alone feeds bias correction and
// schedules. Sources: arXiv 1904.00962 (LAMB, LARS), 1711.05101 (AdamW), 2006.13484 (LANS), and those
// of the table. Test: ctest -R optim_optimizer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "core/device_value.h"
#include "core/kernels/optimizer.h"
#include "core/kernels/step.h"
#include "dist/process_group.h"
#include "optim/loss_scaler.h"
#include "optim/optimizer_policies.h"
#include "optim/schedule.h"

namespace minibert {

struct OptimizerOptions {
  std::string name = "lamb";   // a row of optimizer_variants()
  OptimizerKnobs knobs;        // where the run departs from the row
  double beta1 = 0.9;          // of the first moment; the momentum of sgd and lars
  double beta2 = 0.999;        // of the second; in double: 1 - 0.999f is 1.3e-5 away from 0.001
  std::optional<float> eps;    // default: the variant's
  float weight_decay = 0.01f;  // of tensors that no_decay does not name
  float max_grad_norm = 1.0f;  // L2 norm to clip to, if the policies clip; 0 = off
  std::vector<std::string> no_decay = {"bias", "LayerNorm"};  // parts of names: no weight decay
};

// Class Optimizer, below, works on all parameters of an arena. It owns the moments (two, or one of
// momentum alone), laid out by the arena's table. A step:
//   1. g' = g / max(1, |g| / max_grad_norm), |g| over the used elements of all tensors (as apex) or
//      of each tensor; or g' = g, where the policies do not clip
//   2. t = applied_steps + 1; the update of the policies in force (core/kernels/optimizer.h,
//      section 1) of the masters, and the working copy from them
// Gaps between slices and padding rows are neither read nor written. Counters, learning rate and
// loss scale are in the caller's StepState; from the schedule's total_steps on, steps do nothing.
/// Elements [offset, offset + count) of the flat buffers.
struct ElementRange {
  int64_t offset = 0, count = 0;
};

/// The part of a sharded update that is this rank's. Norms are sums over all ranks' parts.
struct OptimizerShard {
  ProcessGroup* ranks = nullptr;
  /// Of each rank, ascending. Together all elements, each once; borders at kOptimizerChunk.
  std::vector<std::vector<ElementRange>> ranges;
};
/// The optimizer of a run, as described above.
class Optimizer {
 public:
  /// Allocates gradients (if absent), moments, and the table of the schedule's learning rates. The
  /// arena must outlive the optimizer.
  /// Errors  UsageError for an unknown name, coefficients out of range, knobs that the optimizer has
  /// no use for, a schedule without total_steps.
  Optimizer(Arena& arena, OptimizerOptions options, const RunSchedule& schedule,
            LossScaling scaling = {});

  /// What a new run's StepState starts with: the first loss scale.
  StepState initial_state() const;
  /// Queues one update with what lies in arena.gradients() (which stays as it is): fills `state`'s
  /// decision and advances its counters. `state` is in the arena's device's memory, and step_begin
  /// has opened the step, if losses are scaled.
  void step(StepState* state);

  /// From here on this rank updates its own part of the weights alone, and keeps moments for no other
  /// elements: a step then leaves the weights of other parts, working copy and masters, as they were.
  /// The moments must have their final values: those of a new run or of a checkpoint. Ranks call
  /// step(), state() and first_non_finite_weight() together from now on.
  void shard(OptimizerShard shard);

  struct StepReport {
    double grad_norm = 0;   // unscaled, before clipping; NaN or infinity if not finite
    float clip_factor = 1;  // of global clipping: multiplied into gradients, beside 1 / loss scale
    float learning_rate = 0;
    bool applied = false;  // false: nothing was touched
    /// Name of a tensor with a gradient that is not finite, or ""; of several the last in the
    /// arena's order: backward starts there, and those before it may have caught it from that one.
    std::string bad_gradient = {};
  };
  /// What the step that left `state` did.
  StepReport report(const StepState& state) const;
  /// Of the last applied step, one per slice, in the arena's order; empty without a trust ratio and
  /// before the first applied step of this object. `weight` is the norm before the update, `update`
  /// that of what the ratio divides by. Waits for the device.
  std::vector<TensorNorms> norms() const;
  /// Name of the first parameter with a NaN or an infinity, or "". One pass over the masters; waits
  /// for the device.
  std::string first_non_finite_weight() const;

  const OptimizerOptions& options() const { return options_; }
  const OptimizerVariant& variant() const { return variant_; }
  const LossScaler& scaler() const { return scaler_; }
  /// The row with the options' knobs.
  const OptimizerPolicies& policies() const { return policies_; }
  float eps() const { return policies_.eps; }
  /// Every knob on one line, for the log.
  std::string describe() const;

  // ---- The host's door to the moments ----------------------------------------------------------
  /// Copies of the moments of every parameter: "<parameter>.exp_avg" and, of two, also
  /// "<parameter>.exp_avg_sq" (PyTorch's names), shaped as the parameter in files, without padding, in
  /// the host's memory. A checkpoint also needs the StepState's counters and loss scale. Waits for the
  /// device. When sharded, all ranks call it together, and each gets the moments of all of them.
  /// Errors: CommError.
  std::vector<std::pair<std::string, Tensor>> state() const;
  /// Copies moments in by name, whatever the layout was when they were saved; order is free.
  /// Errors  CheckpointError for a missing or unknown name, another shape or dtype, or the moments of
  /// an optimizer that keeps more or fewer; then nothing was changed.
  void load_state(const std::vector<std::pair<std::string, Tensor>>& state);
  /// The moments as they lie in memory, [arena.table().size()] each, or a shard's: what ranks share.
  const std::vector<Tensor>& moment_buffers() const { return moments_; }

 private:
  // One moment of one parameter, in place.
  struct Moment {
    std::string name;
    Tensor values;
  };
  /// A part of the update: pieces in a row, and where their moments lie.
  struct Part {
    PieceRange pieces;
    ElementRange elements;
    int64_t first_moment = 0;  // element of the moments' buffers that belongs to elements.offset
  };
  std::vector<Moment> moments() const;
  std::vector<Tensor> whole_moments() const;
  void make_tables();
  float clip_norm() const;
  OptimizerTables tables() const;
  void square_sums(const Tensor& x) const;
  void add_up(void* sums, size_t count) const;
  void scale_gradients(const StepState* state) const;
  void update(const StepState* state) const;
  OptimizerArgs update_args(const StepState* state, const Part& part) const;
  StepControlArgs control_args(StepState* state) const;

  Arena& arena_;
  OptimizerOptions options_;
  const OptimizerVariant& variant_;
  OptimizerPolicies policies_;  // in force
  UpdateRule rule_;
  LossScaler scaler_;
  std::vector<Tensor> moments_;           // [arena.table().size()] each
  DeviceArray<StepRates> rates_;          // one per step of the schedule
  DeviceArray<OptimizerTensor> tensors_;  // one per slice
  DeviceArray<OptimizerPiece> pieces_;
  std::vector<Part> parts_;  // all pieces, or the shard's
  OptimizerShard shard_;
  DeviceArray<double> piece_squares_, tensor_squares_;
  DeviceArray<SquareSums> piece_sums_;  // with a ratio, as norms_
  DeviceArray<TensorNorms> norms_;
  DeviceArray<float> gradient_scales_;  // where tensors have factors of their own
};

}  // namespace minibert
