// cast.cu: casts on CUDA, sections 8 to 12 of the cast chapter; contract and mathematics: cast.h.
// Called by cast.cpp. The shortest .cu file: read it first, the others have its form. Easy to get
// wrong: y may be x, so a thread reads all of its elements before it writes one.
// Test: ctest -R kernels_cast_cuda.
#include "core/error.h"
#include "core/kernels/cast.h"
#include "core/kernels/elements_cuda.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
// A cast does nothing but move memory, so the question is how many bytes are on their way at a time.
// A thread moves packs: as many neighbouring elements as fill 16 bytes in the wider of both types.
// Between f32 and bf16 that is 4 elements, 16 bytes on one side and 8 on the other.
//
//   element  0..3   4..7   8..11  ...   1020..1023 | 1024..1027  ...   2044..2047 | 2048 ...
//   thread   0      1      2      ...   255        | 0           ...   255        | next block
//            first packs of block 0                | second packs of block 0
//
// Lanes of a warp touch neighbouring packs: 256 or 512 bytes in a row, each 32-byte sector once.
// An H100 delivers 3.3 TB/s after about 0.7 us, so 2.3 MB must be under way, 18 KB an SM. An SM holds
// 2,048 threads; with two packs each, that is 32 KB or more, of 8-byte packs too.

constexpr int kThreads = 256;

// Elements of a pack.
template <typename X, typename Y>
inline constexpr int kPackOfBoth = kPack<X> < kPack<Y> ? kPack<X> : kPack<Y>;

// ---- 9. Rungs ----------------------------------------------------------------------------------
// 1. A thread an element. Accesses are coalesced already; but each instruction of a warp moves only
//    64 or 128 bytes. Lesson: neighbouring threads on neighbouring elements is most of the way.
template <typename X, typename Y>
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    cast_elements(const X* x, Y* y, int64_t n, bool accumulate) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const float value = to_float(x[i]);
  y[i] = from_float<Y>(accumulate ? to_float(y[i]) + value : value);
}

// 2. A thread a pack: cast_packs<1, X, Y> below. A quarter or an eighth of the instructions for the
//    same bytes. Lesson: ask for 16 bytes at a time.

// ---- 10. Production kernel ---------------------------------------------------------------------
// 3. A thread two packs, which it asks for before it waits for the first: they stay as they came,
//    unconverted, until all loads are issued. Lesson: what is in flight decides, and a thread can
//    have more than one load under way.
template <int kPacks, typename X, typename Y>
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    cast_packs(const X* x, Y* y, int64_t n, bool accumulate) {
  constexpr int N = kPackOfBoth<X, Y>;
  const int64_t first = (int64_t{blockIdx.x} * kPacks * kThreads + threadIdx.x) * N;
  Pack<X, N> r_x[kPacks];
  Pack<Y, N> r_y[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t i = first + p * kThreads * N;
    if (i + N <= n) r_x[p] = load_pack<N>(x + i);
    if (i + N <= n && accumulate) r_y[p] = load_pack<N>(y + i);
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t i = first + p * kThreads * N;
    if (i + N > n) continue;
    const Floats<N> value = floats_of(r_x[p]);
    store_floats<N>(y + i, accumulate ? floats_of(r_y[p]) + value : value);
  }
  // What is left of the last pack: an element each for the first threads of the last block.
  const int64_t rest = n % N, i = n - rest + threadIdx.x;
  if (blockIdx.x + 1 == gridDim.x && threadIdx.x < rest) {
    const float value = to_float(x[i]);
    y[i] = from_float<Y>(accumulate ? to_float(y[i]) + value : value);
  }
}

// ---- 11. Launcher ------------------------------------------------------------------------------
template <typename X, typename Y>
void cast_rung(const CastArgs& args, Stream stream, int rung) {
  const int64_t n = args.x.numel();
  const X* x = cuda_data<X>(args.x);
  Y* y = cuda_data<Y>(args.y);
  constexpr size_t N = kPackOfBoth<X, Y>;
  const bool packed = aligned_to(N * sizeof(X), x) && aligned_to(N * sizeof(Y), y);
  if (rung == 1 || !packed) {
    launch(cast_elements<X, Y>, ceil_div(n, kThreads), kThreads, 0, stream, x, y, n,
           args.accumulate);
  } else if (rung == 2) {
    launch(cast_packs<1, X, Y>, ceil_div(n, N * kThreads), kThreads, 0, stream, x, y, n,
           args.accumulate);
  } else {
    launch(cast_packs<2, X, Y>, ceil_div(n, N * 2 * kThreads), kThreads, 0, stream, x, y, n,
           args.accumulate);
  }
}

// ---- 12. Instantiations ------------------------------------------------------------------------
#define MB_CAST(X, Y) template void cast_rung<X, Y>(const CastArgs&, Stream, int);
MB_CAST(float, float)
MB_CAST(float, __nv_bfloat16)
MB_CAST(float, __half)
MB_CAST(__nv_bfloat16, float)
MB_CAST(__nv_bfloat16, __nv_bfloat16)
MB_CAST(__nv_bfloat16, __half)
MB_CAST(__half, float)
MB_CAST(__half, __nv_bfloat16)
MB_CAST(__half, __half)
#undef MB_CAST

}  // namespace

void cast_cuda_rung(const CastArgs& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kCastRungs, "cast: rung {} of {}", rung, kCastRungs);
  with_cuda_element(args.x.dtype(), [&](auto x) {
    with_cuda_element(args.y.dtype(),
                      [&](auto y) { cast_rung<decltype(x), decltype(y)>(args, stream, rung); });
  });
}

void cast_cuda(const CastArgs& args, Stream stream) {
  cast_cuda_rung(args, stream, kCastRungs);
}

}  // namespace minibert
