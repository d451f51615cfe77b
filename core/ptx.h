// ptx.h: the machine's own instructions for tensor cores, asynchronous copies and barriers, and the
// only place with inline asm. Two bodies each: asm under nvcc, the engine of tools/simt otherwise.
// Called by kernels that need more than CUDA C++ offers. All 32 lanes of a warp call a warp's
// instruction together. Each comment says which lane holds which element; below, g = lane / 4 and
// t = lane % 4, and "a pair" is two neighbouring elements in a register, the first in the low half.
// Easy to break: ldmatrix and cp.async need 16-byte aligned addresses; a copy is visible to other
// threads only after cp_async_wait *and* a barrier. Source: PTX ISA 9.0, sections 9.7.14 (mma,
// ldmatrix), 9.7.9.25 (cp.async), 9.7.13 (barriers).
// Test: ctest -R simt_engine_ptx, simt_engine_oracle.
#pragma once

#include "core/cuda_kernel.h"

// A last parameter that is the place of the call, for the engine's reports; nothing under nvcc.
#ifdef __CUDACC__
#define MB_PLACE
#define MB_PASS_PLACE
#else
#define MB_PLACE , ::simt::Place place = {__builtin_FILE(), __builtin_LINE()}
#define MB_PASS_PLACE , place
#endif

namespace minibert {

/// Address of shared memory as the machine's 32-bit number.
__device__ __forceinline__ uint32_t smem_u32(const void* shared) {
#ifdef __CUDACC__
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
#else
  return ::simt::smem_u32(shared);
#endif
}

// ---- Tensor cores: d = a b + c of one warp, sums in f32 -----------------------------------------
/// c [16, 8] += a [16, 16] b [16, 8], T = __nv_bfloat16 or __half, a by rows, b by columns.
///   a[0]  row g      columns 2t, 2t+1            b[0]  rows 2t, 2t+1       column g
///   a[1]  row g + 8  columns 2t, 2t+1            b[1]  rows 2t+8, 2t+9     column g
///   a[2]  row g      columns 2t+8, 2t+9
///   a[3]  row g + 8  columns 2t+8, 2t+9          c[0], c[1]  row g      columns 2t, 2t+1
///                                                c[2], c[3]  row g + 8  columns 2t, 2t+1
template <typename T>
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1 MB_PLACE) {
  static_assert(std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __half>);
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#else
  ::simt::mma_m16n8k16<T>(c, a, b0, b1 MB_PASS_PLACE);
#endif
}
template <typename T>
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2] MB_PLACE) {
  mma_m16n8k16<T>(c, a, b[0], b[1] MB_PASS_PLACE);
}

/// c [16, 8] += a [16, 8] b [8, 8] of tf32 values (cvt_tf32), a by rows, b by columns.
///   a[0]  row g      column t            b[0]  row t      column g
///   a[1]  row g + 8  column t            b[1]  row t + 4  column g
///   a[2]  row g      column t + 4
///   a[3]  row g + 8  column t + 4        c as in mma_m16n8k16
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                 uint32_t b1 MB_PLACE) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  ::simt::mma_m16n8k8_tf32(c, a, b0, b1 MB_PASS_PLACE);
#endif
}
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&c)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2] MB_PLACE) {
  mma_m16n8k8_tf32(c, a, b[0], b[1] MB_PASS_PLACE);
}

/// The bits of x rounded to tf32 (10 bits of mantissa), to nearest, ties away from zero.
__device__ __forceinline__ uint32_t cvt_tf32(float x) {
#ifdef __CUDACC__
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#else
  return ::simt::cvt_tf32(x);
#endif
}

// ---- ldmatrix: 8 x 8 matrices of 16-bit elements from shared memory to fragments -----------------
/// One matrix, two or four. Lane 8 i + j passes the address of row j of matrix i (16 bytes, 16-byte
/// aligned; with x1 lanes 8.., with x2 lanes 16.. pass any valid address).
///   r[i]  matrix i, row g, columns 2t, 2t+1; with _trans: rows 2t, 2t+1, column g
/// So for a [16, 16] operand a stored by rows, the addresses of x4 are those of rows 0..7 and 8..15
/// at column 0, then the same at column 8; r is then the fragment a.
__device__ __forceinline__ void ldmatrix_x1(uint32_t& r, const void* row MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(r)
               : "r"(smem_u32(row))
               : "memory");
#else
  ::simt::ldmatrix<1, false>(&r, row MB_PASS_PLACE);
#endif
}
__device__ __forceinline__ void ldmatrix_x1_trans(uint32_t& r, const void* row MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
               : "=r"(r)
               : "r"(smem_u32(row))
               : "memory");
#else
  ::simt::ldmatrix<1, true>(&r, row MB_PASS_PLACE);
#endif
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t& r0, uint32_t& r1, const void* row MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r0), "=r"(r1)
               : "r"(smem_u32(row))
               : "memory");
#else
  uint32_t r[2];
  ::simt::ldmatrix<2, false>(r, row MB_PASS_PLACE);
  r0 = r[0], r1 = r[1];
#endif
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t& r0, uint32_t& r1,
                                                  const void* row MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r0), "=r"(r1)
               : "r"(smem_u32(row))
               : "memory");
#else
  uint32_t r[2];
  ::simt::ldmatrix<2, true>(r, row MB_PASS_PLACE);
  r0 = r[0], r1 = r[1];
#endif
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3,
                                            const void* row MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
               : "r"(smem_u32(row))
               : "memory");
#else
  uint32_t r[4];
  ::simt::ldmatrix<4, false>(r, row MB_PASS_PLACE);
  r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3];
#endif
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t& r0, uint32_t& r1, uint32_t& r2,
                                                  uint32_t& r3, const void* row MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
               : "r"(smem_u32(row))
               : "memory");
#else
  uint32_t r[4];
  ::simt::ldmatrix<4, true>(r, row MB_PASS_PLACE);
  r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3];
#endif
}
/// The same into a fragment's array.
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row MB_PLACE) {
  ldmatrix_x2(r[0], r[1], row MB_PASS_PLACE);
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row MB_PLACE) {
  ldmatrix_x2_trans(r[0], r[1], row MB_PASS_PLACE);
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row MB_PLACE) {
  ldmatrix_x4(r[0], r[1], r[2], r[3], row MB_PASS_PLACE);
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row MB_PLACE) {
  ldmatrix_x4_trans(r[0], r[1], r[2], r[3], row MB_PASS_PLACE);
}

// ---- cp.async: copies from global to shared memory that run beside the thread --------------------
/// Copies 16 bytes; both addresses 16-byte aligned. Only the first `source_bytes` (0..16) are read,
/// the rest is zeros: with 0 the source is not touched, but must still be a pointer.
__device__ __forceinline__ void cp_async16(void* shared, const void* global,
                                           int source_bytes = 16 MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_u32(shared)), "l"(global),
               "r"(source_bytes)
               : "memory");
#else
  ::simt::cp_async16(shared, global, source_bytes MB_PASS_PLACE);
#endif
}
/// The same, or 16 zeros where `valid` is false: for rows beyond a tile's end.
__device__ __forceinline__ void cp_async16_if(void* shared, const void* global,
                                              bool valid MB_PLACE) {
  cp_async16(shared, global, valid ? 16 : 0 MB_PASS_PLACE);
}
/// Ends this thread's group of copies issued since the last one.
__device__ __forceinline__ void cp_async_commit() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  ::simt::cp_async_commit();
#endif
}
/// Waits until at most N of this thread's groups are still under way. Other threads see the bytes
/// after a barrier that follows.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
  ::simt::cp_async_wait(N);
#endif
}

// ---- Reductions of whole numbers over a warp, one instruction each -------------------------------
/// T: int32_t or uint32_t. Result in every lane.
template <typename T>
__device__ __forceinline__ T redux_add(T x MB_PLACE) {
  return static_cast<T>(__reduce_add_sync(kFullMask, x MB_PASS_PLACE));
}
template <typename T>
__device__ __forceinline__ T redux_min(T x MB_PLACE) {
  return static_cast<T>(__reduce_min_sync(kFullMask, x MB_PASS_PLACE));
}
template <typename T>
__device__ __forceinline__ T redux_max(T x MB_PLACE) {
  return static_cast<T>(__reduce_max_sync(kFullMask, x MB_PASS_PLACE));
}
__device__ __forceinline__ uint32_t redux_or(uint32_t x MB_PLACE) {
  return __reduce_or_sync(kFullMask, x MB_PASS_PLACE);
}

// ---- Named barriers: a part of the block meets -----------------------------------------------------
/// Waits at barrier `id` (1..15; 0 is __syncthreads) until `threads` threads, whole warps, came.
__device__ __forceinline__ void bar_sync(int id, int threads MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
  ::simt::bar_sync(id, threads MB_PASS_PLACE);
#endif
}
/// Counts as having come and goes on: the producer's side of a hand-over.
__device__ __forceinline__ void bar_arrive(int id, int threads MB_PLACE) {
#ifdef __CUDACC__
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
  ::simt::bar_arrive(id, threads MB_PASS_PLACE);
#endif
}

// ---- Approximate maths ---------------------------------------------------------------------------
/// 2^x to about 2 ulp; results below 2^-126 are 0. exp(x) = exp2_approx(x * log2(e)).
__device__ __forceinline__ float exp2_approx(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return ::simt::exp2_approx(x);
#endif
}

}  // namespace minibert
