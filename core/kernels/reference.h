// reference.h: how the references of section 6 read and write operands: as doubles, whatever the
// type. A reference reads each input as it is stored (a bf16 value exactly) and rounds only what it
// writes; given f32 outputs for bf16 inputs it shows what exact arithmetic would have given.
#pragma once

#include "core/operand.h"

namespace minibert {

/// Element i, counted from the operand's first.
inline double get(const Operand& x, int64_t i) {
  return with_element(
      x.dtype(), [&](auto e) { return static_cast<double>(to_float(x.data<decltype(e)>()[i])); });
}

/// Stores value, rounded to the operand's type: through f32, as the fast code does.
inline void put(const Operand& y, int64_t i, double value) {
  const float x = static_cast<float>(value);
  switch (y.dtype()) {
    case DType::bf16:
      y.data<bf16>()[i] = to_bf16(x);
      break;
    case DType::f16:
      y.data<f16>()[i] = to_f16(x);
      break;
    default:
      y.data<float>()[i] = x;
  }
}

}  // namespace minibert
