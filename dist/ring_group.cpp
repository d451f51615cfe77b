// ring_group.cpp: each collective is one of the ring's functions.
#include "dist/ring_group.h"

#include "dist/ring.h"

namespace minibert {

RingGroup::RingGroup(std::unique_ptr<Transport> transport, Blame blame)
    : QueuedGroup(transport->rank(), transport->world(), std::move(blame)),
      transport_(std::move(transport)) {}

void RingGroup::execute(const Collective& collective) {
  const auto tag = static_cast<uint64_t>(collective.sequence);
  switch (collective.kind) {
    case CollectiveKind::all_reduce:
      return ring_all_reduce(*transport_, collective.data, tag);
    case CollectiveKind::reduce_scatter:
      return ring_reduce_scatter(*transport_, collective.data, tag);
    case CollectiveKind::all_gather:
      return ring_all_gather(*transport_, collective.data, tag);
    case CollectiveKind::broadcast:
      return ring_broadcast(*transport_, collective.data, collective.root, tag);
    case CollectiveKind::barrier:
      return ring_barrier(*transport_, tag);
  }
}

}  // namespace minibert
