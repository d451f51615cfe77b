// handle.cpp: handles, versions and the names of statuses.
#include "tools/simt/cublaslt/handle.h"

struct cublasLtContext {};

namespace simt {
namespace {

// Created and not destroyed. Guarded by the runtime's lock.
std::set<cublasLtHandle_t>& handles() {
  static auto* instance = new std::set<cublasLtHandle_t>;
  return *instance;
}

cublasStatus_t admit(const char* function) {
  ++runtime().calls[function];
  if (in_host_function()) return CUBLAS_STATUS_EXECUTION_FAILED;
  return static_cast<cublasStatus_t>(injected_error(function));
}

struct StatusText {
  cublasStatus_t status;
  const char* name;
  const char* text;
};

#define SIMT_STATUS(status, text) \
  { status, #status, text }

constexpr StatusText kStatuses[] = {
    SIMT_STATUS(CUBLAS_STATUS_SUCCESS, "success"),
    SIMT_STATUS(CUBLAS_STATUS_NOT_INITIALIZED, "the library was not initialized"),
    SIMT_STATUS(CUBLAS_STATUS_ALLOC_FAILED, "the resource allocation failed"),
    SIMT_STATUS(CUBLAS_STATUS_INVALID_VALUE,
                "an unsupported value or parameter was passed to the function"),
    SIMT_STATUS(CUBLAS_STATUS_ARCH_MISMATCH,
                "the function requires an architectural feature absent from the device"),
    SIMT_STATUS(CUBLAS_STATUS_MAPPING_ERROR, "an access to GPU memory space failed"),
    SIMT_STATUS(CUBLAS_STATUS_EXECUTION_FAILED, "the function failed to launch on the GPU"),
    SIMT_STATUS(CUBLAS_STATUS_INTERNAL_ERROR, "an internal operation failed"),
    SIMT_STATUS(CUBLAS_STATUS_NOT_SUPPORTED, "the requested functionality is not supported"),
    SIMT_STATUS(CUBLAS_STATUS_LICENSE_ERROR, "the license check failed"),
};

#undef SIMT_STATUS

constexpr StatusText kUnrecognized = {CUBLAS_STATUS_INTERNAL_ERROR, "unrecognized status",
                                      "unrecognized status"};

const StatusText& text_of(cublasStatus_t status) {
  for (const StatusText& entry : kStatuses)
    if (entry.status == status) return entry;
  return kUnrecognized;
}

}  // namespace

cublasStatus_t enter(const char* function, cublasLtHandle_t handle,
                     const std::function<cublasStatus_t()>& body) {
  std::lock_guard lock(runtime().mutex);
  const cublasStatus_t refused = admit(function);
  if (refused != CUBLAS_STATUS_SUCCESS) return refused;
  return handles().count(handle) ? body() : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t enter(const char* function, const std::function<cublasStatus_t()>& body) {
  std::lock_guard lock(runtime().mutex);
  const cublasStatus_t refused = admit(function);
  return refused == CUBLAS_STATUS_SUCCESS ? body() : refused;
}

}  // namespace simt

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  std::lock_guard lock(simt::runtime().mutex);
  const cublasStatus_t refused = simt::admit(__func__);
  if (refused != CUBLAS_STATUS_SUCCESS) return refused;
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  const simt::Runtime& r = simt::runtime();
  if (r.model.devices == 0 || r.sticky != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext;
  simt::handles().insert(*handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return simt::enter(__func__, handle, [&] {
    simt::handles().erase(handle);
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
  });
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return simt::text_of(status).name;
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return simt::text_of(status).text;
}

size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}

size_t cublasLtGetCudartVersion() {
  return CUDART_VERSION;
}
