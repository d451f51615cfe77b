// schedule.cpp: the table of schedules and their formulas, in double; the result is rounded to float
// once.
#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/nearest_name.h"

namespace minibert {

double warmup_steps(double warmup, int64_t total_steps) {
  return warmup < 1 ? warmup * static_cast<double>(total_steps) : warmup;
}

namespace {

constexpr ScheduleName kSchedules[] = {
    {"linear", ScheduleKind::linear, "LAMB's linear decay from step 0, the warm-up as a factor"},
    {"polynomial", ScheduleKind::polynomial, "NVIDIA's, schedule_power is its power"},
    {"constant", ScheduleKind::constant, "the warm-up, then no decay"},
    {"google-linear", ScheduleKind::google_linear, "BERT's own, which drops after the warm-up"},
    {"transformers-linear", ScheduleKind::transformers_linear,
     "Transformers', which reaches learning_rate after any warm-up"},
};

}  // namespace

std::span<const ScheduleName> schedule_names() {
  return kSchedules;
}

Schedule::Schedule(ScheduleOptions options) : options_(std::move(options)) {
  std::vector<std::string> known;
  for (const ScheduleName& row : kSchedules) known.push_back(row.name);
  const auto found = std::find(known.begin(), known.end(), options_.name);
  MB_CHECK(found != known.end(), "schedule: name is \"{}\", expected one of {}.{}", options_.name,
           fmt::join(known, ", "), did_you_mean(options_.name, known));
  kind_ = kSchedules[found - known.begin()].kind;

  const ScheduleOptions& o = options_;
  MB_CHECK(std::isfinite(o.learning_rate) && o.learning_rate >= 0,
           "schedule: learning_rate is {}, expected 0 or more", o.learning_rate);
  MB_CHECK(std::isfinite(o.end_learning_rate) && o.end_learning_rate >= 0,
           "schedule: end_learning_rate is {}, expected 0 or more", o.end_learning_rate);
  MB_CHECK(std::isfinite(o.power) && o.power > 0, "schedule: power is {}, expected more than 0",
           o.power);
  MB_CHECK(std::isfinite(o.warmup) && o.warmup >= 0,
           "schedule: warmup is {}, expected steps (1 or more) or a ratio of the steps (0 to 1)",
           o.warmup);
  const bool needs_total = kind_ != ScheduleKind::constant || (o.warmup > 0 && o.warmup < 1);
  MB_CHECK(o.total_steps >= (needs_total ? 1 : 0), "schedule: total_steps is {}, expected {}",
           o.total_steps, needs_total ? "1 or more (the decay and a warm-up ratio need it)" : "0+");
  warmup_steps_ = minibert::warmup_steps(o.warmup, o.total_steps);
  MB_CHECK(kind_ == ScheduleKind::constant || warmup_steps_ <= static_cast<double>(o.total_steps),
           "schedule: warmup is {} steps, expected at most total_steps = {}. Below 1 it is a ratio",
           o.warmup, o.total_steps);
}

double Schedule::decayed(double progress) const {
  const double power = kind_ == ScheduleKind::polynomial ? options_.power : 1.0;
  const double end = options_.end_learning_rate;
  return (options_.learning_rate - end) * std::pow(1.0 - std::min(progress, 1.0), power) + end;
}

std::string Schedule::describe() const {
  const ScheduleOptions& o = options_;
  std::string text =
      fmt::format("{}{}: learning rate {:g}, warm-up {:.7g} of {} steps, then to {:g}", o.name,
                  kind_ == ScheduleKind::polynomial ? fmt::format(" of power {:g}", o.power) : "",
                  o.learning_rate, warmup_steps_, o.total_steps,
                  kind_ == ScheduleKind::constant ? o.learning_rate : o.end_learning_rate);
  const int64_t highest = highest_step();
  return text +
         fmt::format("; the highest is {:g}, in step {}", learning_rate(highest), highest + 1);
}

int64_t Schedule::highest_step() const {
  // All rise up to the warm-up's end and, but for linear, fall from there on. linear's product
  // (t+1)/W (1 - t/T) has its top at t = (T - 1)/2, which a longer warm-up than half the run holds.
  const int64_t total = options_.total_steps;
  const auto warm = static_cast<int64_t>(std::ceil(warmup_steps_));
  int64_t highest = 0;
  for (const int64_t around : {std::min(warm, total / 2), std::max(warm, total / 2)}) {
    for (int64_t step = std::max<int64_t>(0, around - 2); step <= around + 2; ++step) {
      const bool in_run = total == 0 || step < total;
      if (in_run && learning_rate(step) > learning_rate(highest)) highest = step;
    }
  }
  return highest;
}

RunSchedule::RunSchedule(Schedule schedule) : RunSchedule({SchedulePhase{std::move(schedule)}}) {}

RunSchedule::RunSchedule(std::vector<SchedulePhase> phases) : phases_(std::move(phases)) {
  MB_CHECK(!phases_.empty(), "schedule: the run has no phase, expected 1 or more");
  for (const SchedulePhase& phase : phases_) {
    const int64_t steps = phase.schedule.options().total_steps;
    MB_CHECK(steps >= 1, "schedule: total_steps of a phase is {}, expected 1 or more", steps);
    total_steps_ += steps;
  }
}

float RunSchedule::learning_rate(int64_t step) const {
  for (const SchedulePhase& phase : phases_) {
    const int64_t steps = phase.schedule.options().total_steps;
    if (step < steps || &phase == &phases_.back()) return phase.schedule.learning_rate(step);
    step -= steps;
  }
  return 0;
}

int64_t RunSchedule::moment_step(int64_t step) const {
  int64_t first = 0, counted_from = 0;
  for (const SchedulePhase& phase : phases_) {
    if (step < first) break;
    if (phase.restart_step_count) counted_from = first;
    first += phase.schedule.options().total_steps;
  }
  return step - counted_from + 1;
}

float Schedule::learning_rate(int64_t step) const {
  MB_CHECK(step >= 0, "schedule: step is {}, expected 0 or more", step);
  const double lr0 = options_.learning_rate, w = warmup_steps_;
  const double total = static_cast<double>(options_.total_steps);
  const double t = static_cast<double>(step), s = t + 1;
  const double ramp = s < w ? s / w : 1.0;
  double lr = 0;
  switch (kind_) {
    case ScheduleKind::linear:
      lr = ramp * decayed(t / total);
      break;
    case ScheduleKind::polynomial:
      lr = s < w ? lr0 * ramp : decayed(s / total);
      break;
    case ScheduleKind::constant:
      lr = lr0 * ramp;
      break;
    case ScheduleKind::google_linear:
      lr = t < w ? lr0 * t / w : decayed(t / total);
      break;
    case ScheduleKind::transformers_linear:
      lr = t < w ? lr0 * t / w : decayed(1 - (total - t) / std::max(1.0, total - w));
      break;
  }
  return static_cast<float>(lr);
}

double scaled_learning_rate(double base, int64_t base_batch, int64_t batch) {
  MB_CHECK(base_batch > 0 && batch > 0,
           "scaled_learning_rate: batches are {} and {}, expected 1 or more", base_batch, batch);
  return base * std::sqrt(static_cast<double>(batch) / static_cast<double>(base_batch));
}

double scaled_warmup_ratio(double base_ratio, int64_t base_batch, int64_t batch) {
  MB_CHECK(base_batch > 0 && batch > 0,
           "scaled_warmup_ratio: batches are {} and {}, expected 1 or more", base_batch, batch);
  return std::min(1.0, base_ratio * static_cast<double>(batch) / static_cast<double>(base_batch));
}

}  // namespace minibert
