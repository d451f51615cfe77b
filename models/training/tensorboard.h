// tensorboard.h: the run's curves as TensorBoard event files, beside metrics.jsonl and from the same
// records. Called by run_journal.cpp; rank 0 alone writes. Each launch has a file of its own,
// events.out.tfevents.SECONDS.HOST.PROCESS.0; readers take them in the order of their names, so a
// new file's seconds are later than those of the files before it. On resume files are cut back as
// metrics.jsonl is, whatever the reader then knows of restarts, and the new file begins with
// SessionLog START, by which a TensorBoard that has read the old ones forgets the steps that come
// again. Easy to break: a record is one write, so that kill -9 never cuts one in two; a power cut
// can, and a record that is cut must not come before others, since readers stop there.
// Values are f32 (TensorBoard's simple_value): metrics.jsonl has all digits.
// Tags: train/{loss, mlm_loss, mlm_accuracy, nsp_loss, nsp_accuracy}, optim/{learning_rate,
// grad_norm}, scale/{loss_scale, skipped_steps}, throughput/{sequences_per_second,
// tokens_per_second, step_seconds, data_seconds}, communication/{seconds, exposed_seconds},
// eval/NAME/{mlm_loss, ...}, trust_ratio/TENSOR.
// Test: ctest -R tensorboard.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/training/event_file.h"
#include "models/training/metrics.h"

namespace minibert {

/// The scalars of a record: those of metrics.jsonl, rates per second, and each evaluation's. What a
/// record lacks (no NSP) has no tag.
std::vector<std::pair<std::string, float>> scalars_of(const StepRecord& record);

/// "events.out.tfevents.": how the names of all event files begin.
inline constexpr const char* kEventFilePrefix = "events.out.tfevents.";

/// Cuts the folder's event files back: scalars after `last_record` and trust ratios after
/// `last_step` go, and so does what is damaged. Errors: CheckpointError.
void cut_event_files(const std::filesystem::path& folder, int64_t last_record, int64_t last_step);

class TensorBoardWriter {
 public:
  /// For steps after `last_step`, into `folder`, whose event files have been cut back. The new file
  /// begins with the first event, so a launch without a step leaves none.
  TensorBoardWriter(std::filesystem::path folder, int64_t last_step);

  /// Each one write. Errors: CheckpointError (disk full).
  void write(const StepRecord& record);
  void write_trust_ratios(int64_t step, std::vector<std::pair<std::string, float>> ratios);
  /// fsync. Errors: CheckpointError.
  void sync();

 private:
  void append(ScalarEvent event);

  std::filesystem::path folder_;
  int64_t first_step_;  // of this launch
  int64_t newest_ = 0;  // seconds in the name of the newest file before
  std::optional<LineWriter> file_;
};

}  // namespace minibert
