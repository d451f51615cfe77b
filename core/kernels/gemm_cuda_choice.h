// gemm_cuda_choice.h: how products run on device cuda, for those who want to choose or to see it:
// tests and bench. No CUDA header is needed. Implemented by gemm.cu, gemm_rungs.cu, gemm_plan.cpp and
// gemm_choice_cublaslt.cpp. Easy to break: a choice decides bits, so a run that must repeat itself
// loads the table that the first run saved, or multiplies with ours alone. Test: ctest -R gemm_cuda.
#pragma once

#include <string>
#include <vector>

#include "core/kernels/gemm.h"

namespace minibert {

// ---- Our own kernels ---------------------------------------------------------------------------
/// Section 9's rungs, in the order in which they are explained. Each keeps the whole contract.
enum class GemmRung { naive, tiled, tensor_core, production };
void gemm_cuda_rung(const GemmArgs& args, Stream stream, GemmRung rung);

/// Sizes of c's part that a block of the production kernel computes.
enum class GemmTileSize { small, large };  // 64 x 64, 128 x 128

/// How the production kernel divides a product.
struct GemmPlan {
  GemmTileSize tile = GemmTileSize::large;
  int splits = 1;  // parts of K, added in a second pass
};
/// By the shape, the type and the chip's multiprocessors.
GemmPlan gemm_plan(int64_t M, int64_t N, int64_t K, DType type, bool tf32, int multiprocessors);
/// gemm_cuda on the production kernel by this plan, whatever the sizes.
void gemm_cuda_planned(const GemmArgs& args, Stream stream, GemmPlan plan);

// ---- Our own or cuBLASLt ------------------------------------------------------------------------
/// fastest: both are timed at the first product of a form, and the form keeps the winner (where a
/// timing may not wait for the device: gemm_cuda_table.h). A form's sizes are rounded up to
/// quarters of a power of two.
enum class GemmCudaBackend { fastest, ours, cublaslt };
/// For all products to come. What cuBLASLt can't do stays ours; where its epilogues would not keep
/// the contract (GELU's erf form, and any GELU in 16 bits) it multiplies, and a pass of ours finishes.
/// At first: fastest. The verbs have a flag for it, --gemm.
void gemm_cuda_use(GemmCudaBackend backend);
GemmCudaBackend gemm_cuda_backend();
/// Who multiplies: "the faster of cuBLASLt 13.1.0, built-in", "cuBLASLt 13.1.0, built-in" (what the
/// library can't do), or "built-in".
std::string gemm_cuda_implementation();

/// The choices so far, one form a line: what ours took, what the library's best, and who multiplies
/// (the number is that of the library's offer): "bf16 4096x1024x1024 nt bias 81.0us 78.5us cublaslt:0".
std::string gemm_cuda_choices();
/// Takes them from such a text, in place of what was there. Errors: DataError with the line.
void gemm_cuda_load_choices(const std::string& text);

}  // namespace minibert
