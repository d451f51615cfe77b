// resume.h: where a run starts: from scratch, or from the newest checkpoint that is complete and
// loads. Called by trainer.cpp under the run's lock. Easy to break: an unusable checkpoint is
// always reported, never silently skipped, and never leads to a fresh start over an old run.
// Test: ctest -R training_trainer.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/training/checkpoint.h"
#include "models/training/config.h"
#include "models/training/run_setup.h"

namespace minibert {

/// Whether the output folder may already hold a run under this configuration.
/// Errors: UsageError if `resume` is neither never, auto or must nor the path of a checkpoint.
bool may_hold_a_run(const TrainConfig& config);

/// Loads the checkpoint that `resume` asks for into model and optimizer, sets later ones aside, and
/// removes what killed saves left. Returns a fresh state if there is nothing to resume and `resume`
/// allows that. `now` are the settings of this launch; the returned state has those of the checkpoint.
/// Adds a line to `notes` for each checkpoint that was skipped.
/// Errors: CheckpointError: `must` and there is none; there are some but none can be used.
/// UsageError: the checkpoint was trained with another vocabulary than the data, a model of another
/// shape, settings that never change, phases that these do not go on from, or more steps than these.
TrainerState resume_or_start(const TrainConfig& config, const RunInputs& inputs,
                             const RunSettings& now, CheckpointStore& store,
                             BertForPreTraining& model, Optimizer& optimizer,
                             std::vector<std::string>& notes);

/// Checks what would stop a run at its start, without writing anything: the output folder, the
/// space on its disk, a checkpoint to resume from that is missing, damaged, or does not go with the
/// settings. Returns what_changed(). For `train --dry-run`.
std::vector<std::string> check_start(const TrainConfig& config, const RunInputs& inputs,
                                     const TaskSettings& task = {});

/// One line per difference between the resumed run and the one that saved, and what follows from it.
/// With any difference the run's bits may differ from those of an undisturbed run.
std::vector<std::string> what_changed(const TrainerState& saved, const TrainerState& now);

/// `bytes` is the size of one checkpoint. Adds a note if the disk can't hold all that will be kept.
/// Errors: CheckpointError if it can't hold one.
void check_free_space(const TrainConfig& config, int64_t bytes, const std::filesystem::path& folder,
                      std::vector<std::string>& notes);

}  // namespace minibert
