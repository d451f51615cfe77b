// warp.h: the functions of a warp, as a meeting of its lanes: each lane leaves a pointer to its
// operand and one to its result, and waits; the last to come computes for all and wakes them. Called
// by kernels under CUDA's own names. A shuffle takes any trivially copyable type. Easy to break: what
// a lane gets from one that is not in the mask is undefined on a GPU; here it is all ones, a NaN.
// Source: CUDA C++ Programming Guide, 10.22 (shuffle), 10.19 (vote), 10.20 (match), 10.21 (reduce).
// Test: ctest -R simt_engine_warp.
#pragma once

#include <cstring>
#include <type_traits>

#include "tools/simt/scheduler.h"

namespace simt {

/// The calling lane meets the others of `mask`; returns when the operation is computed.
void meet(const Operation& operation, uint32_t mask, const void* operand, void* result,
          Place place);

template <typename T>
struct ShuffleOperand {
  T value;
  int source;  // lane to read
};
template <typename T>
void compute_shuffle(Thread* lanes, uint32_t mask) {
  using Operand = ShuffleOperand<T>;
  for (uint32_t left = mask; left; left &= left - 1) {
    Thread& lane = lanes[__builtin_ctz(left)];
    const int source = static_cast<const Operand*>(lane.operand)->source;
    if (mask >> source & 1) {
      std::memcpy(lane.result, &static_cast<const Operand*>(lanes[source].operand)->value,
                  sizeof(T));
    } else {
      std::memset(lane.result, 0xFF, sizeof(T));
    }
  }
}
template <typename T>
inline constexpr Operation kShuffle = {"__shfl_sync", compute_shuffle<T>};
template <typename T>
inline constexpr Operation kShuffleUp = {"__shfl_up_sync", compute_shuffle<T>};
template <typename T>
inline constexpr Operation kShuffleDown = {"__shfl_down_sync", compute_shuffle<T>};
template <typename T>
inline constexpr Operation kShuffleXor = {"__shfl_xor_sync", compute_shuffle<T>};

template <typename T>
T shuffle(const Operation& operation, uint32_t mask, T value, int source, Place place) {
  static_assert(std::is_trivially_copyable_v<T>, "a shuffle copies bytes");
  const ShuffleOperand<T> operand{value, source};
  T result;
  meet(operation, mask, &operand, &result, place);
  return result;
}
inline int this_lane() {
  return scheduler.current->lane;
}
[[noreturn, gnu::cold]] void wrong_width(int width);
/// First lane of the caller's segment of `width` lanes. Fails unless width is 2, 4, 8, 16 or 32.
inline int segment(int width) {
  if (width < 2 || width > kLanes || (width & (width - 1))) [[unlikely]]
    wrong_width(width);
  return this_lane() & ~(width - 1);
}

/// What the votes and reductions of a warp compute from 32-bit operands.
uint32_t vote(const Operation& operation, uint32_t mask, uint32_t operand, Place place);
extern const Operation kBallot, kAny, kAll, kSyncWarp, kAddReduce, kMinSigned, kMaxSigned,
    kMinUnsigned, kMaxUnsigned, kAndReduce, kOrReduce, kXorReduce, kMatchAny;

}  // namespace simt

#define SIMT_PLACE ::simt::Place place = {__builtin_FILE(), __builtin_LINE()}

// ---- CUDA's names ------------------------------------------------------------------------------
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_PLACE) {
  const int first = simt::segment(width);
  return simt::shuffle(simt::kShuffle<T>, mask, value, first + (source & (width - 1)), place);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_PLACE) {
  const int lane = simt::this_lane(), source = lane - static_cast<int>(delta);
  return simt::shuffle(simt::kShuffleUp<T>, mask, value,
                       source < simt::segment(width) ? lane : source, place);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_PLACE) {
  const int lane = simt::this_lane(), source = lane + static_cast<int>(delta);
  return simt::shuffle(simt::kShuffleDown<T>, mask, value,
                       source >= simt::segment(width) + width ? lane : source, place);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SIMT_PLACE) {
  const int lane = simt::this_lane(), source = lane ^ lane_mask;
  return simt::shuffle(simt::kShuffleXor<T>, mask, value,
                       source >= simt::segment(width) + width ? lane : source, place);
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, SIMT_PLACE) {
  simt::meet(simt::kSyncWarp, mask, nullptr, nullptr, place);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_PLACE) {
  return simt::vote(simt::kBallot, mask, predicate != 0, place);
}
inline int __any_sync(unsigned mask, int predicate, SIMT_PLACE) {
  return static_cast<int>(simt::vote(simt::kAny, mask, predicate != 0, place));
}
inline int __all_sync(unsigned mask, int predicate, SIMT_PLACE) {
  return static_cast<int>(simt::vote(simt::kAll, mask, predicate != 0, place));
}
inline unsigned __match_any_sync(unsigned mask, unsigned value, SIMT_PLACE) {
  return simt::vote(simt::kMatchAny, mask, value, place);
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value, SIMT_PLACE) {
  return simt::vote(simt::kAddReduce, mask, value, place);
}
inline int __reduce_add_sync(unsigned mask, int value, SIMT_PLACE) {
  return static_cast<int>(simt::vote(simt::kAddReduce, mask, static_cast<unsigned>(value), place));
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, SIMT_PLACE) {
  return simt::vote(simt::kMinUnsigned, mask, value, place);
}
inline int __reduce_min_sync(unsigned mask, int value, SIMT_PLACE) {
  return static_cast<int>(simt::vote(simt::kMinSigned, mask, static_cast<unsigned>(value), place));
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, SIMT_PLACE) {
  return simt::vote(simt::kMaxUnsigned, mask, value, place);
}
inline int __reduce_max_sync(unsigned mask, int value, SIMT_PLACE) {
  return static_cast<int>(simt::vote(simt::kMaxSigned, mask, static_cast<unsigned>(value), place));
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, SIMT_PLACE) {
  return simt::vote(simt::kAndReduce, mask, value, place);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, SIMT_PLACE) {
  return simt::vote(simt::kOrReduce, mask, value, place);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, SIMT_PLACE) {
  return simt::vote(simt::kXorReduce, mask, value, place);
}
