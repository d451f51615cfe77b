// run_data.h: what a run has recorded, read back from its folder: for the verbs report and compare.
// A run may still be going, or have ended in any way: what is missing, cut or damaged is a note, not
// an error, so long as there is a curve. Easy to break: nothing is left out without a note, and
// numbers that are not finite stay. Written by models/training/run_journal.cpp and run_folder.cpp.
// Test: ctest -R report.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/training/metrics.h"

namespace minibert {

/// A line of config.resolved.toml.
struct Setting {
  std::string name;    // "train.max_steps"; "phase.1.max_steps" of the first [[phase]]
  std::string value;   // as TOML has it
  std::string origin;  // "default", "recipe austen:8", "--max-steps"; "" if the line names none
};

/// An entry of run.json: what was started, where and when.
struct RecordedLaunch {
  std::string started;                                     // UTC, ISO 8601
  int64_t first_step = 0;                                  // steps that were done before
  std::vector<std::pair<std::string, std::string>> facts;  // "cpu", "AMD EPYC"; in the file's order
};

struct RecordedCheckpoint {
  int64_t step = 0;
  int64_t bytes = 0;
  bool latest = false, best = false;
};

/// Trust ratios after a step, in the order of RunData::tensors.
struct TrustRatios {
  int64_t step = 0;
  std::vector<double> ratios;
};

struct RunData {
  std::filesystem::path folder;
  std::string name;                 // short; different from those of other runs read with it
  std::vector<StepRecord> records;  // steps ascend; with evaluations by name
  std::vector<std::string> tensors;
  std::vector<TrustRatios> trust_ratios;
  std::vector<Setting> settings;
  std::vector<RecordedLaunch> launches;
  std::vector<RecordedCheckpoint> checkpoints;  // by step
  std::vector<std::string> notes;  // each names the file, what is wrong with it, what follows

  /// Whether its losses are those of labels, not of masked tokens.
  bool fine_tuning() const { return !records.empty() && records.front().fine_tuning; }
  /// Null if there is none of that name.
  const Setting* setting(const std::string& name) const;
  /// Of all phases; nothing if the settings can't be read.
  std::optional<int64_t> max_steps() const;
  /// "phase 2, long" or "phase 2", for 1 in metrics.jsonl.
  std::string phase_name(int64_t phase) const;
};

/// Reads run folders. Errors: UsageError if a folder is given twice; DataError naming every path that
/// is no run folder (no metrics.jsonl in it), with the folder that was probably meant.
std::vector<RunData> read_runs(const std::vector<std::filesystem::path>& folders);

/// A setting in which runs differ: its value in each, "" where it has none.
struct SettingDifference {
  std::string name;
  std::vector<std::string> values;
};
std::vector<SettingDifference> differing_settings(const std::vector<const RunData*>& runs);

}  // namespace minibert
