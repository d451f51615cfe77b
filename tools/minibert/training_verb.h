// training_verb.h: what the verbs that run a training share: flags beside the settings, ranks, and the
// exit code. Called by train.cpp and finetune.cpp. Easy to break: ranks
// start before anything has started a thread. Test: ctest -R train_verb, finetune_verb.
#pragma once

#include <string>
#include <vector>

#include "dist/launch.h"
#include "models/training/trainer.h"
#include "tools/minibert/train_flags.h"

namespace minibert {

struct TrainingVerb {
  TrainFlags settings;
  bool print_config = false, dry_run = false, json = false;
  int ranks = 0, gpus = 0;  // --nproc, --gpus; 0: not given

  void add_to(CLI::App& verb, const char* dry_run_help);
  /// The settings, with --gpus. Errors: UsageError.
  ConfigBuilder resolve() const;
  /// Starts the other ranks, if flags or a launcher ask for them; see start_ranks().
  Launch start(const ConfigBuilder& builder, const std::vector<std::string>& arguments) const;
};

/// Trains. Ends the verb with 75 if a signal ended the run. Errors: train()'s.
void run_training(const TrainRequest& request);

}  // namespace minibert
