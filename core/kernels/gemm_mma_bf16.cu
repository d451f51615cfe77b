// gemm_mma_bf16.cu: the tensor-core GEMM of gemm_mma_cuda.h, compiled for bf16.
#include "core/kernels/gemm_mma_cuda.h"

namespace minibert {

// ---- 12. Instantiations ------------------------------------------------------------------------
void gemm_mma_bf16(const GemmLaunch& product, GemmTileSize tile, Stream stream) {
  gemm_mma<__nv_bfloat16>(product, tile, stream);
}

}  // namespace minibert
