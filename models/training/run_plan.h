// run_plan.h: what a run is in numbers, phase by phase, before it starts: steps, passes over the data,
// tokens, FLOPs, learning rate. Printed by `train --dry-run`, beside the published run if a recipe has
// one, and by `train --list-recipes`. Works without the data, from what the settings say of them.
// Easy to break: without data every sequence is counted as full; the real ones have fewer tokens.
// Test: ctest -R training_run_plan.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/bert/bert.h"
#include "models/training/phases.h"
#include "models/training/run_setup.h"

namespace minibert {

struct PhasePlan {
  std::string label;                                    // "phase 2 (seq512)"
  int64_t sequence_length = 0;                          // tokens, at most; 0: not known
  int64_t global_batch_size = 0, micro_batch_size = 0;  // sequences
  int64_t first_step = 0, steps = 0;
  int64_t sequences = 0;         // samples of all steps
  std::optional<double> passes;  // over the data
  double tokens = 0, flops = 0;  // of all steps, forward and backward
  double warmup_steps = 0;
  std::string schedule;      // its description, with the highest rate
  double learning_rate = 0;  // lr0
};

/// `inputs` null: the data are not at hand. Errors: UsageError, for settings.
std::vector<PhasePlan> plan_run(const TrainConfig& config, const RunInputs* inputs);

/// Predicted tokens of a full sequence: 15 %, rounded up, as google-research/bert's settings have it.
int64_t masked_of_full(int64_t sequence_length);

/// A step of the phase, of all ranks: the mean of steps that lie evenly in it. `inputs` null: full
/// sequences of `sequence_length` tokens, `masked` of them predicted. Without samples and cuts.
StepPlan mean_step(const Phase& phase, const PhaseInputs* inputs, int64_t sequence_length,
                   int64_t masked);

/// Whether a plan can be made of the settings alone: no phase has data, each says its sequence length.
bool is_described(const TrainConfig& config);

/// Lines for people: a table of phases, their sum, and the published run of `recipe`.
std::vector<std::string> describe_run(const TrainConfig& config, const std::vector<PhasePlan>& plan,
                                      const std::string& recipe);

/// One object: {"recipe", "phases": [{..., "rates": [[step, rate], ...]}], "steps", ..., "published"}.
/// `rates` has at most 400 steps of a phase, from 0 within it, the first and the last among them. With
/// `inputs`, "findings" of a phase are those of corpus_lint.h about its data, all of them, as in
/// data inspect.
std::string run_json(const TrainConfig& config, const std::vector<PhasePlan>& plan,
                     const std::string& recipe, const RunInputs* inputs = nullptr);

/// Recipes with a published run: batch, steps, rate, warm-up and passes, each beside the published one.
std::vector<std::string> recipe_table();

}  // namespace minibert
