// ring.cpp: the two halves of the ring, and what is made of them.
#include "dist/ring.h"

#include <vector>

namespace minibert {
namespace {

/// A rank's place in the ring.
struct Place {
  explicit Place(const Transport& transport) : rank(transport.rank()), world(transport.world()) {}
  int right() const { return wrapped(rank + 1); }
  int left() const { return wrapped(rank - 1); }
  int wrapped(int number) const { return (number % world + world) % world; }
  Elements block(const Elements& data, int number) const {
    return data.block(wrapped(number), world);
  }

  const int rank, world;
};

}  // namespace

void ring_reduce_scatter(Transport& transport, const Elements& data, uint64_t tag) {
  const Place place(transport);
  std::vector<std::byte> arrived(data.block(0, place.world).size());  // no block is larger
  for (int step = 0; step < place.world - 1; ++step) {
    const Elements sent = place.block(data, place.rank - step - 1);
    const Elements mine = place.block(data, place.rank - step - 2);
    transport.send(place.right(), sent.bytes(), tag);
    transport.receive(place.left(), std::span(arrived).first(mine.size()), tag);
    transport.finish();
    add_elements(mine.type, mine.data, arrived.data(), mine.data, mine.count);
  }
}

void ring_all_gather(Transport& transport, const Elements& data, uint64_t tag) {
  const Place place(transport);
  for (int step = 0; step < place.world - 1; ++step) {
    transport.send(place.right(), place.block(data, place.rank - step).bytes(), tag);
    transport.receive(place.left(), place.block(data, place.rank - step - 1).bytes(), tag);
    transport.finish();
  }
}

void ring_all_reduce(Transport& transport, const Elements& data, uint64_t tag) {
  ring_reduce_scatter(transport, data, tag);
  ring_all_gather(transport, data, tag);
}

void ring_broadcast(Transport& transport, const Elements& data, int root, uint64_t tag) {
  const Place place(transport);
  if (place.rank != root) {
    transport.receive(place.left(), data.bytes(), tag);
    transport.finish();
  }
  if (place.right() != root) {
    transport.send(place.right(), data.bytes(), tag);
    transport.finish();
  }
}

void ring_barrier(Transport& transport, uint64_t tag) {
  int64_t here = 1;
  ring_all_reduce(transport, Elements{std::span(&here, 1)}, tag);
}

}  // namespace minibert
