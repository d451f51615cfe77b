// gemm_backend.h: what gemm.cpp asks of an implementation of plain matrix multiplication.
// Implemented by gemm_builtin.cpp (always there) and gemm_onednn.cpp; where oneDNN is absent,
// gemm_onednn_absent.cpp answers for it, and CMake chooses between the two files. Both compute in
// f32. Bias, GELU and rounding to a 16-bit c are gemm.cpp's: where c is in 16 bits, it hands down a
// function, called for each part of the product when it is finished, while the part is still in the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/dry_run.h"
#include "core/dtype.h"
#include "core/kernels/gemm_simd.h"

namespace minibert {

/// op(a) [M, K] op(b) [K, N] in f32. M, N and K are at least 1.
struct GemmProblem {
  int64_t M, N, K;
  DType type;  // of a and b
  const void *a, *b;
  bool transpose_a, transpose_b;
  float* c;         // [M, N]: where the product goes; null: `finish` alone sees it, in scratch
  bool accumulate;  // the product is added to c, which is not null
  std::function<void(const GemmPart&)> finish;  // with c null alone. Called on several threads
};

/// Least rows of a part that does not end at M: so floor(row / kGemmPartRows) tells parts with the
/// same columns apart.
inline constexpr int64_t kGemmPartRows = 24;

/// Our own blocked GEMM: the thread count does not change bits.
void gemm_builtin(const GemmProblem& problem);
/// What it takes beside the operands. Reads none of them.
KernelMemory gemm_builtin_memory(const GemmProblem& problem);

bool gemm_onednn_available();
/// Whether oneDNN multiplies this type on this CPU by instructions made for it; f32 always.
bool gemm_onednn_multiplies(DType type);
/// Errors: InternalError if oneDNN refuses.
void gemm_onednn(const GemmProblem& problem);
/// What it takes of the allocator beside the operands. Reads none of them. oneDNN's sgemm takes memory
/// of its own, too, for a few panels a thread.
KernelMemory gemm_onednn_memory(const GemmProblem& problem);
/// The part of gemm_onednn that 16-bit types take, for any type (tests). False if oneDNN has no
/// kernel for it.
bool gemm_onednn_primitive(const GemmProblem& problem);
/// "oneDNN 2.6.3 (avx512_core_bf16)"; empty where it is absent.
std::string gemm_onednn_description();

}  // namespace minibert
