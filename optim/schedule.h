// schedule.h: the learning rate as a function of the number of applied steps.
// Called by optim/optimizer.cpp, which makes a table of it, and by models/training. Easy to break:
// published recipes count from 0 or from 1, and take the ramp as a factor or instead of the decay;
// each name in ScheduleOptions says which. Only transformers-linear starts its decay at the end of
// the warm-up, and so reaches lr0 with a warm-up of any length. Plots: docs/schedules.md.
// Test: ctest -R optim_schedule.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace minibert {

enum class ScheduleKind { linear, polynomial, constant, google_linear, transformers_linear };

/// A schedule as configurations name it. One row each; see kSchedules in schedule.cpp.
struct ScheduleName {
  const char* name;
  ScheduleKind kind;
  const char* summary;  // for --help
};
std::span<const ScheduleName> schedule_names();

/// lr0 = learning_rate, e = end_learning_rate, T = total_steps, W = warm-up in steps, t = steps
/// applied so far, from 0; d(u) = (lr0 - e) (1 - u)^power + e, u at most 1.
struct ScheduleOptions {
  /// linear         min(1, (t+1)/W) d(t/T), power 1: LAMB's lr0 (1 - t/T) under a linear ramp, so
  ///                without a jump. arXiv 1904.00962, sec. 4
  /// polynomial     s = t + 1;  s < W: lr0 s/W, then d(s/T), which starts below lr0 and makes the
  ///                last step 0. NVIDIA's BERT-large recipe with power 0.5: DeepLearningExamples
  ///                PyTorch/LanguageModeling/BERT/schedulers.py, PolyWarmUpScheduler
  /// constant       min(1, (t+1)/W) lr0
  /// google-linear  t < W: lr0 t/W, so the first step is 0; then d(t/T), power 1: drops by the
  ///                factor 1 - W/T at t = W. google-research/bert optimization.py, create_optimizer
  /// transformers-linear  t < W: lr0 t/W, so the first step is 0; then lr0 (T - t)/(T - W), which is
  ///                lr0 at t = W. Transformers' get_linear_schedule_with_warmup
  std::string name = "linear";
  float learning_rate = 1e-3f;
  double warmup = 0;        // as of warmup_steps()
  int64_t total_steps = 0;  // may be 0 for constant with warm-up in steps
  double power = 1;         // polynomial only
  float end_learning_rate = 0;
};

/// W of a warm-up given in steps (1 or more) or as a ratio of total_steps (below 1). Never rounded:
/// the published schedules compare fractions of the run, so NVIDIA's .2843 of 7,038 steps is a ramp
/// of slope 1 / 2,000.9, and the log says so.
double warmup_steps(double warmup, int64_t total_steps);

/// A checked schedule. A value; learning_rate() is a pure function.
class Schedule {
 public:
  /// Errors  UsageError for an unknown name (lists the known ones) or a value out of range.
  explicit Schedule(ScheduleOptions options);
  /// What the step about to be applied uses when `step` steps have been applied before it. From
  /// total_steps on: end_learning_rate (constant continues).
  float learning_rate(int64_t step) const;
  double warmup_steps() const { return warmup_steps_; }
  /// Number of the step, from 0, with the highest rate: the first of them. Below lr0, unless the
  /// schedule reaches it.
  int64_t highest_step() const;
  /// Every knob on one line, for the log.
  std::string describe() const;
  const ScheduleOptions& options() const { return options_; }

 private:
  double decayed(double progress) const;

  ScheduleOptions options_;
  ScheduleKind kind_ = ScheduleKind::linear;
  double warmup_steps_ = 0;
};

/// A schedule of a run with several, one after another: each is computed from its own first step.
struct SchedulePhase {
  Schedule schedule;  // with total_steps: those of the phase
  /// Bias correction counts from 1 again at its first step, with the moments as they are. NVIDIA's
  /// second phase does (DeepLearningExamples, run_pretraining.py, zeroes `step`).
  bool restart_step_count = false;
};

/// The learning rate and the count of bias correction over a whole run. A value.
class RunSchedule {
 public:
  /// One phase.
  RunSchedule(Schedule schedule);  // NOLINT: a schedule is a run of one phase
  /// Errors: UsageError without a phase, or for one without total_steps.
  explicit RunSchedule(std::vector<SchedulePhase> phases);

  int64_t total_steps() const { return total_steps_; }
  /// As Schedule::learning_rate, with `step` counted over the run.
  float learning_rate(int64_t step) const;
  /// t of bias correction for the step about to be applied, from 1: 1 - beta^t.
  int64_t moment_step(int64_t step) const;
  const std::vector<SchedulePhase>& phases() const { return phases_; }

 private:
  std::vector<SchedulePhase> phases_;
  int64_t total_steps_ = 0;
};

/// Square-root scaling: base * sqrt(batch / base_batch). Source: arXiv 1904.00962, sec. 4.
/// Units  batches in sequences.  Errors  UsageError unless both batches are positive.
double scaled_learning_rate(double base, int64_t base_batch, int64_t batch);
/// Linear-epoch warm-up: base_ratio * batch / base_batch, at most 1. For a fixed number of epochs
/// the steps fall as 1/batch, so the warm-up stays a fixed number of steps. Same source.
double scaled_warmup_ratio(double base_ratio, int64_t base_batch, int64_t batch);

}  // namespace minibert
