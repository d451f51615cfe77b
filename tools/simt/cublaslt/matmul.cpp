// matmul.cpp: cublasLtMatmul: checks that need the pointers, then an operation in the stream.
#include "tools/simt/cublaslt/algorithms.h"
#include "tools/simt/cublaslt/handle.h"
#include "tools/simt/cublaslt/product.h"
#include "tools/simt/memory.h"

namespace simt {
namespace {

bool aligned(const void* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

/// The caller's algorithm, or, for null, what the heuristic would choose without a workspace.
cublasStatus_t choose(const Problem& problem, const cublasLtMatmulAlgo_t* algo,
                      AlgorithmFields* chosen) {
  if (!algo) {
    PreferenceFields any_pointers;
    for (uint32_t& alignment : any_pointers.alignments) alignment = 1;
    *chosen = algorithms_for(problem, any_pointers).front();
    return CUBLAS_STATUS_SUCCESS;
  }
  *chosen = fields_of<AlgorithmFields>(algo);
  if (chosen->magic != kAlgorithmMagic) return CUBLAS_STATUS_INVALID_VALUE;
  const bool fits = chosen->usable && chosen->splits <= problem.k && layouts_fit(problem, *chosen);
  return fits ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t check_pointers(const Problem& p, const Operands& o, const AlgorithmFields& algorithm,
                              size_t workspace_size) {
  const struct {
    const void* data;
    const Matrix& matrix;
  } all[] = {{o.a, p.a}, {o.b, p.b}, {o.c, p.c}, {o.d, p.d}};
  for (const auto& [data, matrix] : all) {
    if (!data || !aligned(data, size_of(matrix.type)) || !aligned(data, algorithm.alignment))
      return CUBLAS_STATUS_INVALID_VALUE;
  }
  // In place is fine if every element of C is read where it is written.
  const bool same_place =
      p.c.ld == p.d.ld && p.c.row_major == p.d.row_major && p.c.batch_stride == p.d.batch_stride;
  if (o.c == o.d && !same_place) return CUBLAS_STATUS_INVALID_VALUE;
  const size_t needed = workspace_bytes(p, algorithm);
  if (needed == 0) return CUBLAS_STATUS_SUCCESS;
  const bool has_workspace = o.workspace && workspace_size >= needed && aligned(o.workspace, 16);
  return has_workspace ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

/// On the virtual clock: 100 TFLOP/s after the latency of a kernel.
double cost_ns(const Problem& p) {
  return 5000 + 2.0 * p.batches * p.m * p.n * p.k / 1e5;
}

}  // namespace
}  // namespace simt

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t descriptor,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_size, cudaStream_t stream) {
  return simt::enter(__func__, handle, [&] {
    simt::Problem problem;
    cublasStatus_t status =
        simt::read_problem(descriptor, a_layout, b_layout, c_layout, d_layout, &problem);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (simt::runtime().cublaslt_refuses) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    simt::AlgorithmFields algorithm;
    status = simt::choose(problem, algo, &algorithm);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const simt::Operands operands{a, b, c, d, static_cast<float*>(workspace), algorithm.splits};
    status = simt::check_pointers(problem, operands, algorithm, workspace_size);
    if (status != CUBLAS_STATUS_SUCCESS) return status;

    const auto* alpha_at = static_cast<const float*>(alpha);
    const auto* beta_at = static_cast<const float*>(beta);
    std::function<void()> run;
    if (problem.device_scalars) {  // read when the product runs
      run = [=] { simt::compute(problem, operands, *alpha_at, *beta_at); };
    } else {  // read now: the caller may change them at once
      run = [=, alpha_now = *alpha_at, beta_now = *beta_at] {
        simt::compute(problem, operands, alpha_now, beta_now);
      };
    }
    const cudaError_t queued =
        simt::enqueue_work(stream, {cudaGraphNodeTypeKernel, "cublasLtMatmul", run,
                                    simt::cost_ns(problem), simt::LaunchShape{}});
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
  });
}
