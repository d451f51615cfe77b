// compute_flags.h: --precision, --device and --gemm of the verbs that use a model (eval, fill-mask,
// embed) or time ops (bench), and --precision alone of gradcheck. The rules are those of training
// (core/precision.h). Test: ctest -R tools_text_verbs.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "core/kernels/gemm_cuda_table.h"
#include "core/precision.h"
#include "models/bert/bert.h"

namespace minibert {

/// Sets who multiplies on device cuda. Errors: UsageError for a name that is not one, and for a choice
/// on the CPU, where there is none.
inline void use_gemm(const std::string& name, Device device) {
  const GemmCudaBackend backend = parse_gemm_cuda_backend(name);
  check_gemm_cuda_backend(backend, device, /* section= */ "");
  if (device == Device::cuda) gemm_cuda_use(backend);
}

struct ComputeFlags {
  std::string precision = "fp32", device = "cpu", gemm = "fastest";

  void add_to(CLI::App& verb) {
    add_precision_to(verb);
    verb.add_option("--device", device, "cpu or cuda")->capture_default_str();
    add_gemm_to(verb, gemm);
  }
  static void add_gemm_to(CLI::App& verb, std::string& gemm) {
    verb.add_option("--gemm", gemm,
                    "who multiplies on device cuda: fastest (timed), ours or cublaslt")
        ->capture_default_str();
  }
  void add_precision_to(CLI::App& verb) {
    verb.add_option("--precision", precision,
                    "fp32, bf16 or fp16: type of weights and activations (tf32: CUDA only)")
        ->capture_default_str();
  }
  /// Also sets who multiplies. Errors: UsageError for a name that is not one, and for what the device
  /// can't do.
  ComputeOptions options() const {
    const ComputeOptions options =
        compute_options(parse_precision(precision), parse_device(device));
    use_gemm(gemm, options.device);
    return options;
  }
};

}  // namespace minibert
