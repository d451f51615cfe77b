// schedule.cpp: the four schedules, in double; the result is rounded to float once.
#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"

namespace minibert {

Schedule::Schedule(ScheduleOptions options) : options_(std::move(options)) {
  static constexpr std::pair<const char*, Kind> kNames[] = {
      {"linear", Kind::linear},
      {"polynomial", Kind::polynomial},
      {"constant", Kind::constant},
      {"google-linear", Kind::google_linear},
  };
  const auto row = std::find_if(std::begin(kNames), std::end(kNames),
                                [&](const auto& name) { return options_.name == name.first; });
  MB_CHECK(row != std::end(kNames),
           "schedule: name is \"{}\", expected one of linear, polynomial, constant, google-linear",
           options_.name);
  kind_ = row->second;

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
  const bool needs_total = kind_ != Kind::constant || (o.warmup > 0 && o.warmup < 1);
  MB_CHECK(o.total_steps >= (needs_total ? 1 : 0), "schedule: total_steps is {}, expected {}",
           o.total_steps, needs_total ? "1 or more (the decay and a warm-up ratio need it)" : "0+");
  warmup_steps_ = o.warmup < 1 ? o.warmup * static_cast<double>(o.total_steps) : o.warmup;
  MB_CHECK(kind_ == Kind::constant || warmup_steps_ <= static_cast<double>(o.total_steps),
           "schedule: warmup is {} steps, expected at most total_steps = {}. Below 1 it is a ratio",
           o.warmup, o.total_steps);
}

double Schedule::decayed(double progress) const {
  const double power = kind_ == Kind::polynomial ? options_.power : 1.0;
  const double end = options_.end_learning_rate;
  return (options_.learning_rate - end) * std::pow(1.0 - std::min(progress, 1.0), power) + end;
}

float Schedule::learning_rate(int64_t step) const {
  MB_CHECK(step >= 0, "schedule: step is {}, expected 0 or more", step);
  const double lr0 = options_.learning_rate, w = warmup_steps_;
  const double total = static_cast<double>(options_.total_steps);
  const double t = static_cast<double>(step), s = t + 1;
  const double ramp = s < w ? s / w : 1.0;
  double lr = 0;
  switch (kind_) {
    case Kind::linear:
      lr = ramp * decayed(t / total);
      break;
    case Kind::polynomial:
      lr = s < w ? lr0 * ramp : decayed(s / total);
      break;
    case Kind::constant:
      lr = lr0 * ramp;
      break;
    case Kind::google_linear:
      lr = t < w ? lr0 * t / w : decayed(t / total);
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
