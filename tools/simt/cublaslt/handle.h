// handle.h: the door of every function of the stand-in that takes a handle.
// Under the runtime's lock it counts the call, injects errors and checks the handle, as call() does
// for the runtime's own functions (runtime/state.h).
#pragma once

#include <functional>

#include <cublasLt.h>

#include "tools/simt/runtime/state.h"

namespace simt {

cublasStatus_t enter(const char* function, cublasLtHandle_t handle,
                     const std::function<cublasStatus_t()>& body);

}  // namespace simt
