// attention.cpp: self-attention on packed sequences, and qkv_attention, which computes query, key
// and value in one product first. Saved: qkv, the result and one number a row and head; no [S, S]
// matrix. Kernel: core/kernels/attention.h. Composed twin: autograd/composed.cpp.
// Test: ctest -R autograd_composed.
#include "core/kernels/attention.h"

#include <cmath>

#include "autograd/check.h"
#include "autograd/linear.h"

namespace minibert {
namespace {

// Result of the kernel, and what backward reads again. Tensors, since argument structs own nothing.
struct Attended {
  Tensor qkv, out, lse;  // [T, 3, A, D], [T, A, D], [T, A]
  Sequences sequences;
  float scale;
  Dropout dropout;
};

// Checks [T, 3H] and cu_seqlens, runs the kernel.
Attended forward(const char* op, const Tensor& qkv, const Sequences& sequences, int heads,
                 const Dropout& dropout) {
  const int64_t T = qkv.dim(0), H = qkv.dim(1) / 3;
  MB_CHECK(
      heads >= 1 && qkv.dim(1) % (3 * int64_t{heads}) == 0,
      "{}: query, key and value are {}, expected a multiple of 3 x {} heads in each row. Check "
      "hidden_size and num_attention_heads",
      op, qkv.shape().str(), heads);
  MB_CHECK(sequences.cu_seqlens.defined() && sequences.cu_seqlens.numel() >= 1,
           "{}: cu_seqlens is empty, expected [B+1] with the first row of each sequence", op);
  if (dropout.active())
    check_index(op, "sample", sequences.sample, sequences.cu_seqlens.numel() - 1, "sequence");
  const int64_t A = heads, D = H / heads;
  const Attended a{qkv.reshape({T, 3, A, D}),
                   qkv.like({T, A, D}),
                   Tensor::empty({T, A}, DType::f32, MemoryCategory::activations, qkv.device()),
                   sequences,
                   1.0f / std::sqrt(static_cast<float>(D)),
                   dropout};
  AttentionForward args{a.qkv,   a.out,  a.lse, sequences.cu_seqlens, sequences.sample,
                        a.scale, dropout};
  args.lengths = sequences.lengths;
  attention_forward(args);
  return a;
}

// dqkv: any shape of 3 T H elements.
void backward(const Attended& a, const Tensor& dy, const Tensor& dqkv) {
  const Tensor dout = dy.reshape(a.out.shape()), gradient = dqkv.reshape(a.qkv.shape());
  AttentionBackward args{
      a.qkv,   a.out,    a.lse, dout, gradient, a.sequences.cu_seqlens, a.sequences.sample,
      a.scale, a.dropout};
  args.lengths = a.sequences.lengths;
  attention_backward(args);
}

}  // namespace

Variable attention(const Variable& qkv, const Sequences& sequences, int heads,
                   const Dropout& dropout) {
  check_rank("attention", "qkv", qkv, 2);
  const Attended saved = forward("attention", qkv.value(), sequences, heads, dropout);
  const Tensor y = saved.out.reshape({qkv.shape()[0], qkv.shape()[1] / 3});
  return make_result(
      "attention", y, {qkv}, [saved](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        inputs[0].write(saved.qkv.dtype(), [&](const Tensor& dqkv) { backward(saved, dy, dqkv); });
      });
}

Variable qkv_attention(const Variable& x, const Variable& weight, const Variable& bias,
                       const Sequences& sequences, int heads, const Dropout& dropout) {
  constexpr const char* kOp = "qkv_attention";
  check_rank(kOp, "bias", bias, 1);
  check_linear(kOp, x, weight, bias);
  check_shape(kOp, "weight", weight.shape(), {3 * x.shape()[1], x.shape()[1]},
              "[3H, H] for x [T, H] of", x.shape());
  const Tensor qkv = x.value().like({x.shape()[0], weight.shape()[0]});
  GemmArgs product = linear_gemm(x.value(), weight.value(), qkv);
  product.bias = bias.value();
  gemm(product);
  const Attended saved = forward(kOp, qkv, sequences, heads, dropout);
  return make_result(kOp, saved.out.reshape(x.shape()), {x, weight, bias},
                     [saved, x = x.value(), weight = weight.value()](
                         const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       const Tensor dqkv = dy.like({x.dim(0), weight.dim(0)});
                       backward(saved, dy, dqkv);
                       linear_backward_x(dqkv, weight, inputs[0]);
                       linear_backward_parameters(dqkv, x, inputs[1], inputs[2]);
                     });
}

}  // namespace minibert
