// problem.h: a product as asked for, read out of its descriptors and checked.
// Both the heuristic and the product itself go through read_problem(), so they accept the same. It
// is as strict as NVIDIA's documentation, and stricter where that is silent: an argument that the
// stand-in takes should not surprise on a GPU. Test: ctest -R simt_cublaslt.
#pragma once

#include <cublasLt.h>

#include "tools/simt/cublaslt/descriptors.h"

namespace simt {

/// One of A, B, C, D, or the matrix that an epilogue reads or writes besides.
struct Matrix {
  cudaDataType_t type = CUDA_R_32F;
  bool row_major = false;
  int64_t rows = 0, cols = 0, ld = 0, batch_stride = 0;  // in elements
  size_t offset(int64_t row, int64_t col) const {
    return row_major ? row * ld + col : row + col * ld;
  }
};

struct Problem {
  Matrix a, b, c, d, aux;
  bool transpose_a = false, transpose_b = false;
  int64_t m = 0, n = 0, k = 0, batches = 1;  // op(A) [m, k] times op(B) [k, n]
  bool round_to_tf32 = false;
  bool device_scalars = false;  // alpha and beta are in device memory

  // ---- The epilogue
  bool add_bias = false, gelu = false, write_aux = false, dgelu = false;
  bool bias_grad_of_d = false, bias_grad_of_a = false, bias_grad_of_b = false;
  void* bias = nullptr;  // read, or written as a gradient
  cudaDataType_t bias_type = CUDA_R_32F;
  int64_t bias_length = 0, bias_batch_stride = 0;
  void* aux_data = nullptr;
  bool uses_bias() const { return add_bias || bias_grad_of_d || bias_grad_of_a || bias_grad_of_b; }
  bool uses_aux() const { return write_aux || dgelu; }
};

size_t size_of(cudaDataType_t type);

/// INVALID_VALUE if the arguments contradict each other or the documentation, NOT_SUPPORTED if no
/// algorithm of the real library takes them, or none here.
cublasStatus_t read_problem(cublasLtMatmulDesc_t descriptor, cublasLtMatrixLayout_t a,
                            cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                            cublasLtMatrixLayout_t d, Problem* problem);

}  // namespace simt
