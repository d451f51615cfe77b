// elements_simd.h: loads and stores of f32, bf16 and f16 as f32 vectors, for *_simd.cpp files.
// The pointer's type chooses the conversion, so a kernel is written once, as a template over its
// element type E, and computes in f32. Everything is inlined into minibert::MB_SIMD_NAMESPACE.
// Easy to break: stores round to nearest even and keep NaN; the *_some forms never touch memory
// beyond `count` elements. Test: ctest -R kernels_cast (exhaustive, each instruction set).
#pragma once

#include <hwy/highway.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/dtype.h"

namespace minibert::MB_SIMD_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

// ---- Whole vectors -----------------------------------------------------------------------------
HWY_INLINE FloatVec load(FloatTag d, const float* p) {
  return hn::LoadU(d, p);
}
HWY_INLINE void store(FloatTag d, FloatVec v, float* p) {
  hn::StoreU(v, d, p);
}

HWY_INLINE FloatVec load(FloatTag d, const bf16* p) {
  const hn::RebindToUnsigned<FloatTag> words;
  const hn::Rebind<uint16_t, FloatTag> halves;
  const auto bits = hn::PromoteTo(words, hn::LoadU(halves, reinterpret_cast<const uint16_t*>(p)));
  return hn::BitCast(d, hn::ShiftLeft<16>(bits));
}

HWY_INLINE void store(FloatTag d, FloatVec v, bf16* p) {
  const hn::RebindToUnsigned<FloatTag> words;
  const hn::RebindToSigned<FloatTag> integers;
  const hn::Rebind<uint16_t, FloatTag> halves;
  const auto bits = hn::BitCast(words, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(words, 0x7FFFu)), odd);
  const auto quiet = hn::Or(bits, hn::Set(words, 0x400000u));
  // Not Ne(v, v): Highway 1.0.3 compares in order there on AVX2 and AVX-512, which is false for NaN.
  const auto result = hn::IfThenElse(hn::RebindMask(words, hn::IsNaN(v)), quiet, rounded);
  // At most 65,535 after the shift, so the saturating conversion from signed integers is exact.
  const auto high = hn::BitCast(integers, hn::ShiftRight<16>(result));
  hn::StoreU(hn::DemoteTo(halves, high), halves, reinterpret_cast<uint16_t*>(p));
}

#if HWY_TARGET <= HWY_AVX2  // F16C
HWY_INLINE FloatVec load(FloatTag d, const f16* p) {
  const hn::Rebind<hwy::float16_t, FloatTag> halves;
  return hn::PromoteTo(d, hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(p)));
}
HWY_INLINE void store(FloatTag d, FloatVec v, f16* p) {
  const hn::Rebind<hwy::float16_t, FloatTag> halves;
  hn::StoreU(hn::DemoteTo(halves, v), halves, reinterpret_cast<hwy::float16_t*>(p));
}
#else  // one element at a time: correct, slow; `train` refuses fp16 on such a CPU
HWY_INLINE FloatVec load(FloatTag d, const f16* p) {
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  for (size_t i = 0; i < hn::Lanes(d); ++i) buffer[i] = to_float(p[i]);
  return hn::Load(d, buffer);
}
HWY_INLINE void store(FloatTag d, FloatVec v, f16* p) {
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, buffer);
  for (size_t i = 0; i < hn::Lanes(d); ++i) p[i] = to_f16(buffer[i]);
}
#endif

// ---- Vectors that stay inside the array --------------------------------------------------------
/// The first `count` <= Lanes(d) elements at p, then zeros. Never reads past them.
template <class E>
HWY_INLINE FloatVec load_some(FloatTag d, const E* p, size_t count) {
  if (count >= hn::Lanes(d)) return load(d, p);
  HWY_ALIGN E buffer[HWY_MAX_BYTES / sizeof(float)] = {};
  memcpy(buffer, p, count * sizeof(E));
  return load(d, buffer);
}

/// Stores the first `count` <= Lanes(d) elements.
template <class E>
HWY_INLINE void store_some(FloatTag d, FloatVec v, E* p, size_t count) {
  if (count >= hn::Lanes(d)) return store(d, v, p);
  HWY_ALIGN E buffer[HWY_MAX_BYTES / sizeof(float)];
  store(d, v, buffer);
  memcpy(p, buffer, count * sizeof(E));
}

// ---- Single elements ---------------------------------------------------------------------------
HWY_INLINE void store_one(float x, float* p) {
  *p = x;
}
HWY_INLINE void store_one(float x, bf16* p) {
  *p = to_bf16(x);
}
HWY_INLINE void store_one(float x, f16* p) {
  *p = to_f16(x);
}

/// For a large lambda that for_vectors calls: `[&](int64_t i, size_t count) MB_INLINE_BODY { ... }`.
/// It is called in two places, so GCC may call it as a function once a vector, at half the speed.
#define MB_INLINE_BODY HWY_ATTR __attribute__((always_inline))

/// body(i, count) for vectors of n elements from i on; count < Lanes only in the last.
template <class Body>
HWY_INLINE void for_vectors(int64_t n, const Body& body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(FloatTag()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i, static_cast<size_t>(lanes));
  if (i < n) body(i, static_cast<size_t>(n - i));
}

}  // namespace minibert::MB_SIMD_NAMESPACE
