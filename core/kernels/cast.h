// cast.h: the same values in another floating type, and contributions added to f32 gradients.
// Called by core/arena.cpp (the working copy of the weights), by autograd/tape.cpp, and by whoever
// looks at a bf16 tensor from outside. Test: ctest -R kernels_cast.
#pragma once

#include "core/operand.h"
#include "core/profile.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   y = x, rounded to nearest, ties to even, in y's type; or y += x, summed in f32 and then rounded
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   x, y of one shape; each f32, bf16 or f16; y may be x where the types agree
// ---- 3. Cost ------------------------------------------------------------------------------------
//   bound by memory: both operands once, y twice where it is added to
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Exact to a wider type. NaN stays NaN (quiet), f16 overflows to infinity from 65,520 on,
//   subnormals are kept. No sums over elements: no bits depend on threads or instruction set.
// ---- 5. Interface -------------------------------------------------------------------------------
struct CastArgs {
  Operand x, y;
  bool accumulate = false;  // y += x instead of y = x
};
/// y (+)= x. Errors: UsageError for shapes that disagree and types that are not floating.
void cast(const CastArgs& args);
inline void cast(const Operand& x, const Operand& y, bool accumulate) {
  cast({x, y, accumulate});
}
void cast_reference(const CastArgs& args);
Cost cast_cost(const CastArgs& args);
void cast_cuda(const CastArgs& args, Stream stream);
/// Rung 1 .. kCastRungs of cast.cu, the last of which cast_cuda runs; for tests.
inline constexpr int kCastRungs = 3;
void cast_cuda_rung(const CastArgs& args, Stream stream, int rung);

}  // namespace minibert
