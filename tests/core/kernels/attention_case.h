// attention_case.h: inputs and expected results that the tests of attention share, on the CPU and on
// CUDA. The expected results come from the double reference.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/kernels/attention.h"
#include "core/kernels/dropout_mask.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr uint64_t kSeed = 0xFEDCBA9876543210ull;

inline Dropout attention_dropout(float p) {
  return make_dropout(p, kSeed, data_step(kMaxDataStep), 23, DropoutPurpose::attention);
}

/// A tensor as f32, to read its elements.
inline Tensor wide(const Tensor& t) {
  return t.to(DType::f32);
}

/// Random inputs for sequences of these lengths, with `tail` more rows, and guarded outputs.
struct Case {
  std::vector<int32_t> lengths;
  int64_t A, D;
  float p;
  int64_t tail = 0;
  DType dtype = DType::f32;
  int64_t T = 0;
  Tensor first, number, qkv, dout;
  Guarded out, lse, dqkv;

  Case(std::vector<int32_t> lengths, int64_t A, int64_t D, float p, int64_t tail = 0,
       DType dtype = DType::f32)
      : lengths(lengths),
        A(A),
        D(D),
        p(p),
        tail(tail),
        dtype(dtype),
        T(sum(lengths)),
        out({T + tail, A, D}, true, dtype),
        lse({T + tail, A}, true),
        dqkv({T + tail, 3, A, D}, true, dtype) {
    std::vector<int32_t> starts = {0}, numbers;
    for (int32_t length : lengths) {
      starts.push_back(starts.back() + length);
      numbers.push_back(static_cast<int32_t>(numbers.size() * 1000003 + 5));
    }
    first = integers(starts);
    number = integers(numbers);
    qkv = poisoned({T + tail, 3, A, D}, 1);
    dout = poisoned({T + tail, A, D}, 2);
  }

  static int64_t sum(const std::vector<int32_t>& lengths) {
    int64_t total = 0;
    for (int32_t length : lengths) total += length;
    return total;
  }
  // Normal values; NaN in the tail.
  Tensor poisoned(Shape shape, uint64_t index) const {
    const Tensor t = Tensor::empty(shape);
    fill_normal(t.rows(0, T), index);
    for (float& x : t.rows(T, tail).span<float>()) x = kNaN;
    return dtype == DType::f32 ? t : t.to(dtype);
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(D)); }
  AttentionForward forward() const {
    return {qkv, *out, *lse, first, number, scale(), attention_dropout(p)};
  }
  AttentionBackward backward() const {
    return {qkv, *out, *lse, dout, *dqkv, first, number, scale(), attention_dropout(p)};
  }
  void run() const {
    attention_forward(forward());
    attention_backward(backward());
  }
  bool intact() const { return out.intact() && lse.intact() && dqkv.intact(); }
};

/// What the double reference makes of the same inputs: f32, so without rounding to a 16-bit type.
/// Only backward gets `out` as the type stores it, since that is one of its inputs.
struct Expected {
  Tensor out, lse, dqkv;

  explicit Expected(const Case& c)
      : out(Tensor::empty(c.out->shape())),
        lse(Tensor::empty(c.lse->shape())),
        dqkv(Tensor::empty(c.dqkv->shape())) {
    const Tensor qkv = wide(c.qkv), dout = wide(c.dout);
    const Dropout dropout = attention_dropout(c.p);
    attention_forward_reference({qkv, out, lse, c.first, c.number, c.scale(), dropout});
    const Tensor stored = wide(out.to(c.dtype));
    attention_backward_reference(
        {qkv, stored, lse, dout, dqkv, c.first, c.number, c.scale(), dropout});
  }
};

/// Query, key or value part of a [N, 3, A, D] tensor, as a tensor of its own.
inline Tensor part(const Tensor& qkv, int64_t which) {
  const int64_t N = qkv.dim(0), width = qkv.dim(2) * qkv.dim(3);
  const int64_t bytes = width * static_cast<int64_t>(size_of(qkv.dtype()));
  const Tensor t = Tensor::empty({N, width}, qkv.dtype());
  for (int64_t n = 0; n < N; ++n)
    std::memcpy(static_cast<char*>(t.raw()) + n * bytes,
                static_cast<const char*>(qkv.raw()) + (n * 3 + which) * bytes,
                static_cast<size_t>(bytes));
  return t;
}

}  // namespace minibert::testing
