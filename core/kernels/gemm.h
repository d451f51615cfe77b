// gemm.h: general matrix multiplication with fused epilogues. Called by the ops of autograd that have
// a linear layer. Runs on oneDNN (gemm_onednn.cpp) where CMake found it and it is the faster one, else
// on our own blocked GEMM (gemm_builtin.cpp, gemm_simd.cpp). On device cuda gemm_choice_cublaslt.cpp
// chooses between our kernels (gemm.cu; gemm_cuda.h says which file holds what) and cuBLASLt
// (gemm_cublaslt.cpp). Easy to break: the pre-activation that bias_gelu saves includes the bias.
// Test: ctest -R kernels_gemm. Speed of all of them: minibert bench gemm.
#pragma once

#include <string>

#include "core/kernels/gelu_kind.h"
#include "core/operand.h"
#include "core/philox.h"
#include "core/profile.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   c = op(a) op(b) [+ c] [+ bias]           op(x) = x or x^T, bias added to every row
//   A linear layer y = x W^T + bias, W [N, K] as PyTorch stores it, is three products:
//     forward  y  [M, N] = x  [M, K] W^T          transpose_b
//     dgrad    dx [M, K] = dy [M, N] W            no transpose
//     wgrad    dW [N, K] = dy^T [N, M] x [M, K]   transpose_a [accumulate]
//   bias_gelu   p = op(a) op(b) + bias,  c = gelu(p)                 (p is saved for backward)
//   dgelu       c = (op(a) op(b)) gelu'(p),  column_sum = sum_M(c)   (the gradient of that bias)
//   residual    c = residual + m (op(a) op(b) + bias)    m as in layer_norm.h (1: no dropout)
//   row_sum     sum_K(op(a)): in a wgrad, where op(a) is dy^T, the gradient of the layer's bias
//   gelu(x) = x P(Z <= x) = x (1 + erf(x / sqrt 2)) / 2, or with Gelu::tanh
//   x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.  Sources: arXiv 1606.08415; for the blocking
//   Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   a [M, K] or [K, M]    b [K, N] or [N, K]    c, pre_activation, residual [M, N]
//   bias, column_sum [N]    row_sum, position, row_sample [M]
//   a, b, bias, residual of one type E: f32, bf16 or f16; c and pre_activation E, or both f32 (the
//   gradient of a weight; not with residual); column_sum and row_sum f32; position and row_sample
//   i32. Row-major; M, N and K may be 0 (K = 0: op(a) op(b) is 0); c must not overlap a, b or
//   residual, nor pre_activation in another type.
// ---- 3. Cost ------------------------------------------------------------------------------------
//   2 M N K FLOP, 1 an element of c for a bias, a residual or a column sum, 1 an element of a for a
//   row sum, kGeluFlops for a GELU; each operand moved once, c twice where it is added to: bound by
//   arithmetic from M = N = K of about 100 on.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Products are summed in f32 and rounded to c's type once, after bias, GELU, dropout, the residual
//   and what c held. Only p is rounded before GELU, whether it is saved or not: forward and backward
//   see the same p. A dropped element is selected out: an infinity or NaN there does not reach c.
//   Column sums add the values before they are rounded, in double over fixed blocks of rows; row sums
//   add in double, as reduce.h's column_sum of a, which is what they are on a CPU. Our own
//   GEMM: one chain of additions an element, in ascending k, cut at multiples of 768, so that threads,
//   M, N and zeros at the end of K do not change its bits. oneDNN: tiles cut by the shape alone, so the
//   same bits for any thread count on one machine. NaN and infinity propagate; what c held before is
//   not read unless accumulate is on.
//   On device cuda tensor cores multiply bf16, f16 and, where a call asks for tf32, f32 operands
//   rounded to 10 bits of mantissa (each by at most 2^-11 of itself); other f32 products are exact.
//   Sums in f32 too; K may be cut, by the shape and the chip, and its parts are added in ascending
//   order. Column sums: f32 down a thread's rows of a tile, then in double. Row sums: tensor cores
//   multiply a 16-bit a by ones, so in f32 within a part of K, then in double; f32 (tf32 would round
//   a) and cuBLASLt leave them to column_sum. cuBLASLt's product is rounded to E before bias, dropout
//   and residual. No atomics: the same bits in every run on one kind of chip with the same choices
//   (gemm_cuda_choice.h).
// ---- 5. Interface -------------------------------------------------------------------------------
/// c = op(a) op(b) [+ c] [+ bias], and what an epilogue adds. op(x) is x or its transpose; all
/// matrices are row-major.
/// Shapes  op(a) [M, K]; op(b) [K, N]; c, pre_activation, residual [M, N]; bias, column_sum [N];
///         row_sum, position, row_sample [M].
/// Errors  UsageError for shapes or types that disagree, and for what an epilogue does not allow.
struct GemmArgs {
  Operand a, b, c;
  bool transpose_a = false;    // a is stored [K, M]
  bool transpose_b = false;    // b is stored [N, K], as the weight of a linear layer is
  bool accumulate = false;     // add to what c holds (gradients); not together with an epilogue
  bool tf32 = tf32_allowed();  // f32 operands may be rounded to tf32; a CPU multiplies them exactly

  enum class Epilogue {
    none,       // c = op(a) op(b) [+ bias if defined]
    bias_gelu,  // pre_activation = op(a) op(b) + bias;  c = gelu(pre_activation)
    dgelu,      // c = (op(a) op(b)) * gelu'(pre_activation);  column_sum (+)= sum over M of c
    residual,   // c = residual + dropout(op(a) op(b) [+ bias])
  };
  Epilogue epilogue = Epilogue::none;
  Gelu gelu = Gelu::erf;
  Operand bias;
  Operand pre_activation;  // written by bias_gelu (skipped if undefined), read by dgelu
  Operand column_sum;      // dgelu only, optional: the gradient of the bias
  bool accumulate_column_sum = false;
  Operand residual;              // residual only
  Operand position, row_sample;  // of c's rows, needed if dropout is active
  Dropout dropout;               // residual only
  Operand row_sum;               // with transpose_a, optional: (+)= sum over K of op(a)
  bool accumulate_row_sum = false;
};

void gemm(const GemmArgs& args);
/// Whether c is written once, with the epilogue done. Else cuBLASLt writes the plain product, which a
/// second pass reads again: who normalises c next may do better with the plain product.
bool gemm_fuses(const GemmArgs& args);
void gemm_reference(const GemmArgs& args);  // plain loops in double
Cost gemm_cost(const GemmArgs& args);
void gemm_cuda(const GemmArgs& args, Stream stream);
bool gemm_cuda_fuses(const GemmArgs& args, Stream stream);

/// Who multiplies on the CPU. fastest: by the product's form, where oneDNN is there; else our own.
enum class GemmBackend { fastest, onednn, builtin };
/// Sets it for all products to come (tests, bench); what oneDNN cannot multiply here stays ours.
/// Errors: UsageError for oneDNN where it is absent.
void gemm_use(GemmBackend backend);
/// What multiplies operands of this type: "oneDNN 2.6.3 (avx2), built-in (v3)", one of the two, or
/// "converted to f32, built-in (v3)".
std::string gemm_implementation(DType type = DType::f32);

}  // namespace minibert
