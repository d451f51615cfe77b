// gemm.cpp: reference and caller of the fast implementations of general matrix multiplication.
#include "core/kernels/gemm.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/dropout_mask.h"
#include "core/kernels/gelu.h"
#include "core/kernels/gemm_backend.h"
#include "core/kernels/gemm_simd.h"
#include "core/kernels/reduce.h"
#include "core/kernels/reduce_simd.h"
#include "core/kernels/reference.h"
#include "core/kernels/workspace.h"
#include "core/parallel.h"
#include "core/scratch.h"

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
  check_compute("gemm", "a", args.a, 2);
  const DType element = args.a.dtype();
  check_rank("gemm", "b", args.b, 2, element);
  const auto [M, N, K] = sizes_of(args);
  MB_CHECK(args.b.dim(args.transpose_b ? 1 : 0) == K,
           "gemm: b is {}{}, expected {} for its inner dimension, as in a {}{}",
           shape_of(args.b).str(), args.transpose_b ? " transposed" : "", K, shape_of(args.a).str(),
           args.transpose_a ? " transposed" : "");
  const DType result = args.c.defined() && args.c.dtype() == DType::f32 ? DType::f32 : element;
  check_tensor("gemm", "c", args.c, {M, N}, "rows of op(a), columns of op(b)", result);
  if (args.bias.defined())
    check_tensor("gemm", "bias", args.bias, {N}, "columns of op(b)", element);
  if (args.pre_activation.defined())
    check_tensor("gemm", "pre_activation", args.pre_activation, {M, N}, "shape and type of c",
                 result);
  if (args.column_sum.defined())
    check_tensor("gemm", "column_sum", args.column_sum, {N}, "columns of op(b)");
  if (args.row_sum.defined()) {
    check_tensor("gemm", "row_sum", args.row_sum, {M}, "rows of op(a)");
    MB_CHECK(args.transpose_a, "gemm: row_sum is given, expected it with transpose_a alone");
  }
  MB_CHECK(args.residual.defined() == (args.epilogue == Epilogue::residual),
           "gemm: residual is {}given, expected it with the epilogue residual, and with no other",
           args.residual.defined() ? "" : "not ");
  if (args.epilogue == Epilogue::residual) {
    check_tensor("gemm", "residual", args.residual, {M, N}, "shape of c", element);
    check_type("gemm", "c", args.c, element);
    if (args.dropout.active()) {
      check_tensor("gemm", "position", args.position, {M}, "rows of c", DType::i32);
      check_tensor("gemm", "row_sample", args.row_sample, {M}, "rows of c", DType::i32);
    }
  }
  MB_CHECK(!args.accumulate || args.epilogue == Epilogue::none,
           "gemm: accumulate is on together with an epilogue, expected one of the two");
  MB_CHECK(args.epilogue != Epilogue::dgelu || args.pre_activation.defined(),
           "gemm: pre_activation is not given, expected {} (dgelu reads it)",
           shape_of(args.c).str());
  MB_CHECK(args.epilogue != Epilogue::dgelu || !args.bias.defined(),
           "gemm: a bias is given together with dgelu, expected none");
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
Cost gemm_cost(const GemmArgs& args) {
  const auto [M, N, K] = sizes_of(args);
  const bool sums = args.epilogue == GemmArgs::Epilogue::dgelu && args.column_sum.defined();
  double flops_of_element =
      2.0 * K + (args.bias.defined() ? 1 : 0) + (args.residual.defined() ? 1 : 0) + (sums ? 1 : 0);
  if (args.epilogue == GemmArgs::Epilogue::bias_gelu) flops_of_element += kGeluFlops;
  if (args.epilogue == GemmArgs::Epilogue::dgelu) flops_of_element += kGeluFlops + 1;
  const auto moved = [](const Operand& x) { return x.defined() ? x.bytes() : 0; };
  const int64_t bytes = moved(args.a) + moved(args.b) + moved(args.c) * (args.accumulate ? 2 : 1) +
                        moved(args.bias) + moved(args.pre_activation) + moved(args.residual) +
                        moved(args.row_sum) * (args.accumulate_row_sum ? 2 : 1) +
                        (sums ? moved(args.column_sum) * (args.accumulate_column_sum ? 2 : 1) : 0);
  const int64_t row_sum_flops = args.row_sum.defined() ? M * K : 0;
  return {flops_of_element * static_cast<double>(M * N) + static_cast<double>(row_sum_flops),
          static_cast<double>(bytes)};
}

// ---- 6. Reference ------------------------------------------------------------------------------
namespace {

// All elements, as doubles.
std::vector<double> doubles_of(const Operand& x) {
  std::vector<double> values(static_cast<size_t>(x.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = get(x, static_cast<int64_t>(i));
  return values;
}

// x as c's type stores it: what bias_gelu applies GELU to.
double rounded(DType dtype, double x) {
  uint32_t storage = 0;
  Operand element;
  element.pointer = &storage;
  element.type = dtype;
  put(element, 0, x);
  return get(element, 0);
}

}  // namespace

void gemm_reference(const GemmArgs& args) {
  using Epilogue = GemmArgs::Epilogue;
  check(args);
  const auto [M, N, K] = sizes_of(args);
  const std::vector<double> a = doubles_of(args.a), b = doubles_of(args.b);
  std::vector<double> row(static_cast<size_t>(N));
  std::vector<double> column_sum(static_cast<size_t>(N), 0.0);
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) row[n] = args.bias.defined() ? get(args.bias, n) : 0;
    for (int64_t k = 0; k < K; ++k) {
      const double x = a[args.transpose_a ? k * M + m : m * K + k];
      for (int64_t n = 0; n < N; ++n) row[n] += x * b[args.transpose_b ? n * K + k : k * N + n];
    }
    for (int64_t n = 0; n < N; ++n) {
      const int64_t i = m * N + n;
      double value = row[n];
      if (args.accumulate) value += get(args.c, i);
      if (args.epilogue == Epilogue::bias_gelu) {
        if (args.pre_activation.defined()) put(args.pre_activation, i, value);
        value = gelu_value(rounded(args.c.dtype(), value), args.gelu);
      }
      if (args.epilogue == Epilogue::dgelu) {
        value *= gelu_slope(get(args.pre_activation, i), args.gelu);
        column_sum[n] += value;
      }
      if (args.epilogue == Epilogue::residual) {
        const double factor =
            hidden_dropout_factor(args.dropout, args.position, args.row_sample, m, n);
        value = get(args.residual, i) + dropped(value, factor);
      }
      put(args.c, i, value);
    }
  }
  if (args.row_sum.defined()) column_sum_reference({args.a, args.row_sum, args.accumulate_row_sum});
  if (args.epilogue != Epilogue::dgelu || !args.column_sum.defined()) return;
  for (int64_t n = 0; n < N; ++n) {
    const double before = args.accumulate_column_sum ? get(args.column_sum, n) : 0.0;
    put(args.column_sum, n, before + column_sum[n]);
  }
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

std::atomic<GemmBackend> g_backend{GemmBackend::fastest};

// Whether oneDNN's sgemm is the faster of the two at this product, by its form alone, so that a run
// never changes its choice. It is slower where row strides are multiples of 4 KiB, where c is both
// tall and wide, and where a is transposed (every wgrad) unless c is narrow. Figures:
// docs/results/gemm_avx2.txt, gemm_avx512.txt.
bool onednn_is_faster(const GemmProblem& p) {
  constexpr int64_t kPage = 4096 / sizeof(float), kNarrow = 256, kTall = 512, kWide = 2048;
  const int64_t a_stride = p.transpose_a ? p.M : p.K, b_stride = p.transpose_b ? p.K : p.N;
  if (a_stride % kPage == 0 || b_stride % kPage == 0) return false;
  if (p.transpose_a) return std::min(p.M, p.N) <= kNarrow;
  return p.M < kTall || p.N < kWide;
}

bool uses_onednn(const GemmProblem& problem) {
  const GemmBackend backend = g_backend;
  if (backend == GemmBackend::builtin || !gemm_onednn_multiplies(problem.type)) return false;
  // Where the CPU multiplies 16-bit types itself, our own GEMM, which converts, is no match.
  return backend == GemmBackend::onednn || problem.type != DType::f32 || onednn_is_faster(problem);
}

// Partial sums of columns in double: [parts of rows, N], each part's row at floor(row / 24).
class ColumnSums {
 public:
  ColumnSums(int64_t M, int64_t N) : blocks_(blocks_of(M)), N_(N), partial_(blocks_ * N) {
    std::fill_n(partial_.data(), blocks_ * N, 0.0);
  }
  static int64_t bytes(int64_t M, int64_t N) {
    return blocks_of(M) * N * static_cast<int64_t>(sizeof(double));
  }
  double* of(const GemmPart& part) const {
    return partial_.data() + part.row / kGemmPartRows * N_ + part.column;
  }
  void add_to(const Operand& y, bool accumulate) const {
    add_columns({partial_.data(), blocks_, N_}, y.data<float>(), accumulate);
  }

 private:
  static int64_t blocks_of(int64_t M) { return (M + kGemmPartRows - 1) / kGemmPartRows; }
  int64_t blocks_, N_;
  Workspace<double> partial_;
};

// Whether something is left to do with a product that is in c.
bool has_finish(const GemmArgs& args) {
  return args.epilogue != GemmArgs::Epilogue::none || args.bias.defined();
}

// What the product is with K = 0.
void finish_zeros(const GemmProblem& p) {
  parallel_for(p.M, kGemmPartRows, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    float* part =
        p.c ? p.c + begin * p.N : thread_scratch_of<float>(static_cast<size_t>(rows * p.N));
    if (!p.accumulate) std::fill_n(part, rows * p.N, 0.0f);
    if (p.finish) p.finish({part, p.N, begin, rows, 0, p.N});
  });
}

bool sums_columns(const GemmArgs& args) {
  return args.epilogue == GemmArgs::Epilogue::dgelu && args.column_sum.defined();
}

// The product alone, without `finish`.
GemmProblem problem_of(const GemmArgs& args) {
  const auto [M, N, K] = sizes_of(args);
  GemmProblem problem{};
  problem.M = M, problem.N = N, problem.K = K;
  problem.type = args.a.dtype();
  problem.a = args.a.raw(), problem.b = args.b.raw();
  problem.transpose_a = args.transpose_a, problem.transpose_b = args.transpose_b;
  if (args.c.dtype() == DType::f32) {
    const bool in_pre =
        args.epilogue == GemmArgs::Epilogue::bias_gelu && args.pre_activation.defined();
    problem.c = (in_pre ? args.pre_activation : args.c).data<float>();
    problem.accumulate = args.accumulate;
  }
  return problem;
}

KernelMemory gemm_memory(const GemmArgs& args) {
  const auto [M, N, K] = sizes_of(args);
  KernelMemory memory;
  if (args.c.device() == Device::cuda || M == 0 || N == 0 || K == 0) return memory;
  const GemmProblem problem = problem_of(args);
  memory = uses_onednn(problem) ? gemm_onednn_memory(problem) : gemm_builtin_memory(problem);
  if (sums_columns(args)) memory.workspaces.push_back(ColumnSums::bytes(M, N));
  return memory;
}

void multiply(const GemmProblem& problem) {
  if (problem.K == 0) return finish_zeros(problem);
  uses_onednn(problem) ? gemm_onednn(problem) : gemm_builtin(problem);
}

// A product in scratch is finished part by part. One in c gets a pass of its own, over whole rows: tile
// by tile is as fast where a core has its L2 for itself, and where another hardware thread takes its
// share, the epilogue's operands drive the panels out (a step of BERT-base was 2.5 % slower).
void gemm_cpu(const GemmArgs& args) {
  const auto [M, N, K] = sizes_of(args);
  std::optional<ColumnSums> sums;
  if (sums_columns(args)) sums.emplace(M, N);
  if (M > 0 && N > 0) {
    const auto finish = [&, finish_part = MB_SIMD(gemm_finish)](const GemmPart& part) {
      finish_part(args, part, sums ? sums->of(part) : nullptr);
    };
    GemmProblem problem = problem_of(args);
    if (!problem.c) problem.finish = finish;
    multiply(problem);
    if (problem.c && has_finish(args)) {
      parallel_for(M, kGemmPartRows, [&, N = N](int64_t begin, int64_t end) {
        finish({problem.c + begin * N, N, begin, end - begin, 0, N});
      });
    }
  }
  if (sums) sums->add_to(args.column_sum, args.accumulate_column_sum);
}

}  // namespace

void gemm(const GemmArgs& args) {
  check(args);
  if (args.row_sum.defined() && args.c.device() == Device::cpu) {
    GemmArgs product = args;  // packing a gives nothing that a pass over a would not
    product.row_sum = {};
    gemm(product);
    return column_sum(args.a, args.row_sum, args.accumulate_row_sum);
  }
  dispatch(
      "gemm", args.c.device(), [&] { return gemm_cost(args); }, [&] { gemm_cpu(args); },
      [&](Stream stream) { gemm_cuda(args, stream); }, [&] { return gemm_memory(args); });
}

bool gemm_fuses(const GemmArgs& args) {
  check(args);
  const OpRange named("gemm");
  // In a dry run our own kernels stand for cuBLASLt's, whose choice needs a GPU.
  return args.c.device() == Device::cpu || DryRun::on() || gemm_cuda_fuses(args, current_stream());
}

std::string gemm_implementation(DType type) {
  const std::string ours = fmt::format("built-in ({})", name_of(simd_level()));
  const GemmBackend backend = g_backend;
  const bool library = backend != GemmBackend::builtin && gemm_onednn_multiplies(type);
  if (type != DType::f32) return library ? gemm_onednn_description() : "converted to f32, " + ours;
  if (!library) return ours;
  if (backend == GemmBackend::onednn) return gemm_onednn_description();
  return gemm_onednn_description() + ", " + ours;
}

void gemm_use(GemmBackend backend) {
  MB_CHECK(backend != GemmBackend::onednn || gemm_onednn_available(),
           "gemm: oneDNN is asked for, expected a build with it (apt-get install libdnnl-dev)");
  g_backend = backend;
}

}  // namespace minibert
