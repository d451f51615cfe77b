// trainer.h: training, from a configuration to a run folder: pre-training, and fine-tuning, which
// differs only in what it reads (RunInputs). Start reading at Trainer::step() in trainer.cpp: the path
// of a batch in a dozen calls. Called by the verbs `train` and `finetune` and by tests.
// Easy to break: a step either happens completely or not at all (weights change in one call alone,
// Optimizer::step, once all gradients are in), and the result is a function of configuration, data and
// seed, never of when the run was stopped. With several ranks, each runs the same loop: what a rank
// does next depends on what all have agreed on (agreement.h), and rank 0 alone writes.
//
// Test: ctest -R training_trainer; tools/kill_test.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dist/launch.h"
#include "models/training/config.h"
#include "models/training/run_setup.h"

namespace minibert {

struct TrainRequest {
  TrainConfig config;
  std::string resolved_config;         // ConfigBuilder::to_toml()
  std::vector<std::string> arguments;  // of the program, for run.json
  const char* const* environment = nullptr;
  bool json = false;   // records of metrics.jsonl on standard output, at each log line
  Launch launch = {};  // which of the run's ranks this is; the only one, if nobody says otherwise
  OpenInputs open = open_inputs;  // fine-tuning: its own
  TaskSettings task = {};         // of fine-tuning: what its flags say beside the settings
};

enum class TrainEnd {
  finished,  // max_steps is reached
  paused,    // stop_after is reached
  signal,    // saved after a signal: exit code 75
};

struct TrainResult {
  TrainEnd end = TrainEnd::finished;
  std::string signal;  // its name, if one ended the run
  int64_t steps = 0;   // data steps done
  std::filesystem::path checkpoint;
};

/// Runs until max_steps, stop_after, a signal or an error. Installs signal handlers while it runs
/// (signals.h). Errors: UsageError, DataError, NumericError (non-finite loss, gradient or weight, with
/// step and first bad tensor), OutOfMemory, CheckpointError, CommError (another rank is lost),
/// InternalError (also for a GPU that failed). All but NumericError save the last complete step, if
/// the device still answers. What a user does about each: docs/exit_codes.md.
TrainResult train(const TrainRequest& request);

}  // namespace minibert
