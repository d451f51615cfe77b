// checkpoint_store.h: the checkpoint folders of a run: each appears complete or not at all, is
// verified before use, and rotation always keeps the newest good one.
// Called by checkpoint_writer.cpp (save, rotate) and resume.cpp (find, set aside). The order of a
// save; each line is durable before the next begins:
//   .tmp-checkpoint-STEP/   every file written and synced; MANIFEST.json last; read back, compared
//   rename to checkpoint-STEP, sync of the run folder
//   latest -> checkpoint-STEP, replaced by a rename, sync
//   rotation: rename to .old-checkpoint-N, sync, delete
// Easy to break: a crash may come between any two of these lines.
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

/// One file of a checkpoint. `write` gets its path and returns the checksum of the bytes in memory,
/// not of those on disk.
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

  /// Writes checkpoint-STEP with `contents` and points `latest` to it. Replaces a checkpoint of the
  /// same step. Errors: CheckpointError; then earlier checkpoints are unchanged and nothing of this
  /// one remains.
  void save(int64_t step, const std::vector<CheckpointFile>& contents);
  /// Makes the link `name` point to checkpoint-STEP, if that exists.
  void point(const std::string& name, int64_t step);
  /// Deletes all but the `keep_last` newest and those of `keep_steps`.
  void rotate(int64_t keep_last, const std::set<int64_t>& keep_steps);

  /// All folders checkpoint-N, newest first, verified or not.
  std::vector<StoredCheckpoint> list() const;
  /// The newest that verifies. Adds a line to `complaints` for each newer one that doesn't.
  std::optional<StoredCheckpoint> newest_good(std::vector<std::string>& complaints) const;
  /// Renames checkpoints later than `step` to abandoned-checkpoint-N[.K], so that a run resumed
  /// from an earlier one can't be mixed up with them. Returns their new names.
  std::vector<std::string> set_aside_after(int64_t step);
  /// Deletes what a killed save or rotation left. Call it only under the run's lock.
  void remove_leftovers();

 private:
  std::filesystem::path folder_;
  FileSystem& files_;
};

/// The checkpoint that a user's path means: a checkpoint folder, `latest`, or a run folder (then
/// its newest good checkpoint). Errors: CheckpointError.
std::filesystem::path find_checkpoint(const std::filesystem::path& path,
                                      std::vector<std::string>& complaints);

}  // namespace minibert
