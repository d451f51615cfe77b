// communication.h: what summing a step's gradients over ranks took on this one: measured by
// gradient_buckets.h and gradient_tree.h, shown by the log line and metrics.jsonl. Easy to break:
// both are of one rank, which also waits for ranks that are slower.
#pragma once

namespace minibert {

struct Communication {
  double seconds = 0;          // in which a collective ran
  double exposed_seconds = 0;  // in which the rank had nothing else to do
};

}  // namespace minibert
