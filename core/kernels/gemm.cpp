// gemm.cpp: reference and caller of the fast implementations of general matrix multiplication.
#include "core/kernels/gemm.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/elementwise_simd.h"
#include "core/kernels/gelu.h"
#include "core/kernels/gemm_backend.h"
#include "core/kernels/gemm_simd.h"
#include "core/kernels/reduce_simd.h"
#include "core/kernels/workspace.h"
#include "core/parallel.h"

namespace minibert {
namespace {

struct GemmSizes {
  int64_t M, N, K;
};

GemmSizes sizes_of(const GemmArgs& args) {
  return {args.a.dim(args.transpose_a ? 1 : 0), args.b.dim(args.transpose_b ? 0 : 1),
          args.a.dim(args.transpose_a ? 0 : 1)};
}

// Errors: UsageError with both shapes.
void check(const GemmArgs& args) {
  using Epilogue = GemmArgs::Epilogue;
  check_rank("gemm", "a", args.a, 2);
  check_rank("gemm", "b", args.b, 2);
  const auto [M, N, K] = sizes_of(args);
  MB_CHECK(args.b.dim(args.transpose_b ? 1 : 0) == K,
           "gemm: b is {}{}, expected {} for its inner dimension, as in a {}{}",
           args.b.shape().str(), args.transpose_b ? " transposed" : "", K, args.a.shape().str(),
           args.transpose_a ? " transposed" : "");
  check_tensor("gemm", "c", args.c, {M, N}, "rows of op(a), columns of op(b)");
  if (args.bias.defined()) check_tensor("gemm", "bias", args.bias, {N}, "columns of op(b)");
  if (args.pre_activation.defined())
    check_tensor("gemm", "pre_activation", args.pre_activation, {M, N}, "the shape of c");
  if (args.column_sum.defined())
    check_tensor("gemm", "column_sum", args.column_sum, {N}, "columns of op(b)");
  MB_CHECK(!args.accumulate || args.epilogue == Epilogue::none,
           "gemm: accumulate is on together with an epilogue, expected one of the two");
  MB_CHECK(args.epilogue != Epilogue::dgelu || args.pre_activation.defined(),
           "gemm: pre_activation is not given, expected {} (dgelu reads it)", args.c.shape().str());
  MB_CHECK(args.epilogue != Epilogue::dgelu || !args.bias.defined(),
           "gemm: a bias is given together with dgelu, expected none");
}

}  // namespace

double gemm_flops(const GemmArgs& args) {
  const auto [M, N, K] = sizes_of(args);
  return 2.0 * M * N * K;
}

double gemm_bytes(const GemmArgs& args) {
  const auto [M, N, K] = sizes_of(args);
  const int outputs = 1 + (args.accumulate ? 1 : 0) + (args.pre_activation.defined() ? 1 : 0);
  return 4.0 * (M * K + K * N + outputs * M * N);
}

// ---- 6. Reference ------------------------------------------------------------------------------
void gemm_reference(const GemmArgs& args) {
  using Epilogue = GemmArgs::Epilogue;
  check(args);
  const auto [M, N, K] = sizes_of(args);
  const float *a = args.a.data<float>(), *b = args.b.data<float>();
  float* c = args.c.data<float>();
  std::vector<double> row(static_cast<size_t>(N));
  std::vector<double> column_sum(static_cast<size_t>(N), 0.0);
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) row[n] = args.bias.defined() ? args.bias.data<float>()[n] : 0;
    for (int64_t k = 0; k < K; ++k) {
      const double x = args.transpose_a ? a[k * M + m] : a[m * K + k];
      for (int64_t n = 0; n < N; ++n)
        row[n] += x * (args.transpose_b ? b[n * K + k] : b[k * N + n]);
    }
    for (int64_t n = 0; n < N; ++n) {
      double value = row[n];
      if (args.accumulate) value += c[m * N + n];
      if (args.epilogue == Epilogue::bias_gelu) {
        if (args.pre_activation.defined())
          args.pre_activation.data<float>()[m * N + n] = static_cast<float>(value);
        value = gelu_value(value, args.gelu);
      }
      if (args.epilogue == Epilogue::dgelu) {
        value *= gelu_slope(args.pre_activation.data<float>()[m * N + n], args.gelu);
        column_sum[n] += value;
      }
      c[m * N + n] = static_cast<float>(value);
    }
  }
  if (!args.column_sum.defined()) return;
  float* sums = args.column_sum.data<float>();
  for (int64_t n = 0; n < N; ++n)
    sums[n] = static_cast<float>((args.accumulate_column_sum ? sums[n] : 0.0) + column_sum[n]);
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

constexpr int64_t kEpilogueRows = 64;  // rows of c an epilogue works on at a time
std::atomic<GemmBackend> g_backend{GemmBackend::fastest};

// Whether oneDNN is the faster of the two at this product, by its form alone, so that a run never
// changes its choice. It is not where rows of an operand lie a multiple of 4 KiB apart and meet in
// few sets of the cache (our panels are packed whatever the strides), nor where c is large and wide,
// nor where a is transposed (every wgrad), unless c is narrow. Figures: docs/results/gemm_avx2.txt,
// gemm_avx512.txt.
bool onednn_is_faster(const GemmProblem& p) {
  constexpr int64_t kPage = 4096 / sizeof(float), kNarrow = 256, kTall = 512, kWide = 2048;
  const int64_t a_stride = p.transpose_a ? p.M : p.K, b_stride = p.transpose_b ? p.K : p.N;
  if (a_stride % kPage == 0 || b_stride % kPage == 0) return false;
  if (p.transpose_a) return std::min(p.M, p.N) <= kNarrow;
  return p.M < kTall || p.N < kWide;
}

bool uses_onednn(const GemmProblem& problem) {
  switch (g_backend.load()) {
    case GemmBackend::onednn:
      return true;
    case GemmBackend::builtin:
      return false;
    case GemmBackend::fastest:
      break;
  }
  return gemm_onednn_available() && onednn_is_faster(problem);
}

// c (+)= op(a) op(b), written to `c`.
void multiply(const GemmArgs& args, const Tensor& c) {
  const auto [M, N, K] = sizes_of(args);
  if (M == 0 || N == 0) return;
  if (K == 0) {
    if (!args.accumulate) c.fill_zero();
    return;
  }
  const GemmProblem problem{M,
                            N,
                            K,
                            args.a.data<float>(),
                            args.b.data<float>(),
                            c.data<float>(),
                            args.transpose_a,
                            args.transpose_b,
                            args.accumulate};
  uses_onednn(problem) ? gemm_onednn(problem) : gemm_builtin(problem);
}

// body(first row, one past the last, block) over fixed blocks of rows.
template <typename Body>
void for_row_blocks(int64_t M, Body body) {
  parallel_for(M, kEpilogueRows,
               [&](int64_t begin, int64_t end) { body(begin, end, begin / kEpilogueRows); });
}

void add_bias_rows(const GemmArgs& args) {
  const auto [M, N, K] = sizes_of(args);
  float* c = args.c.data<float>();
  const float* bias = args.bias.data<float>();
  const auto add = MB_SIMD(add_block);
  for_row_blocks(M, [&, N = N](int64_t begin, int64_t end, int64_t) {
    for (int64_t m = begin; m < end; ++m) add(c + m * N, bias, c + m * N, N);
  });
}

// `pre` holds op(a) op(b): it becomes the pre-activation, and c its GELU.
void bias_gelu_rows(const GemmArgs& args, const Tensor& pre_activation) {
  const auto [M, N, K] = sizes_of(args);
  float *pre = pre_activation.data<float>(), *c = args.c.data<float>();
  const float* bias = args.bias.defined() ? args.bias.data<float>() : nullptr;
  const auto row = MB_SIMD(gemm_bias_gelu_row);
  for_row_blocks(M, [&, N = N](int64_t begin, int64_t end, int64_t) {
    for (int64_t m = begin; m < end; ++m)
      row(pre + m * N, bias, c + m * N, N, args.gelu == Gelu::erf);
  });
}

// c *= gelu'(pre_activation), and the sums of its columns.
void dgelu_rows(const GemmArgs& args) {
  const auto [M, N, K] = sizes_of(args);
  const bool has_sum = args.column_sum.defined();
  const int64_t blocks = (M + kEpilogueRows - 1) / kEpilogueRows;
  const Workspace<double> sums(has_sum ? blocks * N : 0);
  float* c = args.c.data<float>();
  const float* pre = args.pre_activation.data<float>();
  const auto row = MB_SIMD(gemm_dgelu_row);
  for_row_blocks(M, [&, N = N](int64_t begin, int64_t end, int64_t block) {
    double* partial = has_sum ? sums.data() + block * N : nullptr;
    if (has_sum) std::fill_n(partial, N, 0.0);
    for (int64_t m = begin; m < end; ++m)
      row(c + m * N, pre + m * N, partial, N, args.gelu == Gelu::erf);
  });
  if (!has_sum) return;
  const auto add = MB_SIMD(add_partials);
  add(sums.data(), blocks, N, args.column_sum.data<float>(), args.accumulate_column_sum);
}

void gemm_cpu(const GemmArgs& args) {
  using Epilogue = GemmArgs::Epilogue;
  if (args.epilogue == Epilogue::bias_gelu) {
    const Tensor& pre = args.pre_activation.defined() ? args.pre_activation : args.c;
    multiply(args, pre);
    return bias_gelu_rows(args, pre);
  }
  multiply(args, args.c);
  if (args.epilogue == Epilogue::dgelu) return dgelu_rows(args);
  if (args.bias.defined()) add_bias_rows(args);
}

}  // namespace

void gemm(const GemmArgs& args, Stream) {
  check(args);
  dispatch("gemm", args.c.device(), gemm_flops(args), gemm_bytes(args), [&] { gemm_cpu(args); });
}

std::string gemm_implementation() {
  const std::string ours = fmt::format("built-in ({})", name_of(simd_level()));
  const GemmBackend backend = g_backend;
  if (backend == GemmBackend::builtin || !gemm_onednn_available()) return ours;
  if (backend == GemmBackend::onednn) return gemm_onednn_description();
  return gemm_onednn_description() + ", " + ours;
}

void gemm_use(GemmBackend backend) {
  MB_CHECK(backend != GemmBackend::onednn || gemm_onednn_available(),
           "gemm: oneDNN is asked for, expected a build with it (apt-get install libdnnl-dev)");
  g_backend = backend;
}

}  // namespace minibert
