// gemm_mma_tf32.cu: the tensor-core GEMM of gemm_mma_cuda.h, compiled for f32 operands rounded to tf32.
#include "core/kernels/gemm_mma_cuda.h"

namespace minibert {

// ---- 12. Instantiations ------------------------------------------------------------------------
void gemm_mma_tf32(const GemmLaunch& product, GemmTileSize tile, Stream stream) {
  gemm_mma<float>(product, tile, stream);
}

}  // namespace minibert
