// algorithms.cpp: the heuristic, and questions about an algorithm.
#include "tools/simt/cublaslt/algorithms.h"

#include <algorithm>

#include "tools/simt/cublaslt/handle.h"

namespace simt {
namespace {

constexpr AlgorithmFields kAligned = {kAlgorithmMagic, 1, 16, 1, true};
constexpr AlgorithmFields kSplitK = {kAlgorithmMagic, 2, 16, 2, true};
constexpr AlgorithmFields kAnyAlignment = {kAlgorithmMagic, 3, 1, 1, true};

cublasLtMatmulHeuristicResult_t result_of(const Problem& problem,
                                          const AlgorithmFields& algorithm) {
  cublasLtMatmulHeuristicResult_t result{};
  store(&result.algo, algorithm);
  result.workspaceSize = workspace_bytes(problem, algorithm);
  result.state = CUBLAS_STATUS_SUCCESS;
  const float tiles = static_cast<float>((problem.m + 127) / 128 * ((problem.n + 127) / 128));
  result.wavesCount = tiles * problem.batches / runtime().model.multiprocessors;
  return result;
}

/// An entry that is no result, as the real heuristic may return one: callers must read `state`.
cublasLtMatmulHeuristicResult_t no_result() {
  cublasLtMatmulHeuristicResult_t result{};
  AlgorithmFields unusable = kAligned;
  unusable.usable = false;
  store(&result.algo, unusable);
  result.state = CUBLAS_STATUS_NOT_SUPPORTED;
  return result;
}

}  // namespace

bool layouts_fit(const Problem& p, const AlgorithmFields& algorithm) {
  const auto fits = [&](const Matrix& x) {
    const size_t bytes = size_of(x.type);
    return x.ld * bytes % algorithm.alignment == 0 &&
           (p.batches == 1 || x.batch_stride * bytes % algorithm.alignment == 0);
  };
  return fits(p.a) && fits(p.b) && fits(p.c) && fits(p.d);
}

size_t workspace_bytes(const Problem& p, const AlgorithmFields& algorithm) {
  return algorithm.splits > 1 ? p.batches * p.m * p.n * sizeof(float) : 0;
}

std::vector<AlgorithmFields> algorithms_for(const Problem& problem,
                                            const PreferenceFields& preference) {
  std::vector<AlgorithmFields> found;
  for (const AlgorithmFields& algorithm : {kAligned, kSplitK, kAnyAlignment}) {
    const bool aligned =
        std::all_of(std::begin(preference.alignments), std::end(preference.alignments),
                    [&](uint32_t alignment) { return alignment >= algorithm.alignment; });
    const bool reduces = algorithm.splits == 1 ||
                         (preference.reduction_mask & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    if (aligned && reduces && layouts_fit(problem, algorithm) && algorithm.splits <= problem.k &&
        workspace_bytes(problem, algorithm) <= preference.max_workspace)
      found.push_back(algorithm);
  }
  return found;
}

}  // namespace simt

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  return simt::enter(__func__, handle, [&] {
    if (!preference || !results || !returned || requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
    *returned = 0;
    simt::Problem problem;
    const cublasStatus_t status = simt::read_problem(descriptor, a, b, c, d, &problem);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (simt::runtime().cublaslt_refuses) return CUBLAS_STATUS_NOT_SUPPORTED;
    const auto wishes = simt::fields_of<simt::PreferenceFields>(preference);
    for (const auto& algorithm : simt::algorithms_for(problem, wishes))
      if (*returned < requested) results[(*returned)++] = simt::result_of(problem, algorithm);
    if (*returned < requested) results[(*returned)++] = simt::no_result();
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t descriptor,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  return simt::enter(__func__, handle, [&] {
    if (!algo || !result) return CUBLAS_STATUS_INVALID_VALUE;
    const auto algorithm = simt::fields_of<simt::AlgorithmFields>(algo);
    if (algorithm.magic != simt::kAlgorithmMagic) return CUBLAS_STATUS_INVALID_VALUE;
    simt::Problem problem;
    const cublasStatus_t status = simt::read_problem(descriptor, a, b, c, d, &problem);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const bool refused = simt::runtime().cublaslt_refuses || !algorithm.usable ||
                         algorithm.splits > problem.k || !simt::layouts_fit(problem, algorithm);
    if (refused) return CUBLAS_STATUS_NOT_SUPPORTED;
    const cublasLtMatmulAlgo_t kept = result->algo;
    *result = simt::result_of(problem, algorithm);
    result->algo = kept;  // as documented, never updated
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t which,
                                                    void* value, size_t bytes, size_t* written) {
  if (!algo) return CUBLAS_STATUS_INVALID_VALUE;
  const auto algorithm = simt::fields_of<simt::AlgorithmFields>(algo);
  uint32_t found = 0;
  size_t needed = sizeof found;
  switch (which) {
    case CUBLASLT_ALGO_CONFIG_ID:
      found = algorithm.id;
      break;
    case CUBLASLT_ALGO_CONFIG_TILE_ID:
      found = CUBLASLT_MATMUL_TILE_128x128;
      break;
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM:
      found = algorithm.splits;
      break;
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME:
      found = algorithm.splits > 1 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                                   : CUBLASLT_REDUCTION_SCHEME_NONE;
      break;
    case CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING:
    case CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION:
    case CUBLASLT_ALGO_CONFIG_STAGES_ID:
      break;
    case CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID:
    case CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID:
      needed = sizeof(uint16_t);
      break;
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (bytes == 0 ? !written : (!value || bytes != needed)) return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes > 0) std::memcpy(value, &found, needed);  // little-endian, as every machine with CUDA
  if (written) *written = needed;
  return CUBLAS_STATUS_SUCCESS;
}
