// attention.cpp: checks, costs, the double reference and the caller of the fast CPU kernels
// (attention_simd.cpp). Contract and mathematics: attention.h. Test: ctest -R attention.
#include "core/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/dispatch.h"
#include "core/kernels/attention_simd.h"
#include "core/kernels/check.h"
#include "core/parallel.h"

namespace minibert {
namespace {

// Sizes of a packed batch of heads.
struct Sizes {
  int64_t N, A, D, B;
};

void check_sequences(const char* op, const Tensor& cu_seqlens, const Tensor& sample, int64_t N,
                     const Dropout& dropout) {
  check_rank(op, "cu_seqlens", cu_seqlens, 1, DType::i32);
  MB_CHECK(cu_seqlens.numel() >= 1, "{}: cu_seqlens is [0], expected [B+1].", op);
  const int64_t B = cu_seqlens.numel() - 1;
  const int32_t* first = cu_seqlens.data<int32_t>();
  MB_CHECK(first[0] == 0, "{}: cu_seqlens starts with {}, expected 0.", op, first[0]);
  for (int64_t b = 0; b < B; ++b) {
    MB_CHECK(first[b + 1] >= first[b],
             "{}: cu_seqlens falls from {} to {} at sequence {}, expected running sums of lengths.",
             op, first[b], first[b + 1], b);
    MB_CHECK(
        !dropout.active() || first[b + 1] - first[b] <= 65536,
        "{}: sequence {} has {} tokens, expected at most 65536 (16 bits of dropout's counter).", op,
        b, first[b + 1] - first[b]);
  }
  MB_CHECK(first[B] <= N, "{}: cu_seqlens ends with {}, expected at most {} = rows of qkv.", op,
           first[B], N);
  if (dropout.active())
    check_tensor(op, "sample", sample, {B}, "for cu_seqlens " + cu_seqlens.shape().str(),
                 DType::i32);
}

Sizes check_qkv(const char* op, const Tensor& qkv, const Tensor& cu_seqlens, const Tensor& sample,
                const Dropout& dropout) {
  check_rank(op, "qkv", qkv, 4);
  MB_CHECK(qkv.dim(1) == 3, "{}: qkv is {}, expected [N, 3, A, D].", op, qkv.shape().str());
  const int64_t N = qkv.dim(0), A = qkv.dim(2), D = qkv.dim(3);
  MB_CHECK(D >= 1 && D <= 256, "{}: head size is {} (qkv is {}), expected 1 to 256.", op, D,
           qkv.shape().str());
  MB_CHECK(A >= 1 && A <= 65535, "{}: heads are {} (qkv is {}), expected 1 to 65535.", op, A,
           qkv.shape().str());
  check_sequences(op, cu_seqlens, sample, N, dropout);
  return {N, A, D, cu_seqlens.numel() - 1};
}

// What forward and backward have in common.
template <typename Args>
Sizes check_common(const char* op, const Args& args, const std::string& why) {
  const Sizes s = check_qkv(op, args.qkv, args.cu_seqlens, args.sample, args.dropout);
  check_tensor(op, "out", args.out, {s.N, s.A, s.D}, why);
  check_tensor(op, "lse", args.lse, {s.N, s.A}, why);
  return s;
}

Sizes check(const AttentionForward& args) {
  return check_common("attention_forward", args, "for qkv " + args.qkv.shape().str());
}

Sizes check(const AttentionBackward& args) {
  const char* op = "attention_backward";
  const std::string why = "for qkv " + args.qkv.shape().str();
  const Sizes s = check_common(op, args, why);
  check_tensor(op, "dout", args.dout, {s.N, s.A, s.D}, why);
  check_tensor(op, "dqkv", args.dqkv, args.qkv.shape(), why);
  return s;
}

// Zeroes rows T .. N - 1.
void zero_tail(const Tensor& tensor, int64_t T) {
  if (T < tensor.dim(0)) tensor.rows(T, tensor.dim(0) - T).fill_zero();
}

double sum_of_squared_lengths(const Tensor& cu_seqlens) {
  const int32_t* first = cu_seqlens.data<int32_t>();
  double sum = 0;
  for (int64_t b = 0; b + 1 < cu_seqlens.numel(); ++b) {
    const double length = first[b + 1] - first[b];
    sum += length * length;
  }
  return sum;
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
double attention_forward_flops(const AttentionForward& args) {
  return 4.0 * args.qkv.dim(2) * args.qkv.dim(3) * sum_of_squared_lengths(args.cu_seqlens);
}

double attention_backward_flops(const AttentionBackward& args) {
  return 10.0 * args.qkv.dim(2) * args.qkv.dim(3) * sum_of_squared_lengths(args.cu_seqlens);
}

// ---- 6. Reference ------------------------------------------------------------------------------
namespace {

// One head of one sequence, everything materialised in double. Matrices are row-major.
struct ReferenceHead {
  int64_t S, D;
  std::vector<double> q, k, v;        // [S, D]
  std::vector<double> probabilities;  // [S, S] p
  std::vector<double> mask;           // [S, S] m: 0 or dropout's scale
  std::vector<double> lse;            // [S]
};

double dropout_factor(const Dropout& dropout, int64_t query, int64_t key, int64_t head,
                      int32_t sample) {
  const auto i = static_cast<uint32_t>(query), j = static_cast<uint32_t>(key);
  const PhiloxOutput output = philox4x32(
      attention_counter(dropout, i, j, static_cast<uint32_t>(head), static_cast<uint32_t>(sample)),
      dropout.seed);
  const int mine = attention_output_index(i, j);
  const bool keep = dropout_keeps(output[static_cast<size_t>(mine)], dropout.threshold);
  return keep ? 65536.0 / (65536.0 - dropout.threshold) : 0.0;
}

void softmax_rows(ReferenceHead& h, double scale) {
  for (int64_t i = 0; i < h.S; ++i) {
    double* row = h.probabilities.data() + i * h.S;
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < h.S; ++j) {
      row[j] = 0;
      for (int64_t d = 0; d < h.D; ++d) row[j] += h.q[i * h.D + d] * h.k[j * h.D + d];
      row[j] *= scale;
      largest = std::max(largest, row[j]);
    }
    for (int64_t j = 0; j < h.S; ++j) sum += std::exp(row[j] - largest);
    h.lse[i] = largest + std::log(sum);
    for (int64_t j = 0; j < h.S; ++j) row[j] = std::exp(row[j] - h.lse[i]);
  }
}

ReferenceHead reference_head(const Tensor& qkv, const Tensor& cu_seqlens, const Tensor& sample,
                             const Dropout& dropout, double scale, int64_t b, int64_t a) {
  const int64_t A = qkv.dim(2), D = qkv.dim(3);
  const int64_t first = cu_seqlens.data<int32_t>()[b];
  const int64_t S = cu_seqlens.data<int32_t>()[b + 1] - first;
  ReferenceHead h{S, D, {}, {}, {}, {}, {}, {}};
  for (std::vector<double>* part : {&h.q, &h.k, &h.v}) part->resize(S * D);
  for (int64_t i = 0; i < S; ++i) {
    const float* row = qkv.data<float>() + (first + i) * 3 * A * D + a * D;
    for (int64_t d = 0; d < D; ++d) {
      h.q[i * D + d] = row[d];
      h.k[i * D + d] = row[A * D + d];
      h.v[i * D + d] = row[2 * A * D + d];
    }
  }
  h.probabilities.resize(S * S);
  h.mask.assign(S * S, 1.0);
  h.lse.resize(S);
  softmax_rows(h, scale);
  for (int64_t i = 0; dropout.active() && i < S; ++i) {
    for (int64_t j = 0; j < S; ++j) {
      h.mask[i * S + j] = dropout_factor(dropout, i, j, a, sample.data<int32_t>()[b]);
    }
  }
  return h;
}

}  // namespace

void attention_forward_reference(const AttentionForward& args) {
  const auto [N, A, D, B] = check(args);
  const int32_t* cu_seqlens = args.cu_seqlens.data<int32_t>();
  zero_tail(args.out, cu_seqlens[B]);
  zero_tail(args.lse, cu_seqlens[B]);
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t a = 0; a < A; ++a) {
      const ReferenceHead h =
          reference_head(args.qkv, args.cu_seqlens, args.sample, args.dropout, args.scale, b, a);
      for (int64_t i = 0; i < h.S; ++i) {
        const int64_t row = (cu_seqlens[b] + i) * A + a;
        args.lse.data<float>()[row] = static_cast<float>(h.lse[i]);
        for (int64_t d = 0; d < D; ++d) {
          double sum = 0;
          for (int64_t j = 0; j < h.S; ++j)
            sum += h.probabilities[i * h.S + j] * h.mask[i * h.S + j] * h.v[j * D + d];
          args.out.data<float>()[row * D + d] = static_cast<float>(sum);
        }
      }
    }
  }
}

namespace {

// Writes dq, dk and dv of one head into dqkv's rows. `dout` and `dqkv` point at the sequence's
// first row, this head's columns.
void reference_head_backward(const ReferenceHead& h, double scale, int64_t A, const float* dout,
                             float* dqkv) {
  const int64_t S = h.S, D = h.D;
  std::vector<double> dq(S * D), dk(S * D), dv(S * D), dp(S);
  for (int64_t i = 0; i < S; ++i) {
    const float* do_row = dout + i * A * D;
    double delta = 0;
    for (int64_t j = 0; j < S; ++j) {
      const double p = h.probabilities[i * S + j], m = h.mask[i * S + j];
      double da = 0;
      for (int64_t d = 0; d < D; ++d) {
        da += do_row[d] * h.v[j * D + d];
        dv[j * D + d] += p * m * do_row[d];
      }
      dp[j] = m * da;
      delta += p * dp[j];
    }
    for (int64_t j = 0; j < S; ++j) {
      const double ds = h.probabilities[i * S + j] * (dp[j] - delta);
      for (int64_t d = 0; d < D; ++d) {
        dq[i * D + d] += scale * ds * h.k[j * D + d];
        dk[j * D + d] += scale * ds * h.q[i * D + d];
      }
    }
  }
  for (int64_t i = 0; i < S; ++i) {
    float* row = dqkv + i * 3 * A * D;
    for (int64_t d = 0; d < D; ++d) {
      row[d] = static_cast<float>(dq[i * D + d]);
      row[A * D + d] = static_cast<float>(dk[i * D + d]);
      row[2 * A * D + d] = static_cast<float>(dv[i * D + d]);
    }
  }
}

}  // namespace

void attention_backward_reference(const AttentionBackward& args) {
  const auto [N, A, D, B] = check(args);
  const int32_t* cu_seqlens = args.cu_seqlens.data<int32_t>();
  zero_tail(args.dqkv, cu_seqlens[B]);
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t a = 0; a < A; ++a) {
      const ReferenceHead h =
          reference_head(args.qkv, args.cu_seqlens, args.sample, args.dropout, args.scale, b, a);
      reference_head_backward(h, args.scale, A,
                              args.dout.data<float>() + cu_seqlens[b] * A * D + a * D,
                              args.dqkv.data<float>() + cu_seqlens[b] * 3 * A * D + a * D);
    }
  }
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

// One task a (sequence, head), whatever the number of threads; its scratch is its own.
template <typename Head>
void for_each_head(const Sizes& s, int64_t (*scratch_floats)(int64_t, int64_t),
                   const Tensor& cu_seqlens, const Head& head) {
  const int32_t* first = cu_seqlens.data<int32_t>();
  parallel_blocks(s.B * s.A, [&](int64_t task) {
    const int64_t b = task / s.A, S = first[b + 1] - first[b];
    if (S == 0) return;
    const Tensor scratch =
        Tensor::empty({scratch_floats(S, s.D)}, DType::f32, MemoryCategory::workspace);
    head(b, task % s.A, first[b], S, scratch.data<float>());
  });
}

// What forward and backward have in common. `Args` is AttentionForward or AttentionBackward.
template <typename Args>
AttentionHead make_head(const Args& args, const Sizes& s, int64_t b, int64_t a, int64_t row,
                        int64_t S, float* scratch) {
  AttentionHead h;
  h.length = S;
  h.size = s.D;
  h.qkv_stride = 3 * s.A * s.D;
  h.out_stride = s.A * s.D;
  h.lse_stride = s.A;
  h.q = args.qkv.template data<float>() + row * h.qkv_stride + a * s.D;
  h.k = h.q + s.A * s.D;
  h.v = h.k + s.A * s.D;
  h.out = args.out.template data<float>() + row * h.out_stride + a * s.D;
  h.lse = args.lse.template data<float>() + row * s.A + a;
  h.scale = args.scale;
  h.seed = args.dropout.seed;
  h.threshold = args.dropout.threshold;
  h.dropout_scale = args.dropout.scale;
  h.step_layer_purpose = args.dropout.step_layer_purpose;
  h.head = static_cast<uint32_t>(a);
  if (args.dropout.active())
    h.sample = static_cast<uint32_t>(args.sample.template data<int32_t>()[b]);
  h.scratch = scratch;
  return h;
}

void forward_cpu(const AttentionForward& args, const Sizes& s, int64_t T) {
  zero_tail(args.out, T);
  zero_tail(args.lse, T);
  for_each_head(s, attention_forward_scratch, args.cu_seqlens,
                [&](int64_t b, int64_t a, int64_t row, int64_t S, float* scratch) {
                  MB_SIMD(attention_head_forward)(make_head(args, s, b, a, row, S, scratch));
                });
}

void backward_cpu(const AttentionBackward& args, const Sizes& s, int64_t T) {
  zero_tail(args.dqkv, T);
  for_each_head(s, attention_backward_scratch, args.cu_seqlens,
                [&](int64_t b, int64_t a, int64_t row, int64_t S, float* scratch) {
                  AttentionHead h = make_head(args, s, b, a, row, S, scratch);
                  h.dout = args.dout.data<float>() + row * h.out_stride + a * s.D;
                  h.dq = args.dqkv.data<float>() + row * h.qkv_stride + a * s.D;
                  h.dk = h.dq + s.A * s.D;
                  h.dv = h.dk + s.A * s.D;
                  MB_SIMD(attention_head_backward)(h);
                });
}

}  // namespace

void attention_forward(const AttentionForward& args, Stream) {
  const Sizes s = check(args);
  const int64_t T = args.cu_seqlens.data<int32_t>()[s.B];
  const double bytes = 4.0 * static_cast<double>((4 * s.A * s.D + s.A) * T);
  dispatch("attention_forward", args.qkv.device(), attention_forward_flops(args), bytes,
           [&] { forward_cpu(args, s, T); });
}

void attention_backward(const AttentionBackward& args, Stream) {
  const Sizes s = check(args);
  const int64_t T = args.cu_seqlens.data<int32_t>()[s.B];
  const double bytes = 4.0 * static_cast<double>((9 * s.A * s.D + s.A) * T);
  dispatch("attention_backward", args.qkv.device(), attention_backward_flops(args), bytes,
           [&] { backward_cpu(args, s, T); });
}

}  // namespace minibert
