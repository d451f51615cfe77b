// attention.cpp: self-attention on packed sequences, and qkv_attention, which computes query, key
// and value in one product first. Saved: qkv, the result and one number a row and head; no [S, S]
// matrix. Kernel: core/kernels/attention.h. Composed twin: autograd/composed.cpp.
// Test: ctest -R autograd_composed.
#include "core/kernels/attention.h"

#include <cmath>

#include "autograd/check.h"
#include "autograd/composed.h"
#include "autograd/linear.h"
#include "autograd/op_samples.h"

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
  attention_forward(
      {a.qkv, a.out, a.lse, sequences.cu_seqlens, sequences.sample, a.scale, dropout});
  return a;
}

// dqkv: any shape of 3 T H elements.
void backward(const Attended& a, const Tensor& dy, const Tensor& dqkv) {
  attention_backward({a.qkv, a.out, a.lse, dy.reshape(a.out.shape()), dqkv.reshape(a.qkv.shape()),
                      a.sequences.cu_seqlens, a.sequences.sample, a.scale, a.dropout});
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
                       linear_backward_weight(dqkv, x, inputs[1]);
                       linear_backward_bias(dqkv, inputs[2]);
                     });
}

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

using Lengths = std::vector<int64_t>;

// Sum of squares of the lengths: what scores cost.
double pairs_of(const Lengths& lengths) {
  double pairs = 0;
  for (int64_t S : lengths) pairs += static_cast<double>(S * S);
  return pairs;
}

// N rows; those behind the sequences are tail rows.
OpSample attention_sample(int64_t N, int A, int64_t D, const Lengths& lengths, float p,
                          uint64_t seed) {
  SampleMaker make(seed);
  const Sequences sequences = make.sequences(lengths);
  const Dropout site = make.dropout(p);
  const int64_t H = A * D;
  OpSample s;
  s.sizes = fmt::format("N={} A={} D={} lengths={} p={}", N, A, D, fmt::join(lengths, ","), p);
  if (lengths.size() > 4) s.sizes = fmt::format("N={} A={} D={} p={}", N, A, D, p);
  s.inputs = {make.values({N, 3 * H})};
  s.forward = [=](const std::vector<Variable>& in) { return attention(in[0], sequences, A, site); };
  s.reference = [=](const std::vector<Doubles>& in) {
    return plain::attention(in[0], sequences, N, A, D, site);
  };
  const double pairs = pairs_of(lengths), rows = static_cast<double>(N * H);
  s.forward_cost = moved(4 * rows + N * A, 4 * H * pairs);
  s.backward_cost = moved(8 * rows + N * A, 10 * H * pairs);
  s.saved_bytes = 4 * N * A;
  return s;
}

OpSample qkv_attention_sample(int64_t N, int A, int64_t D, const Lengths& lengths, float p,
                              uint64_t seed) {
  SampleMaker make(seed);
  const Sequences sequences = make.sequences(lengths);
  const Dropout site = make.dropout(p);
  const int64_t H = A * D;
  OpSample s = attention_sample(N, A, D, lengths, p, seed);
  s.inputs = {make.values({N, H}), make.values({3 * H, H}, 1 / std::sqrt(1.0 * H)),
              make.values({3 * H})};
  s.forward = [=](const std::vector<Variable>& in) {
    return qkv_attention(in[0], in[1], in[2], sequences, A, site);
  };
  s.composed = [=](const std::vector<Variable>& in) {
    return composed::qkv_attention(in[0], in[1], in[2], sequences, A, site);
  };
  s.reference = [=](const std::vector<Doubles>& in) {
    const Doubles qkv = plain::linear(in[0], in[1], in[2], N, 3 * H, H);
    return plain::attention(qkv, sequences, N, A, D, site);
  };
  s.forward_cost = s.forward_cost + product(N, 3 * H, H);
  s.backward_cost = s.backward_cost + linear_backward_cost(N, 3 * H, H);
  s.saved_bytes = 4 * (3 * N * H + N * A);
  return s;
}

Lengths bert_base_lengths() {
  return Lengths(BertBase::B, BertBase::S);
}

}  // namespace

OpInfo attention_info() {
  return {"attention",
          "y_i = sum over j of dropout(softmax_j(q_i k_j / sqrt D)) v_j",
          "qkv [T, 3H] read as [T, 3, A, D]; y [T, H]",
          "qkv, y, log-sum-exp [T, A]",
          {"qkv"},
          ToleranceClass::reduction,
          [](uint64_t seed) {
            return std::vector<OpSample>{attention_sample(0, 1, 3, {}, 0, seed),
                                         attention_sample(1, 1, 1, {1}, 0, seed),
                                         attention_sample(15, 2, 4, {3, 0, 1, 9}, 0, seed),
                                         attention_sample(19, 3, 5, {2, 17}, 0.1f, seed),
                                         attention_sample(5, 1, 32, {5}, 0.5f, seed),
                                         attention_sample(4, 1, 64, {1, 3}, 0, seed)};
          },
          [](uint64_t seed) {
            return attention_sample(BertBase::T, BertBase::A, BertBase::H / BertBase::A,
                                    bert_base_lengths(), 0.1f, seed);
          }};
}

OpInfo qkv_attention_info() {
  return {"qkv_attention",
          "y = attention(x weight^T + bias)",
          "x, y [T, H]; weight [3H, H]; bias [3H]: query, key, value",
          "x, weight, qkv [T, 3H], y, log-sum-exp [T, A]",
          {"x", "weight", "bias"},
          ToleranceClass::reduction,
          [](uint64_t seed) {
            return std::vector<OpSample>{qkv_attention_sample(0, 1, 3, {}, 0, seed),
                                         qkv_attention_sample(1, 1, 1, {1}, 0, seed),
                                         qkv_attention_sample(13, 2, 4, {3, 0, 1, 7}, 0, seed),
                                         qkv_attention_sample(11, 3, 5, {2, 9}, 0.1f, seed)};
          },
          [](uint64_t seed) {
            return qkv_attention_sample(BertBase::T, BertBase::A, BertBase::H / BertBase::A,
                                        bert_base_lengths(), 0.1f, seed);
          }};
}

}  // namespace minibert
