// handle.h: the doors of the stand-in's functions. Under the runtime's lock they count the call, inject
// errors and check the handle, where there is one, as call() does for the runtime's own functions
// (runtime/state.h).
#pragma once

#include <functional>

#include <cublasLt.h>

#include "tools/simt/runtime/state.h"

namespace simt {

cublasStatus_t enter(const char* function, cublasLtHandle_t handle,
                     const std::function<cublasStatus_t()>& body);

/// For functions without a handle.
cublasStatus_t enter(const char* function, const std::function<cublasStatus_t()>& body);

}  // namespace simt
