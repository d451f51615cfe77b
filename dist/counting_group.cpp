// counting_group.cpp: the table of costs in ring.h as code.
#include "dist/counting_group.h"

namespace minibert {

int64_t ring_bytes_sent(CollectiveKind kind, const Elements& data, int rank, int world, int root) {
  const auto block = [&](int number) {
    return static_cast<int64_t>(data.block(number % world, world).size());
  };
  const auto n = static_cast<int64_t>(data.size());
  switch (kind) {
    case CollectiveKind::all_reduce:
      return 2 * n - block(rank) - block(rank + 1);
    case CollectiveKind::reduce_scatter:
      return n - block(rank);
    case CollectiveKind::all_gather:
      return n - block(rank + 1);
    case CollectiveKind::broadcast:
      return (rank + 1) % world == root ? 0 : n;
    case CollectiveKind::barrier:
      return 0;
  }
  return 0;
}

void CountingGroup::start(std::shared_ptr<Work> work) {
  const Collective& collective = work->collective();
  bytes_sent_ +=
      ring_bytes_sent(collective.kind, collective.data, rank(), world(), collective.root);
  work->finish();
}

}  // namespace minibert
