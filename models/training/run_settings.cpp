// run_settings.cpp: settings recorded, read back from what former versions left, and compared.
#include "models/training/run_settings.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "models/training/checkpoint.h"
#include "models/training/config.h"
#include "models/training/phases.h"
#include "models/training/run_setup.h"
#include "optim/schedule.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

using Values = std::map<std::string, std::string>;

/// A setting as a flag takes it.
struct FlagText {
  const TrainConfig& config;
  std::string operator()(std::string TrainConfig::*member) const { return config.*member; }
  std::string operator()(int64_t TrainConfig::*member) const {
    return fmt::format("{}", config.*member);
  }
  std::string operator()(double TrainConfig::*member) const {
    return fmt::format("{}", config.*member);
  }
  std::string operator()(bool TrainConfig::*member) const {
    return config.*member ? "true" : "false";
  }
  std::string operator()(std::optional<double> TrainConfig::*member) const {
    return config.*member ? fmt::format("{}", *(config.*member)) : "auto";
  }
  std::string operator()(std::vector<std::string> TrainConfig::*member) const {
    return fmt::format("{}", fmt::join(config.*member, ", "));
  }
};

bool is_recorded(const ConfigKey& key) {
  const SettingEffect effect = effect_of(key.name());
  return effect != SettingEffect::place && effect != SettingEffect::shape;
}

Values values_of(const std::vector<ConfigKey>& keys, const TrainConfig& config) {
  Values values;
  for (const ConfigKey& key : keys)
    if (is_recorded(key)) values[key.name()] = std::visit(FlagText{config}, key.member);
  return values;
}

/// The settings of a configuration alone, without what only opened data know.
RunSettings settings_of(const TrainConfig& config) {
  RunSettings settings;
  settings.run = values_of(config_keys(), config);
  for (const ConfigKey& key : phase_keys()) settings.run.erase(key.name());
  for (const Phase& phase : phases_of(config))
    settings.phases.push_back(values_of(phase_keys(), phase.config));
  return settings;
}

/// Fine-tuning has its held-out file by name alone.
std::string evaluation_checksum(const PhaseInputs& inputs, const TrainConfig& phase) {
  if (!inputs.data) return FlagText{phase}(&TrainConfig::evaluation_data);
  std::vector<std::string> sets;
  for (const auto& [name, data] : inputs.evaluation)
    sets.push_back(fmt::format("{} {}", name, fingerprint(*data)));
  return fmt::format("{}", fmt::join(sets, ", "));
}

/// What the two lists have in common and differ in.
void compare(const Values& saved, const Values& now, const std::string& phase, int64_t first_step,
             std::vector<SettingChange>& changes) {
  for (const auto& [name, before] : saved) {
    const auto found = now.find(name);
    if (found != now.end() && found->second != before)
      changes.push_back({name, phase, before, found->second, effect_of(name), first_step});
  }
}

double number(const Values& values, const char* name) {
  const std::string& text = values.at(name);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  MB_CHECK(error == std::errc(), "{} is \"{}\", expected a number", name, text);
  return value;
}

/// Learning rate of a phase's step, from 0, by its settings.
float rate_of(const Values& phase, int64_t step) {
  ScheduleOptions options;
  options.name = phase.at("optim.schedule");
  options.learning_rate = static_cast<float>(number(phase, "optim.learning_rate"));
  options.warmup = number(phase, "optim.warmup");
  options.total_steps = static_cast<int64_t>(number(phase, "train.max_steps"));
  options.power = number(phase, "optim.schedule_power");
  return Schedule(options).learning_rate(step);
}

bool changes_rate(const SettingChange& c) {
  static constexpr const char* kNames[] = {"optim.schedule", "optim.learning_rate", "optim.warmup",
                                           "train.max_steps", "optim.schedule_power"};
  return c.first_step > 0 && std::ranges::find(kNames, c.name) != std::end(kNames);
}

}  // namespace

RunSettings settings_of(const TrainConfig& config, const RunInputs& inputs,
                        const TaskSettings& task) {
  RunSettings settings = settings_of(config);
  // Former versions fine-tuned with the dropout of the folder, whatever the configuration said.
  settings.run["model.hidden_dropout"] = fmt::format("{}", inputs.model.hidden_dropout_prob);
  settings.run["model.attention_dropout"] =
      fmt::format("{}", inputs.model.attention_probs_dropout_prob);
  settings.run.insert(task.begin(), task.end());
  const std::vector<Phase> phases = phases_of(config);
  for (size_t i = 0; i < phases.size(); ++i) {
    settings.phases[i]["data.checksum"] = inputs.phases[i].fingerprint;
    settings.phases[i]["data.evaluation_checksum"] =
        evaluation_checksum(inputs.phases[i], phases[i].config);
  }
  return settings;
}

RunSettings former_settings(const fs::path& checkpoint, const TrainerState& state,
                            std::vector<std::string>& notes) {
  if (!state.settings.empty()) return state.settings;
  const fs::path file = fs::weakly_canonical(checkpoint).parent_path() / "config.resolved.toml";
  RunSettings settings;
  try {
    ConfigBuilder builder;
    builder.apply_file(file.string());
    settings = settings_of(builder.config());
    // Of fine-tuning they may be the model's, which the file does not say.
    for (const char* name : {"model.hidden_dropout", "model.attention_dropout"})
      settings.run.erase(name);
  } catch (const UsageError& error) {
    notes.push_back(fmt::format(
        "the checkpoint is of a version that did not record its settings, and those of the run "
        "folder can't be read, so only some are compared: {}",
        error.what()));
    settings = {};
  }
  settings.phases.resize(std::max(settings.phases.size(), state.phase_starts.size()));
  settings.run["train.seed"] = fmt::format("{}", state.seed);
  settings.run["train.precision"] = state.precision;
  settings.run["optim.optimizer"] = state.optimizer;
  Values& phase = settings.phases[state.phase_starts.size() - 1];
  phase["train.global_batch_size"] = fmt::format("{}", state.global_batch_size);
  phase["data.checksum"] = state.data_fingerprint;
  return settings;
}

std::vector<SettingChange> setting_changes(const RunSettings& saved, const RunSettings& now,
                                           const TrainerState& state) {
  std::vector<SettingChange> changes;
  const int64_t next = state.data_steps + 1;
  compare(saved.run, now.run, "", next, changes);
  const size_t current = state.phase_starts.size() - 1;
  for (size_t i = current; i < std::min(saved.phases.size(), now.phases.size()); ++i) {
    const std::string label = now.phases.size() > 1 ? fmt::format("phase {}: ", i + 1) : "";
    compare(saved.phases[i], now.phases[i], label, i == current ? next : 0, changes);
  }
  return changes;
}

std::vector<std::string> consequences(const std::vector<SettingChange>& changes,
                                      const RunSettings& saved, const RunSettings& now,
                                      const TrainerState& state) {
  std::vector<std::string> lines;
  const size_t current = state.phase_starts.size() - 1;
  if (current >= saved.phases.size() || current >= now.phases.size()) return lines;
  const PhaseStart& start = state.phase_starts.back();
  const Values &before = saved.phases[current], &after = now.phases[current];
  if (std::ranges::any_of(changes, changes_rate)) {
    const int64_t step = state.applied_steps - start.applied_steps;
    try {
      lines.push_back(
          fmt::format("learning rate of step {}: {:.3g}, by the settings of the "
                      "checkpoint {:.3g}",
                      state.data_steps + 1, rate_of(after, step), rate_of(before, step)));
    } catch (const std::exception&) {
      // The checkpoint names a schedule that this build lacks, or lacks a setting.
    }
  }
  for (const SettingChange& c : changes) {
    if (c.name != "train.global_batch_size" || c.first_step == 0) continue;
    const int64_t steps = state.data_steps - start.data_steps;
    lines.push_back(fmt::format(
        "{}the data go on after sample {} of the phase, not after sample {}, the last that was "
        "read: a step's number times the batch is its position",
        c.phase, steps * static_cast<int64_t>(number(after, "train.global_batch_size")),
        steps * static_cast<int64_t>(number(before, "train.global_batch_size"))));
  }
  return lines;
}

}  // namespace minibert
