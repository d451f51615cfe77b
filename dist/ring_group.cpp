// ring_group.cpp: a ring in the host's memory, run by the group's thread.
#include "dist/ring_group.h"

#include <span>

#include "dist/ring.h"

namespace minibert {

RingGroup::RingGroup(std::unique_ptr<Transport> transport, Blame blame)
    : QueuedGroup(transport->rank(), transport->world(), std::move(blame)),
      transport_(std::move(transport)) {}

void RingGroup::execute(const Collective& collective) {
  int64_t meeting_point = 1;
  ring_collective(*transport_, collective, Elements(std::span(&meeting_point, 1)));
}

}  // namespace minibert
