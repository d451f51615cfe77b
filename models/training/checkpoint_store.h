// checkpoint_store.h: the checkpoint folders of a run: written so that none is ever half there,
// verified before use, rotated so that the newest good one always stays.
// Called by checkpoint.cpp (what is in one) and trainer.cpp. The order of a save, each line durable
// before the next:
//   .tmp-checkpoint-STEP/   every file written and synced; MANIFEST.json last; read back, compared
//   rename to checkpoint-STEP, sync of the run folder
//   latest -> checkpoint-STEP, replaced by a rename, sync
//   rotation: rename to .old-checkpoint-N, sync, delete
// Easy to break: anything between those lines may be the last thing that happens.
// Test: ctest -R checkpoint; tools/kill_test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "models/bert/checkpoint_manifest.h"
#include "models/training/file_system.h"

namespace minibert {

/// One file of a checkpoint, written by a function of its path, which returns the sum of the bytes as
/// they were in memory.
struct CheckpointFile {
  std::string name;
  std::function<FileSum(const std::filesystem::path&)> write;
};

struct StoredCheckpoint {
  int64_t step = 0;
  std::filesystem::path path;
};

class CheckpointStore {
 public:
  /// Checkpoints of `run_folder`, which exists. `files` outlives the store.
  CheckpointStore(std::filesystem::path run_folder, FileSystem& files);

  /// Writes checkpoint-STEP with `contents`, in place of one of that step if there is, and points
  /// `latest` to it.
  /// Errors: CheckpointError: nothing of it stays, and what was there before is as it was.
  void save(int64_t step, const std::vector<CheckpointFile>& contents);
  /// Makes the link `name` point to checkpoint-STEP, if that is there.
  void point(const std::string& name, int64_t step);
  /// Deletes all but the `keep_last` newest and those of `keep_steps`.
  void rotate(int64_t keep_last, const std::set<int64_t>& keep_steps);

  /// All folders checkpoint-N, newest first, verified or not.
  std::vector<StoredCheckpoint> list() const;
  /// The newest that verifies; `complaints` gets a line for each newer one that doesn't.
  std::optional<StoredCheckpoint> newest_good(std::vector<std::string>& complaints) const;
  /// Renames checkpoints later than `step` to abandoned-checkpoint-N[.K], so that a run that goes
  /// on from an earlier one can't be mixed up with them. Returns their new names.
  std::vector<std::string> set_aside_after(int64_t step);
  /// Deletes what a killed save or rotation left behind. Only under the run's lock.
  void remove_leftovers();

 private:
  std::filesystem::path folder_;
  FileSystem& files_;
};

/// Folder that a path given by a user means: a checkpoint itself, `latest`, or the newest good one
/// of a run folder. Errors: CheckpointError.
std::filesystem::path find_checkpoint(const std::filesystem::path& path,
                                      std::vector<std::string>& complaints);

}  // namespace minibert
