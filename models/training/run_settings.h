// run_settings.h: the settings that a run was trained with, as a checkpoint records them, and what
// differs when it is resumed. Called by trainer.cpp and resume.cpp. Easy to break: a new setting
// needs a line in the table of effects, else its test fails; data are compared by their contents,
// never by their paths. Test: ctest -R run_settings.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace minibert {

struct RunInputs;
struct TrainConfig;
struct TrainerState;

/// Settings of a task beside the table of settings: {"--max-sequence-length", "384"}.
using TaskSettings = std::vector<std::pair<std::string, std::string>>;

/// Settings by name, as a flag takes them: {"optim.learning_rate", "0.001"}.
struct RunSettings {
  std::map<std::string, std::string> run;
  /// What a phase may have of its own, for each phase, whole; also "data.checksum" and
  /// "data.evaluation_checksum". A run without [[phase]] tables has one.
  std::vector<std::map<std::string, std::string>> phases;

  bool empty() const { return run.empty() && phases.empty(); }
  bool operator==(const RunSettings&) const = default;
};

/// What a change of a setting does to a resumed run.
enum class SettingEffect {
  place,  // says where or until when, or describes what is compared by its contents: not recorded
  shape,  // of the model: not recorded, since config.json of the checkpoint has it; never changes
  fixed,  // refused
  curve,  // the run continues, but not as it would have
  rounding,  // only the order of sums changes, or what multiplies
  start,     // counts for the first step alone: no effect any more
  none,      // no result depends on it
};

/// Errors: InternalError for a name that is neither in the table nor of a task.
SettingEffect effect_of(const std::string& name);

RunSettings settings_of(const TrainConfig& config, const RunInputs& inputs,
                        const TaskSettings& task);

/// Settings with which a checkpoint was saved. Checkpoints of former versions do not record them:
/// then those of config.resolved.toml in the run folder, which are of its last launch, and the few that
/// trainer_state.json has always had. Adds a note if that file can't be read.
RunSettings former_settings(const std::filesystem::path& checkpoint, const TrainerState& state,
                            std::vector<std::string>& notes);

struct SettingChange {
  std::string name;         // "optim.learning_rate"
  std::string phase;        // "phase 2: ", "" where the run has one
  std::string before, now;  // "" is said as (empty)
  SettingEffect effect = SettingEffect::none;
  int64_t first_step =
      0;  // data step from 1 from which the new value counts; 0: from that phase on
};

/// What differs between the settings of the checkpoint and those of now, of the phase under way and of
/// later ones. Names that `saved` lacks are not compared. `state` has the checkpoint's counters.
std::vector<SettingChange> setting_changes(const RunSettings& saved, const RunSettings& now,
                                           const TrainerState& state);

/// A line for people for each change: both values, since which step, and what it does.
std::vector<std::string> describe(const std::vector<SettingChange>& changes);
/// What follows from the changes: the learning rate of the next step, the position in the data.
std::vector<std::string> consequences(const std::vector<SettingChange>& changes,
                                      const RunSettings& saved, const RunSettings& now,
                                      const TrainerState& state);
/// {"optim.learning_rate": {"before": "0.001", "now": "0.005"}} of changes that matter; "": none.
std::string to_json(const std::vector<SettingChange>& changes);

/// Errors: UsageError listing the changes that can't be, with the values to resume with.
void check_changes(const std::vector<SettingChange>& changes,
                   const std::filesystem::path& checkpoint);

}  // namespace minibert
