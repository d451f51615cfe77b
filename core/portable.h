// portable.h: the one macro that lets a function be part of host code, of files compiled once per
// instruction set, and of CUDA kernels. Easy to break: a function that several instruction sets
// share must be inlined everywhere, or the linker keeps one copy, perhaps the AVX-512 one
// (core/simd.h). So everything in a header that a *_simd.cpp or a .cu includes is MB_INLINE, or
// MB_HOST_INLINE where it calls what only the host has.
#pragma once

#define MB_HOST_INLINE [[gnu::always_inline]] inline
#ifdef __CUDACC__
#define MB_INLINE __host__ __device__ __forceinline__
#else
#define MB_INLINE MB_HOST_INLINE
#endif
