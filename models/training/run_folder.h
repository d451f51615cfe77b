// run_folder.h: the folder of a run: who may write there, and the files that describe the run.
// Called by trainer.cpp. Holds config.resolved.toml, run.json (one entry per launch), metrics.jsonl,
// trust_ratios.jsonl, event files (tensorboard.h), gemm_choices.txt (device cuda), logs/ (two files of
// each rank; rank 0 alone writes the rest), checkpoint-STEP/, latest, best and .lock. Easy to break:
// nothing is written before the lock is held, and the lock is held as long as the object lives.
// Test: ctest -R run_folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/training/environment.h"
#include "models/training/file_system.h"

namespace minibert {

inline constexpr int kRunFormatVersion = 1;

class RunFolder {
 public:
  /// Creates the folder if need be and takes its lock. Files left by a launch that completed no
  /// step (logs, run.json) are ignored. Errors: UsageError if another process holds the lock
  /// (naming it), if the folder can't be created, if it isn't empty and `may_exist` is false, or if
  /// it isn't empty and holds no run (neither run.json nor checkpoints) though `may_exist` is true.
  RunFolder(const std::filesystem::path& path, bool may_exist, FileSystem& files);
  /// Throws what the constructor would throw, without writing anything. Takes no lock, so another
  /// process may still take it.
  static void check(const std::filesystem::path& path, bool may_exist);
  /// As another rank than 0 has it, once rank 0 holds the lock: a place for its log.
  static RunFolder of_rank(int rank, const std::filesystem::path& path, FileSystem& files);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path trust_ratios() const { return path_ / "trust_ratios.jsonl"; }
  std::filesystem::path gemm_choices() const { return path_ / "gemm_choices.txt"; }
  std::filesystem::path log() const;

  /// Writes config.resolved.toml and adds this launch to run.json: arguments, build, machine,
  /// MINIBERT_* variables, the step it starts from.
  void describe_launch(const RunEnvironment& now, const std::string& resolved_config,
                       const std::vector<std::string>& arguments, int64_t first_step,
                       const char* const* environment);

 private:
  RunFolder(int rank, const std::filesystem::path& path, FileSystem& files);

  std::filesystem::path path_;
  FileSystem& files_;
  int rank_ = 0;
  int lock_ = -1;
};

}  // namespace minibert
