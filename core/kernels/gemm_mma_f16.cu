// gemm_mma_f16.cu: the tensor-core GEMM of gemm_mma_cuda.h, compiled for f16.
#include "core/kernels/gemm_mma_cuda.h"

namespace minibert {

// ---- 12. Instantiations ------------------------------------------------------------------------
void gemm_mma_f16(const GemmLaunch& product, GemmTileSize tile, Stream stream) {
  gemm_mma<__half>(product, tile, stream);
}

}  // namespace minibert
