// phases.h: a run's phases, such as 128 tokens and then 512: from [[phase]] tables to one whole
// configuration a phase. Called by config.cpp, run_setup.cpp, trainer.cpp, and by whoever asks what a
// recipe does: for (const Phase& phase : phases_of(recipe_config("bert-large-lamb-64k"))) ...
// Easy to break: a run without [[phase]] is one phase and takes the same way. Phases count applied
// steps, the data count data steps: with skipped steps a phase has more of the latter.
// Source: arXiv 1904.00962, sec. 4.1 (mixed-batch training). Test: ctest -R training_phases.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/training/config.h"
#include "optim/schedule.h"

namespace minibert {

struct Phase {
  /// The run's settings with the phase's own in their place: data, sequence_length, micro_batch_size,
  /// global_batch_size, max_steps (this phase's), learning_rate, schedule, warmup, ...
  TrainConfig config;
  int64_t first_step = 0;  // applied steps before it
  int64_t steps = 0;       // applied steps in it

  int64_t end() const { return first_step + steps; }
  /// Samples that its steps take, unless some are skipped.
  int64_t sequences() const { return steps * config.global_batch_size; }
  /// "phase 2 (seq512)"; "the run" where there is one without a table.
  std::string label() const;
};

/// The phases in their order, at least one. Errors: UsageError: a phase without max_steps, or one that
/// says a first_step at which the phase before it does not end.
std::vector<Phase> phases_of(const TrainConfig& config);
/// Applied steps of all phases.
int64_t total_steps(const std::vector<Phase>& phases);
/// Number of the phase, from 0, in which the step after `applied_steps` steps is; after the last step
/// the last phase.
size_t phase_at(const std::vector<Phase>& phases, int64_t applied_steps);

/// Schedules of the phases: each starts anew at its first step; the count of bias correction does where
/// the phase has restart_step_count.
RunSchedule run_schedule(const std::vector<Phase>& phases);

/// What a recipe does, without data: its settings, batch scaling included. Errors: UsageError.
TrainConfig recipe_config(const std::string& name);

/// The run's settings with those of phase `phase`, from 0.
TrainConfig phase_config(const TrainConfig& config, size_t phase);
/// The phase that "2" or "seq512" names, from 0. Errors: UsageError.
size_t find_phase(const TrainConfig& config, const std::string& selector,
                  const std::string& origin);
/// The setting that a [[phase]] table calls `name`. Errors: UsageError that begins with `where`.
const ConfigKey& find_phase_key(const std::string& name, const std::string& where);

/// Checks what can be checked without reading data. `data_at_hand`: their folders must be named, too.
/// Errors: UsageError with all faults, each with its phase.
void check_phases(const std::vector<Phase>& phases, bool data_at_hand = true);

}  // namespace minibert
