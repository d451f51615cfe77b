// task_settings.h: flags of a fine-tuned model's task, as its checkpoint recorded them, beside those it
// is scored with. Called by eval squad and eval classify. Easy to break: a folder of another program
// records none, and nothing is said. Test: ctest -R finetune_verb.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/training/run_settings.h"

namespace minibert {

/// A line for each flag of `now` that the model learnt with another value.
/// Errors: CheckpointError if the model's trainer_state.json is damaged.
std::vector<std::string> differing_task(const std::filesystem::path& model,
                                        const TaskSettings& now);

}  // namespace minibert
