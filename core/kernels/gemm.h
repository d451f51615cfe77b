// gemm.h: general matrix multiplication with fused epilogues. Called by autograd/linear.cpp,
// feed_forward.cpp, losses. Sections 1 to 4 (mathematics, shapes, cost, precision) precede the
// interface.
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
enum class Gelu { erf, tanh };

/// c = op(a) op(b) [+ c] [+ bias], and what an epilogue adds. op(x) is x or its transpose; all
/// matrices are row-major. Shapes  op(a) [M, K]; op(b) [K, N]; c [M, N]; bias, column_sum [N];
/// pre_activation [M, N].
struct GemmArgs {
  Tensor a, b, c;
  bool transpose_a = false;  // a is stored [K, M]
  bool transpose_b = false;  // b is stored [N, K], as the weight of a linear layer is
  bool accumulate = false;   // add to what c holds (gradients); not together with an epilogue

  enum class Epilogue {
    none,       // c = op(a) op(b) [+ bias if defined]
    bias_gelu,  // pre_activation = op(a) op(b) + bias;  c = gelu(pre_activation)
    dgelu,  // c = (op(a) op(b)) * gelu'(pre_activation);  column_sum [N] (+)= sum over M of c, the
            // bias gradient
  };
  Epilogue epilogue = Epilogue::none;
  Gelu gelu = Gelu::erf;
  Tensor bias;
  Tensor pre_activation;  // written by bias_gelu (skipped if undefined), read by dgelu
  Tensor column_sum;      // dgelu only, optional
  bool accumulate_column_sum = false;
};

void gemm(const GemmArgs& args, Stream stream = {});
void gemm_reference(const GemmArgs& args);  // plain loops in double
double gemm_flops(const GemmArgs& args);
double gemm_bytes(const GemmArgs& args);

/// Which implementation `gemm` uses: "oneDNN 2.6.3 (avx512_core_bf16)" or "built-in (v4)".
std::string gemm_implementation();
/// Forces our own blocked GEMM even where oneDNN is there (tests, bench).
void gemm_force_builtin(bool force);

}  // namespace minibert
