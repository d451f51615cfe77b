// gemm_onednn_absent.cpp: oneDNN of a build without it. gemm.cpp then uses our own blocked GEMM.
#include "core/error.h"
#include "core/kernels/gemm_backend.h"

namespace minibert {

bool gemm_onednn_available() {
  return false;
}

bool gemm_onednn_multiplies(DType) {
  return false;
}

void gemm_onednn(const GemmProblem&) {
  MB_ASSERT(false, "gemm: oneDNN was asked for in a build without it");
}

KernelMemory gemm_onednn_memory(const GemmProblem& problem) {
  return gemm_builtin_memory(problem);
}

bool gemm_onednn_primitive(const GemmProblem&) {
  return false;
}

std::string gemm_onednn_description() {
  return "";
}

}  // namespace minibert
