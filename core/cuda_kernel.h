// cuda_kernel.h: the one project header that a .cu file includes for device facilities: launching,
// shared memory, the element types of kernels, packed loads and stores, sums of warps and blocks.
// The same file is compiled by nvcc for a GPU and by g++ for the engine that runs kernels on a CPU
// (tools/simt), so a kernel file uses no <<<>>>, no bare __shared__, no inline asm (core/ptx.h holds
// it all), no choice by __CUDA_ARCH__, no CUB and no cooperative groups. Warp functions are called
// by all 32 lanes. Easy to break: a local that a kernel shares among threads must be MB_SHARED.
// Test: ctest -R simt. Rules and reasons: tools/simt/README.md.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "core/cuda_error.h"
#include "core/cuda_launch.h"
#include "core/dtype.h"
#include "core/operand.h"
#include "core/stream.h"

#ifndef __CUDACC__
#ifndef MINIBERT_SIMT
#error "core/cuda_kernel.h is for .cu files: a host file needs core/cuda_error.h at most"
#endif
#include "tools/simt/simt.h"  // threadIdx, __syncthreads, shuffles, maths: what nvcc has built in
#endif

// ---- Declaring kernels and shared memory -------------------------------------------------------
/// MB_SHARED(type, name, count): an array of `count` elements that the block shares, 16-byte aligned,
/// not initialised. `type` may be an array type: MB_SHARED(float[33], tile, 32) is tile[32][33].
/// Static arrays may take 48 KB together. dynamic_shared<T>() is the launch's dynamic memory.
/// MB_LAUNCH_BOUNDS(threads, min_blocks): between __global__ and void, limits the registers.
#ifdef __CUDACC__
#define MB_SHARED(type, name, count) __shared__ __align__(16) std::type_identity_t<type> name[count]
#define MB_LAUNCH_BOUNDS(...) __launch_bounds__(__VA_ARGS__)
#else
#define MB_SHARED(type, name, count)                                                            \
  static ::simt::SharedSite mb_site_##name(#name, sizeof(std::type_identity_t<type>) * (count), \
                                           __FILE__, __LINE__);                                 \
  std::type_identity_t<type>(&name)[count] =                                                    \
      *static_cast<std::type_identity_t<type>(*)[count]>(::simt::shared_array(mb_site_##name))
#define MB_LAUNCH_BOUNDS(...)
#endif

namespace minibert {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullMask = 0xFFFFFFFFu;

/// Dynamic shared memory of the block, 1024-byte aligned; its size is what the launch gave.
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(1024) unsigned char mb_dynamic_shared[];
  return reinterpret_cast<T*>(mb_dynamic_shared);
#else
  return static_cast<T*>(::simt::dynamic_shared());
#endif
}

/// Lane 0..31 of a thread, and its warp's number, in a block of any shape.
__device__ __forceinline__ int thread_in_block() {
  return static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}
__device__ __forceinline__ int lane_id() {
  return thread_in_block() % kWarpSize;
}
__device__ __forceinline__ int warp_id() {
  return thread_in_block() / kWarpSize;
}

// ---- Launching ---------------------------------------------------------------------------------
/// Blocks of a launch: 1 to 3 numbers (or a dim3), and where the call of launch stands.
struct LaunchGrid {
  int64_t x, y, z;
  const char* file;
  int line;

  LaunchGrid(int64_t x, int64_t y = 1, int64_t z = 1, const char* file = __builtin_FILE(),
             int line = __builtin_LINE())
      : x(x), y(y), z(z), file(file), line(line) {}
  LaunchGrid(dim3 d, const char* file = __builtin_FILE(), int line = __builtin_LINE())
      : x(d.x), y(d.y), z(d.z), file(file), line(line) {}
};

/// Queues kernel(args...) on the stream: `grid` blocks of `block` threads (a number or a dim3), with
/// `shared_bytes` of dynamic shared memory, which may exceed 48 KB. Each argument is converted to
/// the kernel's parameter. A grid of no blocks launches nothing.
/// Errors: InternalError with the kernel's name and shape if CUDA refuses the launch.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), LaunchGrid grid, dim3 block, size_t shared_bytes,
            Stream stream, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "launch: arguments of the kernel");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const LaunchShape shape{
      {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes, grid.file, grid.line};
  std::tuple<Parameters...> values(static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  const void* address = reinterpret_cast<const void*>(kernel);
  detail::allow_shared(address, shared_bytes);
#ifdef __CUDACC__
  cudaError_t error = cudaErrorInvalidConfiguration;
  if (detail::representable(shape))
    error = std::apply(
        [&](auto&... value) {
          void* pointers[] = {static_cast<void*>(&value)..., nullptr};
          return cudaLaunchKernel(address, dim3(grid.x, grid.y, grid.z), block, pointers,
                                  shared_bytes, static_cast<cudaStream_t>(stream.handle));
        },
        values);
#else
  cudaError_t error =
      ::simt::launch(address, shape.grid, shape.block, shared_bytes, stream.handle, shape.file,
                     shape.line, [kernel, values] { std::apply(kernel, values); });
  if (error == cudaSuccess) error = cudaGetLastError();
#endif
  if (error != cudaSuccess) [[unlikely]]
    launch_failed(error, address, shape);
}

/// ceil(n / d), the usual number of blocks. n >= 0, d > 0.
__host__ __device__ constexpr int64_t ceil_div(int64_t n, int64_t d) {
  return (n + d - 1) / d;
}

// ---- Element types -----------------------------------------------------------------------------
/// CudaType<bf16> is __nv_bfloat16, CudaType<f16> is __half; other types are themselves.
template <typename E>
struct CudaTypeOf {
  using type = E;
};
template <>
struct CudaTypeOf<bf16> {
  using type = __nv_bfloat16;
};
template <>
struct CudaTypeOf<f16> {
  using type = __half;
};
template <typename E>
using CudaType = typename CudaTypeOf<E>::type;

/// The operand's elements as a kernel sees them, given the project's or the kernel's type:
/// cuda_data<bf16>(x) and cuda_data<__nv_bfloat16>(x) are both __nv_bfloat16*.
template <typename E>
struct HostTypeOf {
  using type = E;
};
template <>
struct HostTypeOf<__nv_bfloat16> {
  using type = bf16;
};
template <>
struct HostTypeOf<__half> {
  using type = f16;
};
template <typename E>
CudaType<E>* cuda_data(const Operand& x) {
  return reinterpret_cast<CudaType<E>*>(x.data<typename HostTypeOf<E>::type>());
}
/// The same, or null where the operand was not given.
template <typename E>
CudaType<E>* cuda_data_or_null(const Operand& x) {
  return x.defined() ? cuda_data<E>(x) : nullptr;
}

/// body(E()) with E = float, __nv_bfloat16 or __half: like with_element, in the kernels' types.
template <typename Body>
auto with_cuda_element(DType dtype, const Body& body) {
  if (dtype == DType::bf16) return body(__nv_bfloat16());
  if (dtype == DType::f16) return body(__half());
  return body(float());
}

__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float to_float(__half x) {
  return __half2float(x);
}
/// Rounds to nearest, ties to even; overflow becomes infinity, NaN stays NaN.
template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

/// Two 16-bit elements in a register, `low` in the low half: a fragment's unit. T: __nv_bfloat16 or
/// __half.
template <typename T>
__device__ __forceinline__ uint32_t pack2(float low, float high) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(both);
  } else {
    const __half2 both = __floats2half2_rn(low, high);
    return reinterpret_cast<const uint32_t&>(both);
  }
}
template <typename T>
__device__ __forceinline__ float2 unpack2(uint32_t both) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return {__uint_as_float(both << 16), __uint_as_float(both & 0xFFFF0000u)};
  } else {
    return __half22float2(reinterpret_cast<const __half2&>(both));
  }
}

// ---- Packed loads and stores -------------------------------------------------------------------
/// N neighbouring elements, 2, 4, 8 or 16 bytes together, moved by one instruction.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  static_assert(sizeof(T) * N <= 16, "Pack: an instruction moves at most 16 bytes");
  T value[N];

  __device__ __forceinline__ T& operator[](int i) { return value[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return value[i]; }
};
/// Elements of T that fill 16 bytes.
template <typename T>
inline constexpr int kPack = 16 / static_cast<int>(sizeof(T));

namespace detail {
template <size_t Bytes>
struct WordOf;
template <>
struct WordOf<2> {
  using type = unsigned short;
};
template <>
struct WordOf<4> {
  using type = unsigned int;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<16> {
  using type = uint4;
};

/// The address as that of a Word. A GPU stops the kernel where it is not a multiple of the word's
/// size; the engine does too.
template <typename Word, typename T>
__device__ __forceinline__ Word* word_at(T* address) {
#ifndef __CUDACC__
  ::simt::check_aligned(address, sizeof(Word));
#endif
  return reinterpret_cast<Word*>(address);
}

// nvcc splits the assignment of a uint4 into its members and joins them to one store only where it
// can prove the alignment, which a row's length as a variable forbids. A whole number stays whole.
__extension__ typedef unsigned __int128 WholeWord;
template <typename Word>
__device__ __forceinline__ void store_word(Word* to, Word word) {
  *to = word;
}
__device__ __forceinline__ uint64_t join(unsigned int low, unsigned int high) {
  return uint64_t{high} << 32 | low;
}
__device__ __forceinline__ void store_word(uint2* to, uint2 word) {
  *reinterpret_cast<uint64_t*>(to) = join(word.x, word.y);
}
__device__ __forceinline__ void store_word(uint4* to, uint4 word) {
  *reinterpret_cast<WholeWord*>(to) =
      static_cast<WholeWord>(join(word.z, word.w)) << 64 | join(word.x, word.y);
}
}  // namespace detail

/// Elements from .. from + N - 1. `from` must be aligned to N elements.
template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load_pack(const T* from) {
  using Word = typename detail::WordOf<sizeof(T) * N>::type;
  const Word word = *detail::word_at<const Word>(from);
  return reinterpret_cast<const Pack<T, N>&>(word);
}
/// The same for data in global memory that is read once: it leaves the caches first.
template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load_pack_once(const T* from) {
  using Word = typename detail::WordOf<sizeof(T) * N>::type;
  const Word word = __ldcs(detail::word_at<const Word>(from));
  return reinterpret_cast<const Pack<T, N>&>(word);
}
template <int N, typename T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, N>& pack) {
  using Word = typename detail::WordOf<sizeof(T) * N>::type;
  detail::store_word(detail::word_at<Word>(to), reinterpret_cast<const Word&>(pack));
}
/// The same for global memory that nothing reads soon.
template <int N, typename T>
__device__ __forceinline__ void store_pack_once(T* to, const Pack<T, N>& pack) {
  using Word = typename detail::WordOf<sizeof(T) * N>::type;
  __stcs(detail::word_at<Word>(to), reinterpret_cast<const Word&>(pack));
}
/// N floats from N elements, and back, rounded.
template <typename T, int N>
__device__ __forceinline__ Pack<float, N> to_floats(const Pack<T, N>& x) requires(N <= 4) {
  Pack<float, N> y;
#pragma unroll
  for (int i = 0; i < N; ++i) y[i] = to_float(x[i]);
  return y;
}

/// Whether a pointer and a row length let every row be read in packs of `bytes`. Asked by launchers.
inline bool packs(const void* pointer, int64_t row_bytes, int bytes = 16) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0 && row_bytes % bytes == 0;
}

/// Where byte `byte` of a tile in shared memory lies once swizzled, so that ldmatrix and 16-byte
/// accesses down a column meet no bank twice: the number of its 16-byte unit within a row of Width
/// bytes is changed by exclusive or with the number of its line of 128 bytes. Width: 32, 64 or 128,
/// as CuTe's Swizzle<1, 4, 3> to <3, 4, 3>; the tile begins at a multiple of 1024 bytes.
template <int Width>
__host__ __device__ constexpr uint32_t swizzled(uint32_t byte) {
  static_assert(Width == 32 || Width == 64 || Width == 128);
  return byte ^ ((byte >> 7 & (Width / 16 - 1)) << 4);
}

// ---- Sums of warps and blocks: trees of a fixed shape, so the same bits in every run ------------
/// Sum over the warp, in every lane. Lanes 16 apart are added first, then 8, 4, 2, 1.
template <typename T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2)
    x += __shfl_xor_sync(kFullMask, x, distance);
  return x;
}
/// Maximum over the warp, in every lane. For floats a NaN loses, as in fmaxf.
template <typename T>
__device__ __forceinline__ T warp_max(T x) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(kFullMask, x, distance);
    if constexpr (std::is_same_v<T, float>) {
      x = fmaxf(x, other);
    } else {
      x = other > x ? other : x;
    }
  }
  return x;
}

namespace detail {
template <typename T, typename OfWarp>
__device__ __forceinline__ T block_reduce(T x, T* scratch, T neutral, const OfWarp& of_warp) {
  const int warps =
      (static_cast<int>(blockDim.x * blockDim.y * blockDim.z) + kWarpSize - 1) / kWarpSize;
  x = of_warp(x);
  if (lane_id() == 0) scratch[warp_id()] = x;
  __syncthreads();
  x = of_warp(lane_id() < warps ? scratch[lane_id()] : neutral);
  __syncthreads();  // the caller may use scratch again at once
  return x;
}
}  // namespace detail

/// Sum over the block, in every thread: each warp's sum, then the same tree over the warps. Called by
/// all threads of a block of whole warps. `scratch`: 32 elements of shared memory, free again after.
template <typename T>
__device__ __forceinline__ T block_sum(T x, T* scratch) {
  return detail::block_reduce(x, scratch, T(0), [](T y) { return warp_sum(y); });
}
/// Maximum over the block, in every thread; `lowest` is what no element is below.
template <typename T>
__device__ __forceinline__ T block_max(T x, T* scratch, T lowest) {
  return detail::block_reduce(x, scratch, lowest, [](T y) { return warp_max(y); });
}

}  // namespace minibert
