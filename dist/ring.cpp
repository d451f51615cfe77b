// ring.cpp: the two halves of the ring, and what is made of them.
#include "dist/ring.h"

#include "core/error.h"
#include "core/kernels/elementwise.h"

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

/// What a kernel sees of elements on a device.
Operand operand_of(void* data, const Elements& like) {
  MB_ASSERT(like.type == ElementType::f32 || like.type == ElementType::bf16 ||
                like.type == ElementType::f16,
            "ring: no kernel adds {} on a device", name_of(like.type));
  Operand operand;
  operand.pointer = data;
  operand.dims[0] = like.count;
  operand.axes = 1;
  operand.type = like.type == ElementType::f32    ? DType::f32
                 : like.type == ElementType::bf16 ? DType::bf16
                                                  : DType::f16;
  operand.place = like.device;
  return operand;
}

/// data[i] += more[i], the same bits on every device.
void add_to(const Elements& data, void* more) {
  if (data.device == Device::cpu)
    return add_elements(data.type, data.data, more, data.data, data.count);
  if (data.count == 0) return;
  const Operand sum = operand_of(data.data, data);
  add_forward(operand_of(more, data), sum, sum);
}

}  // namespace

void ring_reduce_scatter(Transport& transport, const Elements& data, uint64_t tag) {
  const Place place(transport);
  std::byte* arrived = transport.room(data.block(0, place.world).size());  // no block is larger
  for (int step = 0; step < place.world - 1; ++step) {
    const Elements sent = place.block(data, place.rank - step - 1);
    const Elements mine = place.block(data, place.rank - step - 2);
    transport.send(place.right(), sent.bytes(), tag);
    transport.receive(place.left(), {arrived, mine.size()}, tag);
    transport.finish();
    add_to(mine, arrived);
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

void ring_collective(Transport& transport, const Collective& collective,
                     const Elements& meeting_point) {
  const auto tag = static_cast<uint64_t>(collective.sequence);
  switch (collective.kind) {
    case CollectiveKind::all_reduce:
      return ring_all_reduce(transport, collective.data, tag);
    case CollectiveKind::reduce_scatter:
      return ring_reduce_scatter(transport, collective.data, tag);
    case CollectiveKind::all_gather:
      return ring_all_gather(transport, collective.data, tag);
    case CollectiveKind::broadcast:
      return ring_broadcast(transport, collective.data, collective.root, tag);
    case CollectiveKind::barrier:
      return ring_all_reduce(transport, meeting_point, tag);
  }
}

}  // namespace minibert
