// communication.h: the time that this rank spent on a step's communication: summing gradients over
// ranks and, with --shard-optimizer, bringing weights from their owners. Measured by
// gradient_buckets.h, gradient_tree.h and weight_gather.h, shown by the log line and metrics.jsonl.
// On a device, marks in streams measure it; they are read when the host has waited for the step
// anyway. Easy to break: both figures are one rank's, and include its waiting for slower ranks.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "dist/process_group.h"

namespace minibert {

struct Communication {
  double seconds = 0;          // in which a collective ran
  double exposed_seconds = 0;  // in which the rank had nothing else to do

  Communication& operator+=(const Communication& more) {
    seconds += more.seconds, exposed_seconds += more.exposed_seconds;
    return *this;
  }
};

class CommunicationClock {
 public:
  explicit CommunicationClock(Device device = Device::cpu) : device_(device) {}
  /// Waits for the collective (Handle::wait), with nothing else to do, and keeps the handle. Errors:
  /// CommError; then the handle stays with the caller, who hears it again at the next wait.
  void wait(Handle& handle);
  /// Of all that it waited for. On a device: once the host has waited for that.
  Communication read() const;

 private:
  using Mark = std::shared_ptr<void>;
  Mark mark() const;

  Device device_;
  std::vector<Handle> handles_;
  double exposed_seconds_ = 0;
  std::vector<std::pair<Mark, Mark>> waits_;  // on a device: around each
};

}  // namespace minibert
