// attention.cpp: checks, costs, the double reference and the caller of the fast CPU kernels
// (attention_simd.cpp). Contract and mathematics: attention.h. Test: ctest -R attention.
#include "core/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <string.h>

#include "core/dispatch.h"
#include "core/kernels/attention_simd.h"
#include "core/kernels/check.h"
#include "core/kernels/dropout_mask.h"
#include "core/kernels/reference.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace minibert {
namespace {

// Sizes of a packed batch of heads: rows, heads, columns of a head, sequences.
struct Sizes {
  int64_t N, A, D, B;
};

// What forward and backward have in common. `Args` is AttentionForward or AttentionBackward.
template <typename Args>
Sizes check_common(const char* op, const Args& args) {
  check_compute(op, "qkv", args.qkv, 4);
  const int64_t N = args.qkv.dim(0), A = args.qkv.dim(2), D = args.qkv.dim(3);
  MB_CHECK(args.qkv.dim(1) == 3, "{}: qkv is {}, expected [N, 3, A, D].", op,
           shape_of(args.qkv).str());
  MB_CHECK(D >= 1 && D <= 256, "{}: head size is {} (qkv is {}), expected 1 to 256.", op, D,
           shape_of(args.qkv).str());
  MB_CHECK(A >= 1 && A <= 65535, "{}: heads are {} (qkv is {}), expected 1 to 65535.", op, A,
           shape_of(args.qkv).str());
  check_tensor(op, "out", args.out, {N, A, D}, "[N, A, D] of qkv", args.qkv.dtype());
  check_tensor(op, "lse", args.lse, {N, A}, "[N, A] of qkv");
  check_rank(op, "cu_seqlens", args.cu_seqlens, 1, DType::i32);
  MB_CHECK(args.cu_seqlens.numel() >= 1, "{}: cu_seqlens is [0], expected [B+1].", op);
  MB_CHECK(args.scale > 0, "{}: scale is {}, expected a number above 0, as 1 / sqrt({}).", op,
           args.scale, D);
  const int64_t B = args.cu_seqlens.numel() - 1;
  if (args.dropout.active())
    check_tensor(op, "sample", args.sample, {B}, "[B] of cu_seqlens [B+1]", DType::i32);
  return {N, A, D, B};
}

Sizes check(const AttentionForward& args) {
  return check_common("attention_forward", args);
}

Sizes check(const AttentionBackward& args) {
  const char* op = "attention_backward";
  const Sizes s = check_common(op, args);
  const DType dtype = args.qkv.dtype();
  check_tensor(op, "dout", args.dout, {s.N, s.A, s.D}, "[N, A, D] of qkv", dtype);
  check_tensor(op, "dqkv", args.dqkv, shape_of(args.qkv), "the shape of qkv", dtype);
  return s;
}

// Zeroes rows T .. N - 1.
void zero_tail(const Operand& x, int64_t T) {
  const int64_t N = x.dim(0);
  if (T >= N) return;
  const int64_t row = x.bytes() / N;
  memset(static_cast<char*>(x.raw()) + T * row, 0, static_cast<size_t>((N - T) * row));
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
namespace {

template <typename Args>
AttentionLengths lengths_of(const Args& args) {
  if (args.lengths.sum >= 0) return args.lengths;
  AttentionLengths found{0, 0};
  if (args.cu_seqlens.device() != Device::cpu) return found;
  const int32_t* first = args.cu_seqlens.template data<int32_t>();
  for (int64_t b = 0; b + 1 < args.cu_seqlens.numel(); ++b) {
    const int64_t length = first[b + 1] - first[b];
    found.sum += length;
    found.sum_of_squares += length * length;
  }
  return found;
}

// Of `products` products of S x S x D, and `arrays` arrays [T, A, D] moved.
template <typename Args>
Cost cost(const Args& args, double products, double arrays) {
  const auto A = static_cast<double>(args.qkv.dim(2)), D = static_cast<double>(args.qkv.dim(3));
  const AttentionLengths lengths = lengths_of(args);
  const auto T = static_cast<double>(lengths.sum);
  const auto pairs = static_cast<double>(lengths.sum_of_squares);
  const auto element = static_cast<double>(size_of(args.qkv.dtype()));
  return {2 * products * A * D * pairs, T * A * (arrays * D * element + sizeof(float))};
}

}  // namespace

Cost attention_forward_cost(const AttentionForward& args) {
  return cost(args, 2, 4);
}

Cost attention_backward_cost(const AttentionBackward& args) {
  return cost(args, 5, 9);
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

template <typename Args>
ReferenceHead reference_head(const Args& args, int64_t b, int64_t a) {
  const int64_t A = args.qkv.dim(2), D = args.qkv.dim(3);
  const int32_t* cu_seqlens = args.cu_seqlens.template data<int32_t>();
  const int64_t first = cu_seqlens[b], S = cu_seqlens[b + 1] - first;
  ReferenceHead h{S, D, {}, {}, {}, {}, {}, {}};
  for (std::vector<double>* part : {&h.q, &h.k, &h.v}) part->resize(S * D);
  for (int64_t i = 0; i < S; ++i) {
    const int64_t row = (first + i) * 3 * A * D + a * D;
    for (int64_t d = 0; d < D; ++d) {
      h.q[i * D + d] = get(args.qkv, row + d);
      h.k[i * D + d] = get(args.qkv, row + A * D + d);
      h.v[i * D + d] = get(args.qkv, row + 2 * A * D + d);
    }
  }
  h.probabilities.resize(S * S);
  h.mask.assign(S * S, 1.0);
  h.lse.resize(S);
  softmax_rows(h, args.scale);
  for (int64_t i = 0; args.dropout.active() && i < S; ++i) {
    for (int64_t j = 0; j < S; ++j) {
      h.mask[i * S + j] =
          attention_dropout_factor(args.dropout, i, j, a, args.sample.template data<int32_t>()[b]);
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
      const ReferenceHead h = reference_head(args, b, a);
      for (int64_t i = 0; i < h.S; ++i) {
        const int64_t row = (cu_seqlens[b] + i) * A + a;
        put(args.lse, row, h.lse[i]);
        for (int64_t d = 0; d < D; ++d) {
          double sum = 0;
          for (int64_t j = 0; j < h.S; ++j)
            sum += h.probabilities[i * h.S + j] * h.mask[i * h.S + j] * h.v[j * D + d];
          put(args.out, row * D + d, sum);
        }
      }
    }
  }
}

namespace {

// Writes dq, dk and dv of head a of the sequence that starts at row `first`.
void reference_head_backward(const AttentionBackward& args, const ReferenceHead& h, int64_t first,
                             int64_t a) {
  const int64_t S = h.S, D = h.D, A = args.qkv.dim(2);
  const double scale = args.scale;
  std::vector<double> dq(S * D), dk(S * D), dv(S * D), dp(S), dout(D);
  for (int64_t i = 0; i < S; ++i) {
    const int64_t out_row = ((first + i) * A + a) * D;
    double delta = 0;
    for (int64_t d = 0; d < D; ++d) {
      dout[d] = get(args.dout, out_row + d);
      delta += dout[d] * get(args.out, out_row + d);
    }
    for (int64_t j = 0; j < S; ++j) {
      const double p = h.probabilities[i * S + j], m = h.mask[i * S + j];
      double da = 0;
      for (int64_t d = 0; d < D; ++d) {
        da += dout[d] * h.v[j * D + d];
        dv[j * D + d] += p * m * dout[d];
      }
      dp[j] = m * da;
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
    const int64_t row = (first + i) * 3 * A * D + a * D;
    for (int64_t d = 0; d < D; ++d) {
      put(args.dqkv, row + d, dq[i * D + d]);
      put(args.dqkv, row + A * D + d, dk[i * D + d]);
      put(args.dqkv, row + 2 * A * D + d, dv[i * D + d]);
    }
  }
}

}  // namespace

void attention_backward_reference(const AttentionBackward& args) {
  const auto [N, A, D, B] = check(args);
  const int32_t* cu_seqlens = args.cu_seqlens.data<int32_t>();
  zero_tail(args.dqkv, cu_seqlens[B]);
  for (int64_t b = 0; b < B; ++b)
    for (int64_t a = 0; a < A; ++a)
      reference_head_backward(args, reference_head(args, b, a), cu_seqlens[b], a);
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

// One task a (sequence, head), whatever the number of threads; its scratch is its thread's.
template <typename Args, typename Head>
void for_each_head(const Args& args, int64_t (*scratch_floats)(int64_t, int64_t),
                   const Head& head) {
  const int32_t* first = args.cu_seqlens.template data<int32_t>();
  const int64_t B = args.cu_seqlens.numel() - 1, A = args.qkv.dim(2), D = args.qkv.dim(3);
  parallel_blocks(B * A, [&](int64_t task) {
    const int64_t b = task / A, S = first[b + 1] - first[b];
    if (S == 0) return;
    const auto floats = static_cast<size_t>(scratch_floats(S, D));
    head(b, task % A, thread_scratch_of<float>(floats));
  });
}

// In a dry run lengths are not known: each sequence counts as long as the batch's mean.
KernelMemory memory_of(const Operand& qkv, int64_t B, int64_t (*scratch_floats)(int64_t, int64_t),
                       int64_t cuda_floats) {
  const auto bytes = [](int64_t floats) { return floats * static_cast<int64_t>(sizeof(float)); };
  if (qkv.device() == Device::cuda) return {.workspaces = {bytes(cuda_floats)}};
  const int64_t S = B == 0 ? 0 : (qkv.dim(0) + B - 1) / B;
  return {.thread_scratch = S == 0 ? 0 : bytes(scratch_floats(S, qkv.dim(3)))};
}

void forward_cpu(const AttentionForward& args, int64_t B) {
  const int64_t T = args.cu_seqlens.data<int32_t>()[B];
  zero_tail(args.out, T);
  zero_tail(args.lse, T);
  for_each_head(args, attention_forward_scratch, [&](int64_t b, int64_t a, float* scratch) {
    MB_SIMD(attention_head_forward)(args, b, a, scratch);
  });
}

void backward_cpu(const AttentionBackward& args, int64_t B) {
  zero_tail(args.dqkv, args.cu_seqlens.data<int32_t>()[B]);
  for_each_head(args, attention_backward_scratch, [&](int64_t b, int64_t a, float* scratch) {
    MB_SIMD(attention_head_backward)(args, b, a, scratch);
  });
}

}  // namespace

void attention_forward(const AttentionForward& args) {
  const Sizes s = check(args);
  dispatch(
      "attention_forward", args.qkv.device(), [&] { return attention_forward_cost(args); },
      [&] { forward_cpu(args, s.B); }, [&](Stream stream) { attention_forward_cuda(args, stream); },
      [&] { return memory_of(args.qkv, s.B, attention_forward_scratch, /* cuda_floats= */ 0); });
}

void attention_backward(const AttentionBackward& args) {
  const Sizes s = check(args);
  dispatch(
      "attention_backward", args.qkv.device(), [&] { return attention_backward_cost(args); },
      [&] { backward_cpu(args, s.B); },
      [&](Stream stream) { attention_backward_cuda(args, stream); },
      [&] { return memory_of(args.qkv, s.B, attention_backward_scratch, args.lse.numel()); });
}

}  // namespace minibert
