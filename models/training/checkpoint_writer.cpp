// checkpoint_writer.cpp: one background job.
#include "models/training/checkpoint_writer.h"

#include <chrono>
#include <set>

#include "core/error.h"

namespace minibert {

CheckpointWriter::CheckpointWriter(CheckpointStore& store, int64_t keep_last)
    : store_(store), keep_last_(keep_last) {}

CheckpointWriter::~CheckpointWriter() {
  if (under_way_.valid()) under_way_.wait();
}

void CheckpointWriter::start(std::shared_ptr<const Snapshot> snapshot) {
  MB_ASSERT(!busy(), "checkpoint writer: a write is under way");
  under_way_ =
      std::async(std::launch::async, [this, snapshot = std::move(snapshot)] { write(snapshot); });
}

bool CheckpointWriter::done() const {
  return busy() && under_way_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

std::optional<std::string> CheckpointWriter::finish() {
  if (!under_way_.valid()) return std::nullopt;
  try {
    under_way_.get();
    return std::nullopt;
  } catch (const std::exception& error) {
    return error.what();
  }
}

void CheckpointWriter::write(std::shared_ptr<const Snapshot> snapshot) {
  const auto best = snapshot->best();
  store_.save(snapshot->step(), Snapshot::files(snapshot));
  if (best) store_.point("best", best->step);
  store_.rotate(keep_last_, best ? std::set<int64_t>{best->step} : std::set<int64_t>{});
}

}  // namespace minibert
