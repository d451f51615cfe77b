// run_journal.h: what a run records step by step: metrics.jsonl, trust_ratios.jsonl, TensorBoard's
// event files, log lines and the progress bar. Called by trainer.cpp after each step. Easy to break: on
// resume the files are cut back to the checkpoint's step, so that the curve has no step twice.
// Test: ctest -R trainer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/arena.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/kernels/optimizer.h"
#include "models/training/config.h"
#include "models/training/metrics.h"
#include "models/training/phases.h"
#include "models/training/run_folder.h"
#include "models/training/run_log.h"
#include "models/training/tensorboard.h"

namespace minibert {

class RunJournal {
 public:
  /// Rank 0 writes records and lines; the others write their log file alone.
  RunJournal(const RunFolder& folder, const TrainConfig& config, const std::vector<Phase>& phases,
             bool json, int rank = 0, int world = 1);

  RunLog& log() { return log_; }
  /// Cuts metrics.jsonl after `last_record` and trust_ratios.jsonl after `last_step`, event files
  /// alike, and opens them; probes the peak that rates are compared with. Errors: CheckpointError.
  void open(int64_t last_record, int64_t last_step);
  /// Counts a step for the rates of the next log line.
  void count(const StepRecord& record, double flops);
  /// Writes the step's record, and its log line where one is due. Errors: CheckpointError.
  void write(const StepRecord& record);
  /// {"step": 100, "tensors": {NAME: {"weight_norm", "update_norm", "trust_ratio"}}}, where due.
  void write_trust_ratios(int64_t step, const ParameterTable& table,
                          const std::vector<TensorNorms>& norms);
  /// Syncs the records to disk. Called before the checkpoint that relies on them is written.
  void sync();

 private:
  void cut_back(const std::filesystem::path& path, int64_t last_step);
  void log_step(const StepRecord& record);

  const RunFolder& folder_;
  const TrainConfig& config_;
  const std::vector<Phase>& phases_;
  const int rank_, world_;
  Device device_;
  RunLog log_;
  std::optional<LineWriter> metrics_, trust_ratios_;
  std::optional<TensorBoardWriter> events_;
  double peak_flops_ = 0;     // FLOP/s of all ranks, probed
  int64_t memory_limit_ = 0;  // bytes that the device has
  double last_line_ = 0;      // seconds; and since then:
  int64_t sequences_ = 0, steps_ = 0;
  double flops_ = 0, communication_ = 0, exposed_ = 0;
};

}  // namespace minibert
