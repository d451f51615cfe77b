// memory_functions.h: CUDA's loads and stores with cache hints, which are plain ones here, and its
// atomics on whole numbers. Float atomics are left out: their order would decide a result's bits,
// and no kernel of the project may use them. Blocks run one after another, so an atomic needs no
// lock. Source: CUDA C++ Programming Guide, 10.10 to 10.14. Test: ctest -R engine_memory_functions.
#pragma once

#include <algorithm>
#include <concepts>

namespace simt {

template <typename T>
concept AtomicWord =
    std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;
/// *address = next; returns what was there.
template <typename T>
T exchange(T* address, T next) {
  const T before = *address;
  *address = next;
  return before;
}

}  // namespace simt

#define SIMT_LOAD(name)             \
  template <typename T>             \
  inline T name(const T* address) { \
    return *address;                \
  }
#define SIMT_STORE(name)                         \
  template <typename T>                          \
  inline void name(T* address, const T& value) { \
    *address = value;                            \
  }
SIMT_LOAD(__ldg)
SIMT_LOAD(__ldca)
SIMT_LOAD(__ldcg)
SIMT_LOAD(__ldcs)
SIMT_LOAD(__ldlu)
SIMT_LOAD(__ldcv)
SIMT_STORE(__stwb)
SIMT_STORE(__stcg)
SIMT_STORE(__stcs)
SIMT_STORE(__stwt)
#undef SIMT_LOAD
#undef SIMT_STORE

template <simt::AtomicWord T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, static_cast<T>(static_cast<unsigned long long>(*address) +
                                                static_cast<unsigned long long>(value)));
}
template <simt::AtomicWord T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, static_cast<T>(static_cast<unsigned long long>(*address) -
                                                static_cast<unsigned long long>(value)));
}
template <simt::AtomicWord T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, static_cast<T>(value));
}
template <simt::AtomicWord T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, std::min<T>(*address, value));
}
template <simt::AtomicWord T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, std::max<T>(*address, value));
}
template <simt::AtomicWord T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, static_cast<T>(*address & value));
}
template <simt::AtomicWord T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, static_cast<T>(*address | value));
}
template <simt::AtomicWord T>
T atomicXor(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, static_cast<T>(*address ^ value));
}
template <simt::AtomicWord T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  return simt::exchange(address, *address == compare ? static_cast<T>(value) : *address);
}
/// Counts up to `last`, then from 0 again; down from `last`.
inline unsigned atomicInc(unsigned* address, unsigned last) {
  return simt::exchange(address, *address >= last ? 0u : *address + 1);
}
inline unsigned atomicDec(unsigned* address, unsigned last) {
  return simt::exchange(address, *address == 0 || *address > last ? last : *address - 1);
}
