// checkpoint_writer.h: writes checkpoints on a thread of its own while training goes on.
// Called by trainer.cpp. One is under way at a time; waiting for it, and copying, is the stall that
// the log prints. Easy to break: errors of the thread come back from finish(), never out of it.
// Test: ctest -R checkpoint_test.
#pragma once

#include <future>
#include <memory>
#include <optional>
#include <string>

#include "models/training/checkpoint.h"

namespace minibert {

class CheckpointWriter {
 public:
  /// `store` outlives the writer. Keeps `keep_last` checkpoints, and the best.
  CheckpointWriter(CheckpointStore& store, int64_t keep_last);
  ~CheckpointWriter();  // waits
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Starts to write this one. None may be under way.
  void start(std::shared_ptr<const Snapshot> snapshot);
  /// Whether a write was started and its end was not yet asked for by finish().
  bool busy() const { return under_way_.valid(); }
  /// Whether it is busy and finish() would not wait.
  bool done() const;
  /// Waits for the write under way. Returns what went wrong, if anything did.
  std::optional<std::string> finish();

 private:
  void write(std::shared_ptr<const Snapshot> snapshot);

  CheckpointStore& store_;
  const int64_t keep_last_;
  std::future<void> under_way_;
};

}  // namespace minibert
