// layer_norm.h: layer normalisation, alone or with the bias, dropout and residual sum that precede
// it in BERT. Called by autograd/layer_norm.cpp (layer_norm and add_norm).
// Easy to get wrong: eps is inside the root; dweight, dbeta and dbias are sums over T, so their
// order decides the bits. Source: arXiv 1607.06450, sec. 3. Test: ctest -R layer_norm. Speed on the
// CPU: minibert bench layer_norm add_norm.
#pragma once

#include "core/operand.h"
#include "core/philox.h"
#include "core/profile.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   z = residual + m * (x + bias)      m = keep ? 65536 / (65536 - threshold) : 0  (1: no dropout)
//   mean = sum_H(z) / H     rstd = 1 / sqrt(sum_H((z - mean)^2) / H + eps)
//   xhat = (z - mean) * rstd     y = xhat * weight + beta          (weight is gamma)
// Backward, g = dy * weight. mean and rstd depend on every z of the row:
//   d mean / dz_h = 1 / H     d rstd / dz_h = -rstd^2 xhat_h / H
//   dz_h = sum_k g_k d xhat_k / dz_h = sum_k g_k (rstd (delta_kh - 1 / H) - rstd xhat_k xhat_h / H)
//        = rstd * (g_h - avg_H(g) - xhat_h * avg_H(g * xhat))
//   d residual = dz     dx = m * dz     dbias = sum_T(dx)
//   dweight = sum_T(dy * xhat)     dbeta = sum_T(dy)
//
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   x residual z y dy dz dx [T, H], bias [H]   one type E: f32, bf16 or f16
//   weight beta dbias dweight dbeta [H], mean rstd [T]   f32
//   position row_sample [T]   i32              H >= 1; T may be 0
//
// ---- 3. Cost ------------------------------------------------------------------------------------
//   forward   reads x, residual, writes z, y: 4 T H elements
//   backward  reads dy, z, writes dz, dx: 4 T H elements
//   layer_norm alone has neither residual nor z nor dx: 2 and 3 T H
//   Vectors [H] and [T] are counted too, each that is given; what is added to, twice.
//   10 and 20 FLOP an element: bound by memory, except where dropout's Philox (60 vector operations
//   for 4 elements a 64-bit lane) is slower than memory.
//
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Two passes over a row that stays in the cache: first the mean, then the sum of (z - mean)^2.
//   (E[z^2] - E[z]^2 would cancel where |mean| >> std.) A row's sums run in f32, a vector of them,
//   and their lanes are added in double. A mean of 1e4 rounded to f32 is off by up to 5e-4, much
//   beside a deviation of 1e-2: so both directions also subtract what the rounding left, which is
//   avg_H(z - mean).
//   y, mean and rstd are those of z as it is stored, rounded to E: backward sees the same rows. A
//   dropped element is selected out: an infinity or NaN there reaches neither z nor dbias.
//   Column sums: blocks of 32 rows, each summed in row order in f32, then added in double; so neither
//   threads nor further rows of zeros change bits.
//   CUDA adds in f32 in fixed trees (lanes of a warp, warps of a block, both unlike the CPU's order)
//   and the blocks' sums in double; no atomics, and a count of blocks that depends on T alone.
//
// ---- 5. Interface -------------------------------------------------------------------------------
/// z = residual + dropout(x + bias);  y = (z - mean) * rstd * weight + beta,
/// rstd = 1 / sqrt(var + eps).
/// Shapes  x, residual, z, y [T, H]; bias, weight, beta [H]; mean, rstd [T]; position, row_sample
///         [T]. bias and residual may be undefined (0). z may be x itself (in place); without
///         bias, dropout and residual, z may be undefined: x is normalised and is what backward
///         wants as z. position and row_sample are needed if dropout is active.
/// Errors  UsageError for a tensor that is missing, or whose shape or type is not as said.
struct LayerNormForward {
  Operand x, bias, residual;
  Operand weight, beta;
  Operand z, y, mean, rstd;
  Operand position, row_sample;
  Dropout dropout;
  float eps = 1e-12f;
};
/// dz (+)= gradient of z, which is the residual's;  dx = the same times dropout's mask m;
/// dbias (+)= column sum of dx;  dweight, dbeta (+)= section 1.
/// Shapes  dz, dx [T, H]; dbias, dweight, dbeta [H], skipped where undefined. dx may be undefined
///         if dropout is inactive: it would be the gradient of z.
/// Errors  as forward.
struct LayerNormBackward {
  Operand dy, z, mean, rstd, weight;
  Operand dz, dx;
  bool accumulate_dz = false;  // dz += instead of =; dx, where given, is overwritten in any case
  Operand dbias, dweight, dbeta;
  bool accumulate_dbias = false, accumulate_dweight = false, accumulate_dbeta = false;
  Operand position, row_sample;
  Dropout dropout;
};

void layer_norm_forward(const LayerNormForward& args);
void layer_norm_backward(const LayerNormBackward& args);
void layer_norm_forward_reference(const LayerNormForward& args);
/// Reads rstd, which eps went into, but computes the mean again, in double.
void layer_norm_backward_reference(const LayerNormBackward& args);
Cost layer_norm_forward_cost(const LayerNormForward& args);
Cost layer_norm_backward_cost(const LayerNormBackward& args);
void layer_norm_forward_cuda(const LayerNormForward& args, Stream stream);
void layer_norm_backward_cuda(const LayerNormBackward& args, Stream stream);
/// Rung 1 .. kLayerNormRungs of layer_norm.cu, the last of which the two above run.
inline constexpr int kLayerNormRungs = 4;
void layer_norm_forward_cuda_rung(const LayerNormForward& args, Stream stream, int rung);
void layer_norm_backward_cuda_rung(const LayerNormBackward& args, Stream stream, int rung);

}  // namespace minibert
