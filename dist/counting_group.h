// counting_group.h: a group of ranks of which only one is there: each of its collectives is done at
// the call, and the bytes that this rank would send are added up. For dry runs (core/dry_run.h), which
// ask what a step of many ranks takes. Easy to break: nothing is summed or copied, so whoever reads
// the data gets what was there. Test: ctest -R dist_ring, which compares with what the ring's
// transport carries.
#pragma once

#include "dist/process_group.h"

namespace minibert {

/// Bytes that a rank sends in a collective over the ring (ring.h, table of costs), which no other
/// algorithm sends less of. A barrier sends nothing.
int64_t ring_bytes_sent(CollectiveKind kind, const Elements& data, int rank, int world,
                        int root = 0);

class CountingGroup : public ProcessGroup {
 public:
  CountingGroup(int rank, int world) : ProcessGroup(rank, world) {}
  const char* name() const override { return "counting"; }

  int64_t bytes_sent() const { return bytes_sent_; }
  void reset() { bytes_sent_ = 0; }

 protected:
  void start(std::shared_ptr<Work> work) override;

 private:
  int64_t bytes_sent_ = 0;
};

}  // namespace minibert
