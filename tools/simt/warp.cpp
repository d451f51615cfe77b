// warp.cpp: how lanes meet, and what votes and reductions compute.
// A warp keeps a slot for each mask for which lanes gather; the slot is free again as soon as the
// last lane came, since results are written before anyone goes on. Test: ctest -R simt_engine_warp.
#include "tools/simt/warp.h"

#include <algorithm>
#include <bit>

namespace simt {
namespace {

/// Lanes gather for another mask already: finds the slot of this one, or a free one.
int find_slot(Warp& warp, uint32_t mask) {
  for (uint32_t used = warp.meetings; used; used &= used - 1) {
    const int slot = std::countr_zero(used);
    if (warp.meeting[slot].mask == mask) return slot;
  }
  const int slot = std::countr_one(warp.meetings);
  warp.meetings |= 1u << slot;
  warp.meeting[slot] = {mask, 0, nullptr};
  return slot;
}

[[noreturn, gnu::cold]] void different_operations(const Operation& operation, const Thread& other,
                                                  Place place) {
  fail("lanes of a warp meet in different functions: " + std::string(operation.name) + " at " +
       to_string(place) + ", but " + other.waits_in + " at " + to_string(other.place));
}

[[noreturn, gnu::cold]] void different_places(const Operation& operation, const Thread& other,
                                              Place place) {
  fail(std::string(operation.name) + ": lanes of a warp call it at different places, " +
       to_string(place) + " and " + to_string(other.place) + "; all 32 must make the same call");
}

[[noreturn, gnu::cold]] void wrong_mask(const Operation& operation, uint32_t mask, Place place) {
  if (operation.aligned)
    fail(std::string(operation.name) + " at " + to_string(place) +
         ": needs 32 lanes, but the block's last warp is short");
  fail(std::string(operation.name) + " at " + to_string(place) + ": the mask names lanes " +
       ranges(&mask, 1) + ", and the caller is lane " + std::to_string(this_lane()));
}

uint32_t value_of(const Thread& lane) {
  return *static_cast<const uint32_t*>(lane.operand);
}

/// Folds the operands with `fold`, and gives the result to every lane.
template <typename Fold>
void reduce(Thread* lanes, uint32_t mask, const Fold& fold) {
  uint32_t left = mask;
  uint32_t result = value_of(lanes[std::countr_zero(left)]);
  for (left &= left - 1; left; left &= left - 1)
    result = fold(result, value_of(lanes[std::countr_zero(left)]));
  for (left = mask; left; left &= left - 1)
    *static_cast<uint32_t*>(lanes[std::countr_zero(left)].result) = result;
}

void ballot(Thread* lanes, uint32_t mask) {
  uint32_t votes = 0;
  for (uint32_t left = mask; left; left &= left - 1)
    if (value_of(lanes[std::countr_zero(left)])) votes |= left & -left;
  for (uint32_t left = mask; left; left &= left - 1)
    *static_cast<uint32_t*>(lanes[std::countr_zero(left)].result) = votes;
}

void match_any(Thread* lanes, uint32_t mask) {
  for (uint32_t left = mask; left; left &= left - 1) {
    const Thread& lane = lanes[std::countr_zero(left)];
    uint32_t equal = 0;
    for (uint32_t other = mask; other; other &= other - 1)
      if (value_of(lanes[std::countr_zero(other)]) == value_of(lane)) equal |= other & -other;
    *static_cast<uint32_t*>(lane.result) = equal;
  }
}

}  // namespace

void meet(const Operation& operation, uint32_t mask, const void* operand, void* result,
          Place place) {
  Scheduler& s = scheduler;
  Thread& self = *s.current;
  Warp& warp = s.warp[self.warp];
  const uint32_t bit = 1u << self.lane, present = mask & warp.lanes;
  if (!(present & bit) || (operation.aligned && present != ~0u)) [[unlikely]]
    wrong_mask(operation, mask, place);
  int slot = 0;  // the usual case: nobody gathers for another mask
  if (warp.meetings != 1 || warp.meeting[0].mask != present) slot = find_slot(warp, present);
  Meeting& meeting = warp.meeting[slot];
  if (meeting.arrived) {
    const Thread& other = s.thread[self.warp * kLanes + std::countr_zero(meeting.arrived)];
    if (meeting.operation != &operation) [[unlikely]]
      different_operations(operation, other, place);
    if (operation.aligned && !same(place, other.place)) [[unlikely]]
      different_places(operation, other, place);
  }
  meeting.operation = &operation;
  meeting.arrived |= bit;
  self.operand = operand;
  self.result = result;
  self.mask = present;
  if (meeting.arrived != present) {
    wait(operation.name, place);
    return;
  }
  warp.meetings &= ~(1u << slot);
  if (operation.compute) operation.compute(&s.thread[self.warp * kLanes], present);
  make_ready(self.warp, present);
  yield();
}

uint32_t vote(const Operation& operation, uint32_t mask, uint32_t operand, Place place) {
  uint32_t result;
  meet(operation, mask, &operand, &result, place);
  return result;
}

void wrong_width(int width) {
  fail("shuffle: width is " + std::to_string(width) + ", expected 2, 4, 8, 16 or 32");
}

template <auto fold>
void reduce_by(Thread* lanes, uint32_t mask) {
  reduce(lanes, mask, fold);
}
using U = uint32_t;
using S = int32_t;
const Operation kSyncWarp{"__syncwarp", nullptr};
const Operation kBallot{"__ballot_sync", ballot};
const Operation kAny{"__any_sync", reduce_by<[](U a, U b) { return a | b; }>};
const Operation kAll{"__all_sync", reduce_by<[](U a, U b) { return a & b; }>};
const Operation kAddReduce{"__reduce_add_sync", reduce_by<[](U a, U b) { return a + b; }>};
const Operation kMinSigned{"__reduce_min_sync",
                           reduce_by<[](U a, U b) { return U(std::min(S(a), S(b))); }>};
const Operation kMaxSigned{"__reduce_max_sync",
                           reduce_by<[](U a, U b) { return U(std::max(S(a), S(b))); }>};
const Operation kMinUnsigned{"__reduce_min_sync",
                             reduce_by<[](U a, U b) { return std::min(a, b); }>};
const Operation kMaxUnsigned{"__reduce_max_sync",
                             reduce_by<[](U a, U b) { return std::max(a, b); }>};
const Operation kAndReduce{"__reduce_and_sync", reduce_by<[](U a, U b) { return a & b; }>};
const Operation kOrReduce{"__reduce_or_sync", reduce_by<[](U a, U b) { return a | b; }>};
const Operation kXorReduce{"__reduce_xor_sync", reduce_by<[](U a, U b) { return a ^ b; }>};
const Operation kMatchAny{"__match_any_sync", match_any};

}  // namespace simt
