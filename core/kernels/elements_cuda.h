// elements_cuda.h: f32, bf16 and f16 elements as floats in registers, for .cu files; what
// elements_simd.h is to the CPU's fast code. The pointer's type chooses the conversion, so a kernel
// is written once, as a template over its element type E, and computes in f32. Easy to break: a
// thread moves N neighbouring elements, so its first must be a multiple of N from an aligned start;
// the *_some forms need no alignment and never touch memory beyond `count` elements.
// Test: ctest -R kernels_cast_cuda.
#pragma once

#include "core/cuda_kernel.h"
#include "core/philox.h"

namespace minibert {

/// N floats of a thread. Loops over them are unrolled, so that they stay in registers.
template <int N>
struct Floats {
  float value[N];

  __device__ __forceinline__ float& operator[](int i) { return value[i]; }
  __device__ __forceinline__ float operator[](int i) const { return value[i]; }
};

// ---- Whole packs -------------------------------------------------------------------------------
/// The elements of a pack, which a kernel loads long before it uses them.
template <typename T, int N>
__device__ __forceinline__ Floats<N> floats_of(const Pack<T, N>& pack) {
  Floats<N> x;
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const float2 both = unpack2<T>(reinterpret_cast<const uint32_t*>(&pack)[i / 2]);
      x[i] = both.x;
      x[i + 1] = both.y;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = to_float(pack[i]);
  }
  return x;
}
/// Rounded to nearest even. Two 16-bit elements take one instruction.
template <typename T, int N>
__device__ __forceinline__ Pack<T, N> pack_of(const Floats<N>& x) {
  Pack<T, N> pack;
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 2)
      reinterpret_cast<uint32_t*>(&pack)[i / 2] = pack2<T>(x[i], x[i + 1]);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) pack[i] = from_float<T>(x[i]);
  }
  return pack;
}

/// Elements 0 .. N - 1 at `from`, which is aligned to N elements or to 16 bytes, whichever is less.
template <int N, typename T>
__device__ __forceinline__ Floats<N> load_floats(const T* from) {
  constexpr int kStep = N < kPack<T> ? N : kPack<T>;  // elements of one load
  Floats<N> x;
#pragma unroll
  for (int first = 0; first < N; first += kStep) {
    const Floats<kStep> part = floats_of(load_pack<kStep>(from + first));
#pragma unroll
    for (int i = 0; i < kStep; ++i) x[first + i] = part[i];
  }
  return x;
}
template <int N, typename T>
__device__ __forceinline__ void store_floats(T* to, const Floats<N>& x) {
  constexpr int kStep = N < kPack<T> ? N : kPack<T>;
#pragma unroll
  for (int first = 0; first < N; first += kStep) {
    Floats<kStep> part;
#pragma unroll
    for (int i = 0; i < kStep; ++i) part[i] = x[first + i];
    store_pack<kStep>(to + first, pack_of<T>(part));
  }
}

// ---- Packs that the end of a row may cut -------------------------------------------------------
/// The first `count` of N elements, one at a time, then zeros.
template <int N, typename T>
__device__ __forceinline__ Floats<N> load_some(const T* from, int64_t count) {
  Floats<N> x;
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = i < count ? to_float(from[i]) : 0.0f;
  return x;
}
template <int N, typename T>
__device__ __forceinline__ void store_some(T* to, const Floats<N>& x, int64_t count) {
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) to[i] = from_float<T>(x[i]);
}
/// kPacked: whole packs of an aligned row; else elements one at a time, of which `count` are left.
template <bool kPacked, int N, typename T>
__device__ __forceinline__ Floats<N> load_row(const T* from, int64_t count) {
  if constexpr (kPacked) {
    return load_floats<N>(from);
  } else {
    return load_some<N>(from, count);
  }
}
template <bool kPacked, int N, typename T>
__device__ __forceinline__ void store_row(T* to, const Floats<N>& x, int64_t count) {
  if constexpr (kPacked) {
    store_floats<N>(to, x);
  } else {
    store_some<N>(to, x, count);
  }
}

// ---- Arithmetic --------------------------------------------------------------------------------
/// x as it reads back after a store in type T.
template <typename T, int N>
__device__ __forceinline__ Floats<N> rounded_to(const Floats<N>& x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return x;
  } else {
    return floats_of(pack_of<T>(x));
  }
}
template <int N>
__device__ __forceinline__ Floats<N> operator+(Floats<N> x, const Floats<N>& y) {
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] += y[i];
  return x;
}
/// In ascending order.
template <int N>
__device__ __forceinline__ float sum_of(const Floats<N>& x) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) sum += x[i];
  return sum;
}

// ---- Dropout on hidden rows --------------------------------------------------------------------
/// Dropout of one row. Reads the data step, the row's position and its sample once.
struct RowDropout {
  Dropout site;
  uint32_t position = 0, sample = 0;

  /// position, sample: of each row [T] i32; not read where dropout is off.
  __device__ __forceinline__ RowDropout(const Dropout& dropout, const int32_t* row_position,
                                        const int32_t* row_sample, int64_t t)
      : site(dropout) {
    if (!site.active()) return;
    site.layer_purpose = dropout.step_layer_purpose();  // the data step is in it from here on
    site.data_step = nullptr;
    position = static_cast<uint32_t>(row_position[t]);
    sample = static_cast<uint32_t>(row_sample[t]);
  }
  /// Columns `column` .. column + N - 1, both multiples of 4: scaled where kept. What is dropped
  /// becomes 0 by selection, even if it was infinite or NaN.
  template <int N>
  __device__ __forceinline__ Floats<N> operator()(Floats<N> x, int64_t column) const {
    static_assert(N % 4 == 0, "a call of Philox serves four neighbours");
    if (!site.active()) return x;
#pragma unroll
    for (int first = 0; first < N; first += 4) {
      const auto group = static_cast<uint32_t>((column + first) / 4);
      const PhiloxOutput word =
          philox4x32(hidden_counter(site, group, position, sample), site.seed);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool keep = dropout_keeps(word[i], site.threshold);
        x[first + i] = keep ? x[first + i] * site.scale : 0.0f;
      }
    }
    return x;
  }
};

// ---- Maps over rows ----------------------------------------------------------------------------
// A block is 8 warps; each has 32 neighbouring packs of a row of its own, so no thread divides by the
// row's length:
//
//            columns  0..7     8..15    ...   248..255 | 256 ...        (N = 8)
//   row 0    warp 0   lane 0   lane 1   ...   lane 31  | next block
//   row 1    warp 1   lane 0   lane 1   ...   lane 31  |
inline constexpr int kMapRows = 8, kMapThreads = kMapRows * kWarpSize;

/// Where a thread is: its first row, and the first of its N columns. A grid may have too few blocks
/// for all rows: a thread goes on with rows t + row_step, t + 2 row_step, ...
template <int N>
struct RowPlace {
  int64_t t = int64_t{blockIdx.y} * kMapRows + threadIdx.y;
  int64_t h = (int64_t{blockIdx.x} * kWarpSize + threadIdx.x) * N;
  int64_t row_step = int64_t{gridDim.y} * kMapRows;
};
/// The launch of such a kernel on rows of `packs` packs. A grid has at most 65,535 blocks in y.
inline LaunchGrid row_grid(int64_t rows, int64_t packs, const char* file = __builtin_FILE(),
                           int line = __builtin_LINE()) {
  const int64_t row_blocks = ceil_div(rows, kMapRows);
  return LaunchGrid(ceil_div(packs, kWarpSize), row_blocks < 65535 ? row_blocks : 65535, 1, file,
                    line);
}
inline dim3 row_block() {
  return dim3(kWarpSize, kMapRows);
}

// ---- For launchers -----------------------------------------------------------------------------
/// Whether all pointers are aligned to `bytes`. Null, an operand that was not given, is.
template <typename... T>
bool aligned_to(size_t bytes, const T*... pointer) {
  return ((reinterpret_cast<uintptr_t>(pointer) % bytes == 0) && ...);
}

}  // namespace minibert
