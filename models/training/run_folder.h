// run_folder.h: the folder of a run: who may write there, and the files that describe it.
// Called by trainer.cpp. Holds config.resolved.toml, run.json (one entry a launch), metrics.jsonl,
// trust_ratios.jsonl, logs/rank-0.log, checkpoint-STEP/, latest, and .lock. Easy to break: nothing
// is written before the lock is held, and the lock lasts as long as the object.
// Test: ctest -R run_folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/training/file_system.h"

namespace minibert {

inline constexpr int kRunFormatVersion = 1;

class RunFolder {
 public:
  /// Makes the folder if need be and takes its lock. What a launch leaves that did no step (logs,
  /// run.json) counts as nothing. Errors: UsageError naming the process that holds it; or the
  /// folder can't be made; or it isn't empty and `may_exist` is false; or it isn't empty and holds
  /// no run (neither run.json nor checkpoints) though `may_exist` is true.
  RunFolder(const std::filesystem::path& path, bool may_exist, FileSystem& files);
  /// Throws what the constructor would, without writing anything (another process may still come).
  static void check(const std::filesystem::path& path, bool may_exist);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path trust_ratios() const { return path_ / "trust_ratios.jsonl"; }
  std::filesystem::path log() const { return path_ / "logs" / "rank-0.log"; }

  /// Writes config.resolved.toml and adds this launch to run.json: arguments, build, machine,
  /// MINIBERT_* variables, the step it starts from.
  void describe_launch(const std::string& resolved_config,
                       const std::vector<std::string>& arguments, int64_t first_step,
                       const char* const* environment);

 private:
  std::filesystem::path path_;
  FileSystem& files_;
  int lock_ = -1;
};

/// What the bits of a run depend on beside its configuration. Kept in each checkpoint.
struct RunEnvironment {
  std::string version, commit, compiler, libraries, simd, gemm;
  int threads = 0;
  bool operator==(const RunEnvironment&) const = default;
};
RunEnvironment current_environment();
/// "threads 2 -> 1, instruction set v4 -> v3"; "" if equal.
std::string differences(const RunEnvironment& before, const RunEnvironment& now);

/// "AMD EPYC 9B45", as /proc/cpuinfo has it.
std::string cpu_name();
/// Bytes of memory that this process may use: the machine's, or its cgroup's limit if smaller.
int64_t memory_limit();

}  // namespace minibert
