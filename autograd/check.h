// check.h: shape and type checks that ops share. Users' errors are caught here, where they can be
// put in the op's words; kernels check again what they rely on. A message names the op, the tensor,
// both shapes and where the expected one comes from.
// Test: ctest -R autograd_ops.
#pragma once

#include "autograd/variable.h"

namespace minibert {

/// UsageError unless `found` is `wanted`, which is what `why` says ("[H] of x [37, 768]").
inline void check_shape(const char* op, const char* what, const Shape& found, const Shape& wanted,
                        const char* why, const Shape& origin) {
  MB_CHECK(found == wanted, "{}: {} is {}, expected {} ({} {}). Check the sizes of the layer", op,
           what, found.str(), wanted.str(), why, origin.str());
}

/// UsageError unless x is a defined tensor of this rank, of a type that activations can have.
inline void check_rank(const char* op, const char* what, const Variable& x, int rank) {
  MB_CHECK(x.defined(), "{}: {} is undefined, expected a tensor of rank {}", op, what, rank);
  MB_CHECK(x.shape().rank() == rank && is_floating(x.value().dtype()),
           "{}: {} is {} {}, expected f32, bf16 or f16 of rank {}", op, what,
           name_of(x.value().dtype()), x.shape().str(), rank);
}

/// UsageError unless x holds this type, which is what `why` says ("the type of x").
inline void check_type(const char* op, const char* what, const Variable& x, DType dtype,
                       const char* why) {
  MB_CHECK(x.value().dtype() == dtype, "{}: {} is {} {}, expected {} ({})", op, what,
           name_of(x.value().dtype()), x.shape().str(), name_of(dtype), why);
}

/// UsageError unless `index` is i32 and has `count` elements, one for each of `what_for`.
inline void check_index(const char* op, const char* what, const Tensor& index, int64_t count,
                        const char* what_for) {
  MB_CHECK(
      index.defined() && index.dtype() == DType::i32 && index.rank() == 1 && index.numel() == count,
      "{}: {} is {} {}, expected i32 [{}] (one for each {})", op, what,
      index.defined() ? name_of(index.dtype()) : "undefined",
      index.defined() ? index.shape().str() : "", count, what_for);
}

}  // namespace minibert
