// cast.cpp: checks, cost, reference and the caller of the fast casts. Contract: cast.h.
#include "core/kernels/cast.h"

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/reference.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace minibert {

MB_SIMD_DECLARE(void, cast_block, (const CastArgs& args, int64_t begin, int64_t end))

namespace {

void check(const CastArgs& args) {
  check_floating("cast", "x", args.x);
  check_floating("cast", "y", args.y);
  check_tensor("cast", "y", args.y, shape_of(args.x), "the shape of x", args.y.dtype());
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
Cost cast_cost(const CastArgs& args) {
  const double y_passes = args.accumulate ? 2 : 1;
  return {args.accumulate ? static_cast<double>(args.x.numel()) : 0.0,
          static_cast<double>(args.x.bytes()) + y_passes * static_cast<double>(args.y.bytes())};
}

// ---- 6. Reference ------------------------------------------------------------------------------
void cast_reference(const CastArgs& args) {
  check(args);
  for (int64_t i = 0; i < args.x.numel(); ++i)
    put(args.y, i, (args.accumulate ? get(args.y, i) : 0.0) + get(args.x, i));
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
void cast(const CastArgs& args) {
  check(args);
  constexpr int64_t kBlock = 32768;  // elements a thread works on at a time
  dispatch(
      "cast", args.x.device(), [&] { return cast_cost(args); },
      [&] {
        parallel_for(args.x.numel(), kBlock, [&](int64_t begin, int64_t end) {
          MB_SIMD(cast_block)(args, begin, end);
        });
      },
      [&](Stream stream) { cast_cuda(args, stream); });
}

}  // namespace minibert
