// dtype.h: element types of tensors, and the conversions between f32 and the two 16-bit floats.
// Called by core/operand.h, by the references of all chapters, and through elements_simd.h by the
// fast code. Kernels accumulate in f32 whatever a tensor stores. Easy to break: conversion to
// bf16/f16 rounds to nearest even, keeps subnormals, and keeps NaN a NaN. Test: ctest -R core_dtype.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/portable.h"

namespace minibert {

enum class DType : uint8_t { f32, bf16, f16, i32, u8 };

/// Bytes of one element.
MB_INLINE constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

/// "f32", "bf16", "f16", "i32" or "u8".
const char* name_of(DType dtype);

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

MB_INLINE float to_float(float x) {
  return x;
}
MB_INLINE float to_float(bf16 x) {
  return __builtin_bit_cast(float, uint32_t{x.bits} << 16);
}
float to_float(f16 x);
/// Round to nearest, ties to even; every NaN becomes a quiet NaN; overflow becomes infinity.
bf16 to_bf16(float x);
f16 to_f16(float x);

/// dtype_of<float> == DType::f32, and so on.
template <typename T>
inline constexpr DType dtype_of = DType::u8;
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<bf16> = DType::bf16;
template <>
inline constexpr DType dtype_of<f16> = DType::f16;
template <>
inline constexpr DType dtype_of<int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<uint8_t> = DType::u8;

/// Whether a tensor of this type can hold activations: the compute types.
MB_INLINE constexpr bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
}

/// body(E()) with E = float, bf16 or f16: a kernel's body for the type that its operands have.
/// Must not be called with another type.
template <typename Body>
MB_HOST_INLINE auto with_element(DType dtype, const Body& body) {
  if (dtype == DType::bf16) return body(bf16());
  if (dtype == DType::f16) return body(f16());
  return body(float());
}

}  // namespace minibert
