// phases.cpp: the table of what a phase may have of its own, and the phases of a configuration.
#include "models/training/phases.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/text/loader.h"

namespace minibert {
namespace {

constexpr int64_t kMostSteps = (1 << 22) - 1;  // dropout's counter: core/philox.h

/// Settings of the run that a phase may have of its own.
constexpr const char* kOwn[] = {"data.data",
                                "data.evaluation_data",
                                "data.sequence_length",
                                "data.sequences",
                                "train.micro_batch_size",
                                "train.global_batch_size",
                                "train.token_capacity",
                                "train.max_steps",
                                "optim.learning_rate",
                                "optim.schedule",
                                "optim.schedule_power",
                                "optim.warmup",
                                "optim.reference_batch_size",
                                "optim.reference_learning_rate",
                                "optim.reference_warmup",
                                "optim.reference_steps"};

std::vector<ConfigKey> make_phase_keys() {
  std::vector<ConfigKey> keys = {
      {"phase", "name", &TrainConfig::phase_name, 0, 0, {}, "what messages and --phase call it"},
      {"phase",
       "first_step",
       &TrainConfig::first_step,
       0,
       static_cast<double>(kMostSteps),
       {},
       "applied steps before the phase, to have them checked; left out: where the one before ends"},
      {"phase",
       "restart_step_count",
       &TrainConfig::restart_step_count,
       0,
       0,
       {},
       "bias correction counts from 1 again, as in NVIDIA's recipe; the moments are kept"}};
  for (const char* name : kOwn) {
    const auto found = std::ranges::find(config_keys(), name, &ConfigKey::name);
    MB_ASSERT(found != config_keys().end(), "{} is no setting", name);
    keys.push_back(*found);
  }
  return keys;
}

std::string name_of_phase(int64_t number, const std::string& name) {
  return name.empty() ? fmt::format("phase {}", number)
                      : fmt::format("phase {} ({})", number, name);
}

/// Adds what `check` complains about.
template <typename Check>
void collect(std::vector<std::string>& faults, const Check& check) {
  try {
    check();
  } catch (const UsageError& error) {
    faults.push_back(error.what());
  }
}

void check_warmup(const Phase& phase) {
  const TrainConfig& c = phase.config;
  MB_CHECK(c.warmup < 1 || c.warmup == std::floor(c.warmup),
           "{}optim.warmup is {}, expected whole steps, or a share of max_steps below 1",
           phase_prefix(c), c.warmup);
  MB_CHECK(
      c.warmup <= static_cast<double>(phase.steps),
      "{}optim.warmup is {} steps, expected at most train.max_steps = {}. Use fewer, or a share "
      "such as {}.",
      phase_prefix(c), c.warmup, phase.steps, flag_text(c, "warmup", "0.1"));
}

void check_data_named(const Phase& phase) {
  const TrainConfig& c = phase.config;
  const std::string length =
      c.sequence_length > 0 ? fmt::format(" --sequence-length {}", c.sequence_length) : "";
  MB_CHECK(
      !c.data.empty(),
      "{}data.data is empty, expected a folder of training shards. Make one with `minibert data "
      "build{}` and give it with {}.",
      phase_prefix(c), length, flag_text(c, "data", "DIR"));
}

void check_length(const Phase& phase) {
  const TrainConfig& c = phase.config;
  MB_CHECK(
      !c.init_from.empty() || c.sequence_length <= c.max_position_embeddings,
      "{}data.sequence_length is {}, expected at most {} (max_position_embeddings of the model). "
      "Use --max-position-embeddings {}.",
      phase_prefix(c), c.sequence_length, c.max_position_embeddings, c.sequence_length);
}

}  // namespace

const std::vector<ConfigKey>& phase_keys() {
  static const std::vector<ConfigKey> keys = make_phase_keys();
  return keys;
}

std::string Phase::label() const {
  return config.phase_number == 0 ? "the run"
                                  : name_of_phase(config.phase_number, config.phase_name);
}

std::string phase_prefix(const TrainConfig& config) {
  return config.phase_number == 0 ? ""
                                  : name_of_phase(config.phase_number, config.phase_name) + ": ";
}

std::string flag_text(const TrainConfig& config, const std::string& key, const std::string& value) {
  if (config.phase_number > 0)
    return fmt::format("--phase {}.{}={}", config.phase_number, key, value);
  std::string flag = key;
  std::ranges::replace(flag, '_', '-');
  return fmt::format("--{} {}", flag, value);
}

TrainConfig phase_config(const TrainConfig& config, size_t phase) {
  TrainConfig settings = config;
  settings.phases.clear();
  settings.phase_number = static_cast<int64_t>(phase) + 1;
  for (const auto& [name, entry] : config.phases[phase].entries)
    set_value(config_key(name), settings, entry.value);
  return settings;
}

std::vector<Phase> phases_of(const TrainConfig& config) {
  if (config.phases.empty()) return {{config, 0, config.max_steps}};
  std::vector<Phase> phases;
  int64_t first = 0;
  for (size_t i = 0; i < config.phases.size(); ++i) {
    const TrainConfig c = phase_config(config, i);
    MB_CHECK(config.phases[i].entries.count("train.max_steps"),
             "{}max_steps is missing, expected the phase's optimizer steps. Add max_steps to that "
             "[[phase]], or {}.",
             phase_prefix(c), flag_text(c, "max_steps", "N"));
    MB_CHECK(c.first_step < 0 || c.first_step == first,
             "{}first_step is {}, expected {} (where the phases before it end): phases follow each "
             "other without a gap. Use {}, or leave first_step out.",
             phase_prefix(c), c.first_step, first,
             flag_text(c, "first_step", std::to_string(first)));
    phases.push_back({c, first, c.max_steps});
    first += c.max_steps;
  }
  return phases;
}

int64_t total_steps(const std::vector<Phase>& phases) {
  return phases.back().end();
}

size_t phase_at(const std::vector<Phase>& phases, int64_t applied_steps) {
  size_t phase = 0;
  while (phase + 1 < phases.size() && applied_steps >= phases[phase].end()) ++phase;
  return phase;
}

RunSchedule run_schedule(const std::vector<Phase>& phases) {
  std::vector<SchedulePhase> schedules;
  for (const Phase& phase : phases) {
    const TrainConfig& c = phase.config;
    ScheduleOptions options;
    options.name = c.schedule;
    options.learning_rate = static_cast<float>(c.learning_rate);
    options.warmup = c.warmup;
    options.total_steps = phase.steps;
    options.power = c.schedule_power;
    schedules.push_back({Schedule(options), c.restart_step_count});
  }
  return RunSchedule(std::move(schedules));
}

TrainConfig recipe_config(const std::string& name) {
  ConfigBuilder builder;
  builder.apply_recipe(name);
  builder.finish();
  return builder.config();
}

size_t find_phase(const TrainConfig& config, const std::string& selector,
                  const std::string& origin) {
  std::vector<std::string> names;
  for (size_t i = 0; i < config.phases.size(); ++i) {
    names.push_back(std::to_string(i + 1));
    const auto& entries = config.phases[i].entries;
    const auto name = entries.find("phase.name");
    if (name != entries.end()) names.back() = std::get<std::string>(name->second.value);
    if (selector == std::to_string(i + 1) || selector == names.back()) return i;
  }
  MB_CHECK(
      !names.empty(),
      "{}: names phase {}, but the run has no [[phase]] tables. Use the setting's own flag, or a "
      "--recipe or --config with phases.",
      origin, selector);
  fail<UsageError>("{}: phase \"{}\" does not exist, expected 1 to {}, or one of: {}", origin,
                   selector, names.size(), fmt::join(names, ", "));
}

const ConfigKey& find_phase_key(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const ConfigKey& key : phase_keys()) {
    if (key.key == name) return key;
    names.push_back(key.key);
  }
  const bool of_run =
      std::ranges::find(config_keys(), name, &ConfigKey::key) != config_keys().end();
  fail<UsageError>("{} is {}, expected one of: {}.{}", where,
                   of_run ? "the same in all phases" : "unknown", fmt::join(names, ", "),
                   of_run ? " Set it for the run." : did_you_mean(name, names));
}

void check_phases(const std::vector<Phase>& phases, bool data_at_hand) {
  std::vector<std::string> faults;
  std::set<std::string> names;
  for (const Phase& phase : phases) {
    if (data_at_hand) collect(faults, [&] { check_data_named(phase); });
    collect(faults, [&] { accumulation_steps(phase.config); });
    collect(faults, [&] { evaluation_sets(phase.config); });
    collect(faults, [&] { check_warmup(phase); });
    collect(faults, [&] { check_length(phase); });
    const std::string& name = phase.config.phase_name;
    collect(faults, [&] {
      MB_CHECK(name.empty() || names.insert(name).second,
               "{}the name is given twice. Give each [[phase]] another.",
               phase_prefix(phase.config));
    });
  }
  const int64_t total = total_steps(phases);
  if (total > kMostSteps)
    faults.push_back(
        fmt::format("the phases have {} steps together, expected at most {} (22 bits of "
                    "dropout's random counter). Use fewer max_steps.",
                    total, kMostSteps));
  if (!faults.empty()) fail<UsageError>("{}", fmt::join(faults, "\n"));
}

}  // namespace minibert
