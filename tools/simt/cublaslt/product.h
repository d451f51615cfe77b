// product.h: computes a checked product, on the host, from and to the emulated device's memory.
// Called by matmul.cpp from inside an operation of a stream. Test: ctest -R simt_cublaslt.
#pragma once

#include "tools/simt/cublaslt/problem.h"

namespace simt {

struct Operands {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* c = nullptr;  // not read if beta is 0
  void* d = nullptr;
  float* workspace = nullptr;  // [batches, m, n], if splits > 1
  int splits = 1;
};

/// D = epilogue(alpha op(A) op(B) + beta C). Sums in f32, in order of k; with two splits, each half
/// for itself and then both. Errors: DeviceFault if a matrix leaves device memory.
void compute(const Problem& problem, const Operands& operands, float alpha, float beta);

}  // namespace simt
