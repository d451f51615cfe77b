// product.cpp: pack both operands as f32, multiply by rows, apply the epilogue in f32, store.
// GELU is the tanh form, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), which cuBLASLt's is believed
// to be: its documentation doesn't say, and no GPU was at hand to ask. The input of GELU is stored
// in the type of D, and GELU itself gets it unrounded.
#include "tools/simt/cublaslt/product.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tools/simt/memory.h"
#include "tools/simt/queue.h"

namespace simt {
namespace {

// ---- Elements ----------------------------------------------------------------------------------
float load(cudaDataType_t type, const void* data, size_t index) {
  switch (type) {
    case CUDA_R_16F:
      return __half2float(static_cast<const __half*>(data)[index]);
    case CUDA_R_16BF:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
    default:
      return static_cast<const float*>(data)[index];
  }
}

void store(cudaDataType_t type, void* data, size_t index, float value) {
  switch (type) {
    case CUDA_R_16F:
      static_cast<__half*>(data)[index] = __float2half_rn(value);
      break;
    case CUDA_R_16BF:
      static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
      break;
    default:
      static_cast<float*>(data)[index] = value;
  }
}

/// Nearest value with 10 bits of fraction, ties away from zero, as cvt.rna.tf32.f32 rounds.
float to_tf32(float value) {
  if (!std::isfinite(value)) return value;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>((bits + 0x1000u) & ~0x1fffu);
}

const void* at(const void* data, cudaDataType_t type, int64_t elements) {
  return static_cast<const std::byte*>(data) + elements * static_cast<int64_t>(size_of(type));
}
void* at(void* data, cudaDataType_t type, int64_t elements) {
  return static_cast<std::byte*>(data) + elements * static_cast<int64_t>(size_of(type));
}

// ---- Checks ------------------------------------------------------------------------------------
void require(const char* name, const void* data, size_t bytes) {
  if (in_device_memory(data, bytes)) return;
  const void* last = static_cast<const std::byte*>(data) + bytes - 1;
  throw DeviceFault(std::string("matrix ") + name + " of a product spans " + std::to_string(bytes) +
                        " bytes; its first is " + describe_address(data) + ", its last " +
                        describe_address(last),
                    /* cudaErrorIllegalAddress */ 700);
}

void require(const char* name, const Matrix& x, const void* data, int64_t batches) {
  const size_t last = (batches - 1) * x.batch_stride + x.offset(x.rows - 1, x.cols - 1);
  require(name, data, (last + 1) * size_of(x.type));
}

void require_all(const Problem& p, const Operands& o, float beta) {
  require("A", p.a, o.a, p.batches);
  require("B", p.b, o.b, p.batches);
  if (beta != 0) require("C", p.c, o.c, p.batches);
  require("D", p.d, o.d, p.batches);
  if (p.uses_aux()) require("aux", p.aux, p.aux_data, p.batches);
  const int64_t bias_elements = (p.batches - 1) * p.bias_batch_stride + p.bias_length;
  if (p.uses_bias()) require("bias", p.bias, bias_elements * size_of(p.bias_type));
  if (o.splits > 1) require("workspace", o.workspace, p.batches * p.m * p.n * sizeof(float));
}

// ---- The product -------------------------------------------------------------------------------
/// op(X) as f32, row-major.
std::vector<float> pack(const Matrix& x, const void* data, bool transpose, bool tf32) {
  const int64_t rows = transpose ? x.cols : x.rows, cols = transpose ? x.rows : x.cols;
  std::vector<float> packed(rows * cols);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      const float value = load(x.type, data, transpose ? x.offset(j, i) : x.offset(i, j));
      packed[i * cols + j] = tf32 ? to_tf32(value) : value;
    }
  }
  return packed;
}

/// c [m, n] += a [m, first..last of k] b [first..last of k, n]. Blocks of k and n keep a panel of b
/// in the cache; each element's sum still runs in order of k.
void multiply(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k,
              int64_t first, int64_t last) {
  constexpr int64_t kBlockK = 64, kBlockN = 512;
  for (int64_t j0 = 0; j0 < n; j0 += kBlockN) {
    const int64_t width = std::min(kBlockN, n - j0);
    for (int64_t p0 = first; p0 < last; p0 += kBlockK) {
      const int64_t p1 = std::min(p0 + kBlockK, last);
      for (int64_t i = 0; i < m; ++i) {
        float* __restrict row = c + i * n + j0;
        for (int64_t p = p0; p < p1; ++p) {
          const float factor = a[i * k + p];
          const float* __restrict other = b + p * n + j0;
          for (int64_t j = 0; j < width; ++j) row[j] += factor * other[j];
        }
      }
    }
  }
}

float gelu(float x) {
  constexpr float kScale = 0.7978845608028654f, kCubic = 0.044715f;
  return 0.5f * x * (1 + std::tanh(kScale * (x + kCubic * x * x * x)));
}

float gelu_gradient(float x) {
  constexpr float kScale = 0.7978845608028654f, kCubic = 0.044715f;
  const float t = std::tanh(kScale * (x + kCubic * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kScale * (1 + 3 * kCubic * x * x);
}

/// One batch: everything but the products and sums over k.
void apply_epilogue(const Problem& p, int64_t batch, const std::vector<float>& sums, const void* c,
                    void* d, float alpha, float beta) {
  void* bias = at(p.bias, p.bias_type, batch * p.bias_batch_stride);
  void* aux = at(p.aux_data, p.aux.type, batch * p.aux.batch_stride);
  for (int64_t i = 0; i < p.m; ++i) {
    float row_sum = 0;
    for (int64_t j = 0; j < p.n; ++j) {
      float x = alpha * sums[i * p.n + j];
      if (beta != 0) x += beta * load(p.c.type, c, p.c.offset(i, j));
      if (p.add_bias) x += load(p.bias_type, bias, i);
      if (p.write_aux) store(p.aux.type, aux, p.aux.offset(i, j), x);
      if (p.gelu) x = gelu(x);
      if (p.dgelu) x *= gelu_gradient(load(p.aux.type, aux, p.aux.offset(i, j)));
      row_sum += x;
      store(p.d.type, d, p.d.offset(i, j), x);
    }
    if (p.bias_grad_of_d) store(p.bias_type, bias, i, row_sum);
  }
}

/// The sum over k of each row of op(A), or of each column of op(B).
void sum_operand(const Problem& p, int64_t batch, const std::vector<float>& a,
                 const std::vector<float>& b) {
  void* bias = at(p.bias, p.bias_type, batch * p.bias_batch_stride);
  for (int64_t i = 0; i < p.bias_length; ++i) {
    float sum = 0;
    for (int64_t q = 0; q < p.k; ++q) sum += p.bias_grad_of_a ? a[i * p.k + q] : b[q * p.n + i];
    store(p.bias_type, bias, i, sum);
  }
}

}  // namespace

void compute(const Problem& p, const Operands& o, float alpha, float beta) {
  require_all(p, o, beta);
  for (int64_t batch = 0; batch < p.batches; ++batch) {
    const auto a =
        pack(p.a, at(o.a, p.a.type, batch * p.a.batch_stride), p.transpose_a, p.round_to_tf32);
    const auto b =
        pack(p.b, at(o.b, p.b.type, batch * p.b.batch_stride), p.transpose_b, p.round_to_tf32);
    std::vector<float> sums(p.m * p.n);
    const int64_t half = o.splits > 1 ? p.k / 2 : p.k;
    multiply(a.data(), b.data(), sums.data(), p.m, p.n, p.k, 0, half);
    if (o.splits > 1) {
      float* rest = o.workspace + batch * p.m * p.n;
      std::fill(rest, rest + p.m * p.n, 0.0f);
      multiply(a.data(), b.data(), rest, p.m, p.n, p.k, half, p.k);
      for (int64_t i = 0; i < p.m * p.n; ++i) sums[i] += rest[i];
    }
    if (p.bias_grad_of_a || p.bias_grad_of_b) sum_operand(p, batch, a, b);
    apply_epilogue(p, batch, sums, at(o.c, p.c.type, batch * p.c.batch_stride),
                   at(o.d, p.d.type, batch * p.d.batch_stride), alpha, beta);
  }
}

}  // namespace simt
