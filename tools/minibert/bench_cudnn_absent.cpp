// bench_cudnn_absent.cpp: a build without cuDNN has no peer for attention and LayerNorm.
// Test: ctest -R tools_bench.
#include "tools/minibert/bench_cudnn.h"

namespace minibert {

std::string cudnn_description() {
  return {};
}

std::optional<CudnnOp> cudnn_attention(const Tensor&, const Tensor&, int64_t, int64_t) {
  return std::nullopt;
}

std::optional<CudnnOp> cudnn_layer_norm(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                        float) {
  return std::nullopt;
}

}  // namespace minibert
