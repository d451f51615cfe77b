// resume.h: where a run starts: anew, or at the newest checkpoint that is whole and loads.
// Called by trainer.cpp under the run's lock. Easy to break: a checkpoint that can't be used is
// said, never passed over in silence, and never leads to a fresh start over an old run.
// Test: ctest -R trainer.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/training/checkpoint.h"
#include "models/training/config.h"
#include "models/training/run_setup.h"

namespace minibert {

/// Whether the output folder may already hold a run under this configuration.
/// Errors: UsageError if `resume` is neither a word of ours nor a path.
bool may_hold_a_run(const TrainConfig& config);

/// Loads the checkpoint that `resume` asks for into model and optimizer, sets later ones aside, and
/// removes what killed saves left. A fresh state if there is nothing to resume and `resume` allows
/// it. `notes` gets a line for each checkpoint passed over.
/// Errors: CheckpointError: `must` and there is none; there are some but none can be used.
/// UsageError: it was trained with another vocabulary than `data` has.
TrainerState resume_or_start(const TrainConfig& config, const ShardSet& data,
                             CheckpointStore& store, BertForPreTraining& model,
                             Optimizer& optimizer, std::vector<std::string>& notes);

/// What would stop a run at its start, without writing anything: the output folder, the space on
/// its disk, a checkpoint to go on from that is not there or damaged. For `train --dry-run`.
void check_start(const TrainConfig& config, const RunInputs& inputs);

/// Lines that say how the resumed run differs from the one that saved: then its bits may differ
/// from an undisturbed run's.
std::vector<std::string> what_changed(const TrainerState& saved, const TrainerState& now);

/// `bytes` is the size of one checkpoint. A note if the disk can't take all that will be kept.
/// Errors: CheckpointError if it can't take one.
void check_free_space(const TrainConfig& config, int64_t bytes, const std::filesystem::path& folder,
                      std::vector<std::string>& notes);

}  // namespace minibert
