// problem.cpp: reads descriptors, and refuses what cuBLASLt's documentation refuses.
// Sources: the comments in cublasLt.h, and the table of types under cublasLtMatmul() in the cuBLAS
// manual. Beyond them: no empty products, and what a real type makes pointless.
#include "tools/simt/cublaslt/problem.h"

namespace simt {
namespace {

constexpr auto kInvalid = CUBLAS_STATUS_INVALID_VALUE;
constexpr auto kUnsupported = CUBLAS_STATUS_NOT_SUPPORTED;
constexpr auto kGood = CUBLAS_STATUS_SUCCESS;

cublasStatus_t read_matrix(cublasLtMatrixLayout_t layout, Matrix* matrix, int64_t* batches) {
  const auto f = fields_of<LayoutFields>(layout);
  if (f.order != CUBLASLT_ORDER_COL && f.order != CUBLASLT_ORDER_ROW) return kUnsupported;
  if (f.plane_offset != 0 || f.batch_mode != 0) return kUnsupported;
  if (size_of(static_cast<cudaDataType_t>(f.type)) == 0) return kUnsupported;
  if (f.rows == 0 || f.cols == 0 || f.batch_count < 1) return kInvalid;
  matrix->type = static_cast<cudaDataType_t>(f.type);
  matrix->row_major = f.order == CUBLASLT_ORDER_ROW;
  matrix->rows = static_cast<int64_t>(f.rows);
  matrix->cols = static_cast<int64_t>(f.cols);
  matrix->ld = f.ld;
  matrix->batch_stride = f.batch_stride;
  *batches = f.batch_count;
  return f.ld >= (matrix->row_major ? matrix->cols : matrix->rows) ? kGood : kInvalid;
}

/// The manual's table for a compute type of 32F and a scale type of 32F.
bool types_go_together(int compute_type, cudaDataType_t input, cudaDataType_t output) {
  switch (compute_type) {
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      return input == output || (size_of(input) == 2 && output == CUDA_R_32F);
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return input == CUDA_R_32F && output == CUDA_R_32F;
    default:
      return false;
  }
}

bool names_a_format_of_8_bits(const MatmulFields& f) {
  for (const void* scale : f.scales)
    if (scale) return true;
  return f.maxima[0] || f.maxima[1] || f.out_scale || f.fast_accumulation;
}

cublasStatus_t read_epilogue(const MatmulFields& f, Problem* p) {
  switch (f.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
      break;
    case CUBLASLT_EPILOGUE_BIAS:
      p->add_bias = true;
      break;
    case CUBLASLT_EPILOGUE_GELU:
      p->gelu = true;
      break;
    case CUBLASLT_EPILOGUE_GELU_BIAS:
      p->gelu = p->add_bias = true;
      break;
    case CUBLASLT_EPILOGUE_GELU_AUX:
      p->gelu = p->write_aux = true;
      break;
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
      p->gelu = p->write_aux = p->add_bias = true;
      break;
    case CUBLASLT_EPILOGUE_DGELU:
      p->dgelu = true;
      break;
    case CUBLASLT_EPILOGUE_DGELU_BGRAD:
      p->dgelu = p->bias_grad_of_d = true;
      break;
    case CUBLASLT_EPILOGUE_BGRADA:
      p->bias_grad_of_a = true;
      break;
    case CUBLASLT_EPILOGUE_BGRADB:
      p->bias_grad_of_b = true;
      break;
    default:
      return kUnsupported;
  }
  return kGood;
}

cublasStatus_t read_bias(const MatmulFields& f, Problem* p) {
  if (!p->uses_bias()) return kGood;
  if (!f.bias) return kInvalid;
  p->bias = f.bias;
  p->bias_type = f.bias_type == -1 ? p->d.type : static_cast<cudaDataType_t>(f.bias_type);
  if (p->bias_type != p->d.type) return kUnsupported;
  p->bias_length = p->bias_grad_of_b ? p->n : p->m;
  p->bias_batch_stride = f.bias_batch_stride;
  // A gradient per batch needs a place per batch; one bias may serve all of them.
  const bool writes = !p->add_bias;
  if (p->batches > 1 && (writes || f.bias_batch_stride != 0) &&
      f.bias_batch_stride < p->bias_length)
    return kInvalid;
  return reinterpret_cast<uintptr_t>(f.bias) % size_of(p->bias_type) == 0 ? kGood : kInvalid;
}

cublasStatus_t read_aux(const MatmulFields& f, Problem* p) {
  if (!p->uses_aux()) return kGood;
  if (!f.aux || reinterpret_cast<uintptr_t>(f.aux) % 16 != 0) return kInvalid;
  const auto type = f.aux_type == -1 ? p->d.type : static_cast<cudaDataType_t>(f.aux_type);
  if (type != p->d.type) return kInvalid;
  p->aux = p->d;  // in the order of D
  p->aux.ld = f.aux_ld;
  p->aux.batch_stride = f.aux_batch_stride;
  p->aux_data = f.aux;
  const int64_t least = p->d.row_major ? p->n : p->m;
  if (f.aux_ld % 8 != 0 || f.aux_ld < least) return kInvalid;
  const int64_t bytes_needed = p->d.row_major ? p->m : p->n;
  if (p->batches > 1 &&
      (f.aux_batch_stride % 8 != 0 || f.aux_batch_stride < f.aux_ld * (bytes_needed - 1) + least))
    return kInvalid;
  return kGood;
}

cublasStatus_t read_shapes(Problem* p) {
  p->m = p->transpose_a ? p->a.cols : p->a.rows;
  p->k = p->transpose_a ? p->a.rows : p->a.cols;
  p->n = p->transpose_b ? p->b.rows : p->b.cols;
  const int64_t k_of_b = p->transpose_b ? p->b.cols : p->b.rows;
  const auto is_result = [&](const Matrix& x) { return x.rows == p->m && x.cols == p->n; };
  return k_of_b == p->k && is_result(p->c) && is_result(p->d) ? kGood : kInvalid;
}

cublasStatus_t read_operation(const MatmulFields& f, Problem* p) {
  for (int transpose : {f.transa, f.transb})
    if (transpose != CUBLAS_OP_N && transpose != CUBLAS_OP_T) return kUnsupported;
  if (f.transc != CUBLAS_OP_N || f.fill_mode != CUBLAS_FILL_MODE_FULL) return kUnsupported;
  if (f.scale_type != CUDA_R_32F || f.emulation) return kUnsupported;
  if (f.pointer_mode != CUBLASLT_POINTER_MODE_HOST &&
      f.pointer_mode != CUBLASLT_POINTER_MODE_DEVICE)
    return kUnsupported;
  if (names_a_format_of_8_bits(f)) return kInvalid;
  p->transpose_a = f.transa == CUBLAS_OP_T;
  p->transpose_b = f.transb == CUBLAS_OP_T;
  p->device_scalars = f.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE;
  p->round_to_tf32 = f.compute_type == CUBLAS_COMPUTE_32F_FAST_TF32;
  return kGood;
}

}  // namespace

size_t size_of(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_32F:
      return 4;
    case CUDA_R_16F:
    case CUDA_R_16BF:
      return 2;
    default:
      return 0;
  }
}

cublasStatus_t read_problem(cublasLtMatmulDesc_t descriptor, cublasLtMatrixLayout_t a,
                            cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                            cublasLtMatrixLayout_t d, Problem* problem) {
  if (!descriptor || !a || !b || !c || !d) return kInvalid;
  const auto f = fields_of<MatmulFields>(descriptor);
  Problem& p = *problem;
  p = {};
  int64_t batches[4];
  cublasStatus_t status = kGood;
  const auto then = [&](auto&& step) {
    if (status == kGood) status = step();
  };
  then([&] { return read_operation(f, &p); });
  then([&] { return read_matrix(a, &p.a, &batches[0]); });
  then([&] { return read_matrix(b, &p.b, &batches[1]); });
  then([&] { return read_matrix(c, &p.c, &batches[2]); });
  then([&] { return read_matrix(d, &p.d, &batches[3]); });
  then([&] {
    p.batches = batches[3];
    for (int64_t count : batches)
      if (count != p.batches) return kInvalid;
    // Batches of D must not overlap; the others may even coincide.
    const int64_t extent = static_cast<int64_t>(p.d.offset(p.d.rows - 1, p.d.cols - 1)) + 1;
    return p.batches > 1 && p.d.batch_stride < extent ? kInvalid : kGood;
  });
  then([&] { return read_shapes(&p); });
  then([&] {
    const bool supported = p.a.type == p.b.type && p.c.type == p.d.type &&
                           types_go_together(f.compute_type, p.a.type, p.d.type);
    return supported ? kGood : kUnsupported;
  });
  then([&] { return read_epilogue(f, &p); });
  then([&] { return read_bias(f, &p); });
  then([&] { return read_aux(f, &p); });
  return status;
}

}  // namespace simt
