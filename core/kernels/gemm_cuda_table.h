// gemm_cuda_table.h: the choice between our GEMM and cuBLASLt on device cuda, from the outside: its
// names in flags, and when forms are timed. The choice itself: gemm_cuda_choice.h. Called by the verbs
// and by models/training/product_choices.cpp. Implemented by gemm_plan.cpp (names) and
// gemm_choice_cublaslt.cpp. Test: ctest -R gemm_cuda.
#pragma once

#include <string>

#include "core/device.h"
#include "core/kernels/gemm_cuda_choice.h"

namespace minibert {

/// "fastest", "ours" or "cublaslt". Errors: UsageError for another name.
GemmCudaBackend parse_gemm_cuda_backend(const std::string& name);
/// Errors: UsageError for a choice on the CPU, where there is none. `section` ("train.") stands before
/// the names of the settings.
void check_gemm_cuda_backend(GemmCudaBackend backend, Device device, const std::string& section);
const char* name_of(GemmCudaBackend backend);
/// As gemm_cuda_implementation() would say under this one.
std::string gemm_cuda_implementation(GemmCudaBackend backend);

/// Whether forms that are not in the table are timed, which waits for the device; at first they are.
/// If not, and in a stream that is captured, such a form takes the choice of the form nearest in size
/// that is alike in all else, or ours, and is not entered.
void gemm_cuda_time_new_forms(bool on);

/// How many of the table's forms are ours, and how many cuBLASLt's.
struct GemmCudaChoiceCount {
  int ours = 0, cublaslt = 0;
};
GemmCudaChoiceCount gemm_cuda_choice_count();

}  // namespace minibert
