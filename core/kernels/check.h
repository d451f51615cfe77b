// check.h: the shape and type checks that kernels' public functions share.
// Called once an argument; a message names the op, the tensor, what was found and what expected.
#pragma once

#include <string_view>

#include "core/tensor.h"

namespace minibert {

/// Errors: UsageError unless `t` is defined, has this shape and this type. `why` says where the
/// shape comes from: check_tensor("add_bias", "bias", bias, {H}, "the last dimension of x").
inline void check_tensor(std::string_view op, std::string_view name, const Tensor& t,
                         const Shape& shape, std::string_view why, DType dtype = DType::f32) {
  MB_CHECK(t.defined(), "{}: {} is not given, expected {} {} ({})", op, name, name_of(dtype),
           shape.str(), why);
  MB_CHECK(t.shape() == shape && t.dtype() == dtype, "{}: {} is {} {}, expected {} {} ({})", op,
           name, name_of(t.dtype()), t.shape().str(), name_of(dtype), shape.str(), why);
}

/// Errors: UsageError unless `t` is defined, has this rank and this type.
inline void check_rank(std::string_view op, std::string_view name, const Tensor& t, int rank,
                       DType dtype = DType::f32) {
  MB_CHECK(t.defined(), "{}: {} is not given, expected {} of rank {}", op, name, name_of(dtype),
           rank);
  MB_CHECK(t.rank() == rank && t.dtype() == dtype, "{}: {} is {} {}, expected {} of rank {}", op,
           name, name_of(t.dtype()), t.shape().str(), name_of(dtype), rank);
}

/// Errors: UsageError unless `t` is defined and holds this type.
inline void check_type(std::string_view op, std::string_view name, const Tensor& t,
                       DType dtype = DType::f32) {
  MB_CHECK(t.defined() && t.dtype() == dtype, "{}: {} is {}, expected {}", op, name,
           t.defined() ? name_of(t.dtype()) : "not given", name_of(dtype));
}

}  // namespace minibert
