// bench_cudnn.h: attention and LayerNorm by NVIDIA's cuDNN, which bench.cpp times beside ours.
// Where CMake finds cuDNN, bench_cudnn.cpp implements it, else bench_cudnn_absent.cpp; nothing
// needs it.
// Test: none without a GPU; what cuDNN computes is compared with ours whenever it is timed.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace minibert {

/// An op by cuDNN. Each function queues its pass on the thread's stream; backward needs what
/// forward has written.
struct CudnnOp {
  std::function<void()> forward, backward;
  Tensor y;
  std::vector<Tensor> gradients;  // in the order of the op's inputs
};

/// "cuDNN 9.19.0", or empty in a build without it.
std::string cudnn_description();

// Nothing, where cuDNN has no kernel for the types or the GPU. Tensors lie on device cuda.
/// Attention without dropout, of sequences of one length, in the form of cuDNN that takes lengths:
/// softmax(q k^T / sqrt(D)) v.  qkv [T, 3H] read as [B, S, 3, A, D]; dy [T, H].
std::optional<CudnnOp> cudnn_attention(const Tensor& qkv, const Tensor& dy, int64_t sequences,
                                       int64_t heads);
/// LayerNorm over the last dimension.  x, dy [T, H]; weight, beta [H], f32 as in our models.
/// cuDNN's persistent forward kernel refuses f32 vectors beside a 16-bit x: another one runs then.
std::optional<CudnnOp> cudnn_layer_norm(const Tensor& x, const Tensor& weight, const Tensor& beta,
                                        const Tensor& dy, float eps);

}  // namespace minibert
