// gemm_backend.h: what gemm.cpp asks of an implementation of plain matrix multiplication.
// Implemented by gemm_builtin.cpp (always there) and gemm_onednn.cpp; where oneDNN is absent,
// gemm_onednn_absent.cpp answers for it, and CMake chooses between the two files. Bias and the GELU
// epilogues are passes of gemm.cpp, the same for both.
#pragma once

#include <cstdint>
#include <string>

namespace minibert {

/// c [M, N] = op(a) [M, K] op(b) [K, N], or added to c. M, N and K are at least 1.
struct GemmProblem {
  int64_t M, N, K;
  const float *a, *b;
  float* c;
  bool transpose_a, transpose_b, accumulate;
};

/// Our own blocked GEMM: the thread count does not change bits.
void gemm_builtin(const GemmProblem& problem);

bool gemm_onednn_available();
/// Errors: InternalError if oneDNN refuses.
void gemm_onednn(const GemmProblem& problem);
/// "oneDNN 2.6.3 (avx512_core_bf16)"; empty where it is absent.
std::string gemm_onednn_description();

}  // namespace minibert
