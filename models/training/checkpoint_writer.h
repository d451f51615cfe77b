// checkpoint_writer.h: writes checkpoints on a thread of its own while training continues.
// Called by trainer.cpp. One write is under way at a time; the stall that the log prints is the
// wait for the previous write and the copy of the state. Easy to break: finish() returns the
// thread's error and never throws it.
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
  /// `store` outlives the writer. Keeps the last `keep_last` checkpoints and the best.
  CheckpointWriter(CheckpointStore& store, int64_t keep_last);
  ~CheckpointWriter();  // waits
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Starts to write this snapshot. No write may be under way.
  void start(std::shared_ptr<const Snapshot> snapshot);
  /// Whether a write was started and finish() was not called since.
  bool busy() const { return under_way_.valid(); }
  /// Whether busy() and finish() would not have to wait.
  bool done() const;
  /// Waits for the write under way. Returns its error, if it failed.
  std::optional<std::string> finish();

 private:
  void write(std::shared_ptr<const Snapshot> snapshot);

  CheckpointStore& store_;
  const int64_t keep_last_;
  std::future<void> under_way_;
};

}  // namespace minibert
