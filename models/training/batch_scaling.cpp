// batch_scaling.cpp: the rule, and which settings it may set.
#include "models/training/batch_scaling.h"

#include <cmath>

#include "core/error.h"
#include "models/training/phases.h"
#include "optim/schedule.h"

namespace minibert {
namespace {

/// A setting and where its reference comes from if nobody names one: the recipe's own value.
struct Scaled {
  const char *setting, *reference;
};
constexpr Scaled kScaled[] = {{"train.global_batch_size", "optim.reference_batch_size"},
                              {"optim.learning_rate", "optim.reference_learning_rate"},
                              {"optim.warmup", "optim.reference_warmup"},
                              {"train.max_steps", "optim.reference_steps"}};

bool is_zero(const ConfigValue& value) {
  return value == ConfigValue(int64_t{0}) || value == ConfigValue(0.0);
}

double warmup_share(const TrainConfig& c) {
  if (c.reference_warmup < 1) return c.reference_warmup;
  MB_CHECK(c.reference_steps > 0,
           "{}optim.reference_warmup is {} steps, expected optim.reference_steps beside it, or a "
           "share below 1. Add {}.",
           phase_prefix(c), c.reference_warmup, flag_text(c, "reference_steps", "N"));
  return c.reference_warmup / static_cast<double>(c.reference_steps);
}

}  // namespace

BatchScaledSettings scaled_settings(const TrainConfig& c) {
  MB_CHECK(
      c.reference_batch_size > 0 && c.reference_learning_rate > 0,
      "{}optim.batch_scaling is {}, but there is no reference point: optim.reference_batch_size "
      "is {} and optim.reference_learning_rate is {}, expected a batch and the rate that suits "
      "it. Give --reference-batch-size and --reference-learning-rate, or a --recipe.",
      phase_prefix(c), c.batch_scaling, c.reference_batch_size, c.reference_learning_rate);
  BatchScaledSettings scaled;
  const double factor =
      static_cast<double>(c.global_batch_size) / static_cast<double>(c.reference_batch_size);
  scaled.learning_rate =
      scaled_learning_rate(c.reference_learning_rate, c.reference_batch_size, c.global_batch_size);
  scaled.steps = std::llround(static_cast<double>(c.reference_steps) / factor);
  if (c.reference_steps > 0) scaled.steps = std::max<int64_t>(1, scaled.steps);
  const double share = warmup_share(c);
  MB_CHECK(
      share * factor <= 1,
      "{}the warm-up of batch scaling is {:g} of the steps at batch {} ({:g} at {}), expected at "
      "most 1: it keeps its number of steps. Give it: {}.",
      phase_prefix(c), share * factor, c.global_batch_size, share, c.reference_batch_size,
      flag_text(c, "warmup", "0.5"));
  scaled.warmup = scaled_warmup_ratio(share, c.reference_batch_size, c.global_batch_size);
  if (scaled.warmup == 1)  // as a share it would read as one step
    scaled.warmup = static_cast<double>(scaled.steps > 0 ? scaled.steps : c.max_steps);
  return scaled;
}

/// Sets what the rule derives, in the run or in a phase. A setting that somebody gave stays, unless it
/// was the recipe that gave it and the recipe is the reference point.
void ConfigBuilder::scale(std::optional<size_t> phase) {
  if (config_.batch_scaling == "none") {
    for (const auto& [setting, reference] : kScaled)
      MB_CHECK(origin(phase, reference).rfind("--", 0) != 0,
               "{}: is given, but optim.batch_scaling is none. Add --batch-scaling sqrt.",
               origin(phase, reference));
    return;
  }
  const auto recipe_has = [&](const char* name) {  // one that scales names its own reference
    if (!recipe_layer_ || recipe_layer_->config.batch_scaling != "none") return false;
    const auto& phases = recipe_layer_->config.phases;
    const bool own = phase && *phase < phases.size() && phases[*phase].entries.count(name) > 0;
    return own || recipe_layer_->origins.count(name) > 0;
  };
  const auto recipe_value = [&](const char* name) {
    const auto& phases = recipe_layer_->config.phases;
    if (phase && *phase < phases.size() && phases[*phase].entries.count(name) > 0)
      return phases[*phase].entries.at(name);
    return PhaseSettings::Entry{value_of(config_key(name), recipe_layer_->config),
                                recipe_layer_->origins.at(name)};
  };
  std::map<std::string, bool> derived;
  for (const auto& [setting, reference] : kScaled) {
    derived[setting] = origin(phase, setting) == "default";
    if (!is_zero(value(phase, reference)) || !recipe_has(setting)) continue;
    const auto [value, from] = recipe_value(setting);
    if (origin(phase, setting) == from) derived[setting] = true;
    set(phase, reference, value, from);
  }
  const TrainConfig c = phase ? phase_config(config_, *phase) : config_;
  TrainConfig rule = c;
  if (!derived["optim.warmup"]) rule.reference_warmup = 0;  // nobody asks for it
  const BatchScaledSettings scaled = scaled_settings(rule);
  const std::string from =
      fmt::format("batch_scaling {} from {}", c.batch_scaling, c.reference_batch_size);
  if (derived["optim.learning_rate"]) set(phase, "optim.learning_rate", scaled.learning_rate, from);
  if (derived["optim.warmup"]) set(phase, "optim.warmup", scaled.warmup, from);
  if (derived["train.max_steps"] && scaled.steps > 0)
    set(phase, "train.max_steps", scaled.steps, from);
}

std::string describe_scaling(const TrainConfig& c) {
  if (c.batch_scaling == "none") return "";
  TrainConfig rule = c;
  const double factor =
      static_cast<double>(c.global_batch_size) / static_cast<double>(c.reference_batch_size);
  const bool has_warmup = warmup_share(c) * factor <= 1;
  if (!has_warmup) rule.reference_warmup = 0;
  const BatchScaledSettings scaled = scaled_settings(rule);
  std::string text = fmt::format(
      "{}batch scaling: {} from batch {}, learning rate {:g}, warm-up {:g}{}, to batch {}: "
      "learning "
      "rate {:g}",
      phase_prefix(c), c.batch_scaling, c.reference_batch_size, c.reference_learning_rate,
      c.reference_warmup, c.reference_steps > 0 ? fmt::format(", {} steps", c.reference_steps) : "",
      c.global_batch_size, scaled.learning_rate);
  if (has_warmup) text += fmt::format(", warm-up {:g}", scaled.warmup);
  if (scaled.steps > 0) text += fmt::format(", {} steps", scaled.steps);
  std::string given;
  const auto differs = [&given](const char* what, double value, double by_rule) {
    if (value != by_rule) given += fmt::format("{}{} {:g}", given.empty() ? "" : ", ", what, value);
  };
  differs("learning rate", c.learning_rate, scaled.learning_rate);
  if (has_warmup)
    differs("warm-up", c.warmup, scaled.warmup);
  else
    differs("warm-up", c.warmup, -1);
  if (scaled.steps > 0)
    differs("steps", static_cast<double>(c.max_steps), static_cast<double>(scaled.steps));
  return given.empty() ? text : text + "; given instead: " + given;
}

}  // namespace minibert
