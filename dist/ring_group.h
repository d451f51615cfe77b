// ring_group.h: a process group made of dist/ring.h over any transport. Test: ctest -R dist_ring.
#pragma once

#include <memory>

#include "dist/queued_group.h"
#include "dist/transport.h"

namespace minibert {

class RingGroup : public QueuedGroup {
 public:
  explicit RingGroup(std::unique_ptr<Transport> transport, Blame blame = nullptr);
  ~RingGroup() override { stop(); }
  const char* name() const override { return "ring"; }

 private:
  void execute(const Collective& collective) override;

  const std::unique_ptr<Transport> transport_;
};

}  // namespace minibert
