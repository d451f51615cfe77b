// check.h: the shape and type checks that kernels' public functions share.
// Called once an argument; a message names the op, the tensor, what was found and what expected.
#pragma once

#include <span>
#include <string_view>

#include "core/error.h"
#include "core/operand.h"
#include "core/tensor.h"

namespace minibert {

inline Shape shape_of(const Operand& t) {
  return Shape(std::span<const int64_t>(t.dims, static_cast<size_t>(t.rank())));
}

/// Errors: UsageError unless `t` is given, has this shape and this type. `why` says where the shape
/// comes from: check_tensor("add_bias", "bias", bias, {H}, "the last dimension of x").
inline void check_tensor(std::string_view op, std::string_view name, const Operand& t,
                         const Shape& shape, std::string_view why, DType dtype = DType::f32) {
  MB_CHECK(t.defined(), "{}: {} is not given, expected {} {} ({})", op, name, name_of(dtype),
           shape.str(), why);
  MB_CHECK(shape_of(t) == shape && t.dtype() == dtype, "{}: {} is {} {}, expected {} {} ({})", op,
           name, name_of(t.dtype()), shape_of(t).str(), name_of(dtype), shape.str(), why);
}

/// Errors: UsageError unless `t` is given, has this rank and this type.
inline void check_rank(std::string_view op, std::string_view name, const Operand& t, int rank,
                       DType dtype = DType::f32) {
  MB_CHECK(t.defined(), "{}: {} is not given, expected {} of rank {}", op, name, name_of(dtype),
           rank);
  MB_CHECK(t.rank() == rank && t.dtype() == dtype, "{}: {} is {} {}, expected {} of rank {}", op,
           name, name_of(t.dtype()), shape_of(t).str(), name_of(dtype), rank);
}

/// Errors: UsageError unless `t` is given and holds this type.
inline void check_type(std::string_view op, std::string_view name, const Operand& t,
                       DType dtype = DType::f32) {
  MB_CHECK(t.defined() && t.dtype() == dtype, "{}: {} is {}, expected {}", op, name,
           t.defined() ? name_of(t.dtype()) : "not given", name_of(dtype));
}

/// Errors: UsageError unless `t` is given and f32, bf16 or f16.
inline void check_floating(std::string_view op, std::string_view name, const Operand& t) {
  MB_CHECK(t.defined() && is_floating(t.dtype()), "{}: {} is {}, expected f32, bf16 or f16", op,
           name, t.defined() ? name_of(t.dtype()) : "not given");
}

/// As check_rank, for the operand whose type is the call's compute type E: f32, bf16 or f16.
inline void check_compute(std::string_view op, std::string_view name, const Operand& t, int rank) {
  check_floating(op, name, t);
  check_rank(op, name, t, rank, t.dtype());
}

}  // namespace minibert
