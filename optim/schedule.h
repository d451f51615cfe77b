// schedule.h: the learning rate as a function of the number of applied steps.
// Called by optim/optimizer.cpp, which makes a table of it, and by models/training. Easy to break:
// published recipes count from 0 or from 1, and take the ramp as a factor or instead of the decay;
// each name in ScheduleOptions says which. None starts its decay at the end of the warm-up.
// Test: ctest -R optim_schedule.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace minibert {

enum class ScheduleKind { linear, polynomial, constant, google_linear };

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
  /// Every knob on one line, for the log.
  std::string describe() const;
  const ScheduleOptions& options() const { return options_; }

 private:
  double decayed(double progress) const;

  ScheduleOptions options_;
  ScheduleKind kind_ = ScheduleKind::linear;
  double warmup_steps_ = 0;
};

/// Square-root scaling: base * sqrt(batch / base_batch). Source: arXiv 1904.00962, sec. 4.
/// Units  batches in sequences.  Errors  UsageError unless both batches are positive.
double scaled_learning_rate(double base, int64_t base_batch, int64_t batch);
/// Linear-epoch warm-up: base_ratio * batch / base_batch, at most 1. For a fixed number of epochs
/// the steps fall as 1/batch, so the warm-up stays a fixed number of steps. Same source.
double scaled_warmup_ratio(double base_ratio, int64_t base_batch, int64_t batch);

}  // namespace minibert
