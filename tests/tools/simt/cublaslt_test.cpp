// cublaslt_test.cpp: products against a formula in double, over types, layouts and epilogues.
// The formula indexes its matrices by itself: element (i, j) is at i + j ld in columns, i ld + j in
// rows. What must be refused is in cublaslt_refusal_test.cpp.
#include <fmt/format.h>

#include "tests/tolerance.h"
#include "tests/tools/simt/product_support.h"

namespace simt {
namespace {

using minibert::testing::near;
using minibert::testing::Tolerance;

struct Case {
  cudaDataType_t input = CUDA_R_32F, output = CUDA_R_32F;
  bool transpose_a = false, transpose_b = false;
  bool row_a = false, row_b = false, row_cd = false;
  int m = 5, n = 7, k = 9;
  int batches = 1;
  int padding = 0;  // of every leading dimension
  float alpha = 1, beta = 0;
  int epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  std::string name() const {
    return fmt::format("{}_{}_{}{}_{}{}{}_m{}n{}k{}b{}_pad{}_beta{}_epilogue{}", name_of(input),
                       name_of(output), transpose_a ? "T" : "N", transpose_b ? "T" : "N",
                       row_a ? "R" : "C", row_b ? "R" : "C", row_cd ? "R" : "C", m, n, k, batches,
                       padding, beta, epilogue);
  }
};

/// A stored matrix: shape and place of its elements, and its values as f32.
struct Stored {
  int rows = 0, cols = 0, ld = 0, batch = 0;
  bool row_major = false;
  std::vector<float> values;
  Stored(int rows_, int cols_, bool row_major_, int padding, int batches)
      : rows(rows_), cols(cols_), row_major(row_major_) {
    ld = (row_major ? cols : rows) + padding;
    batch = ld * (row_major ? rows : cols) + 3 * padding;
    values.resize(static_cast<size_t>(batch) * batches);
  }
  size_t at(int b, int i, int j) const {
    return static_cast<size_t>(b) * batch + (row_major ? i * ld + j : i + j * ld);
  }
};

double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

double gelu_tanh_gradient(double x) {  // by central differences, so as not to repeat a derivation
  const double h = 1e-5;
  return (gelu_tanh(x + h) - gelu_tanh(x - h)) / (2 * h);
}

/// Everything a product may touch, and what it should leave there.
struct Product {
  Case c;
  Stored a, b, cd, aux;
  std::vector<float> c_values, bias;  // bias [batches, length]
  int bias_length = 0;
  std::vector<float> expected_d, expected_aux, expected_bias;

  bool has(int bits) const { return c.epilogue & bits; }
  bool gelu() const { return has(32); }
  bool dgelu() const { return has(64); }
  bool adds_bias() const { return has(4); }
  bool writes_aux() const { return gelu() && has(128); }
  bool uses_aux() const { return has(128); }
  bool writes_bias() const { return has(16 | 256 | 512); }

  explicit Product(const Case& wanted)
      : c(wanted),
        a(c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, c.row_a, c.padding, c.batches),
        b(c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, c.row_b, c.padding, c.batches),
        cd(c.m, c.n, c.row_cd, c.padding, c.batches),
        aux(c.m, c.n, c.row_cd, 0, 1) {
    aux.ld = (aux.ld + 7) / 8 * 8;
    aux.batch = (aux.ld * (c.row_cd ? c.m : c.n) + 7) / 8 * 8;
    a.values = random_values(a.values.size(), c.input, 1);
    b.values = random_values(b.values.size(), c.input, 2);
    c_values = random_values(cd.values.size(), c.output, 3);
    aux.values = random_values(static_cast<size_t>(aux.batch) * c.batches, c.output, 4);
    bias_length = c.epilogue == CUBLASLT_EPILOGUE_BGRADB ? c.n : c.m;
    bias = random_values(static_cast<size_t>(bias_length) * c.batches, c.output, 5);
    expect();
  }

  double op_a(int batch, int i, int q) const {
    return a.values[c.transpose_a ? a.at(batch, q, i) : a.at(batch, i, q)];
  }
  double op_b(int batch, int q, int j) const {
    return b.values[c.transpose_b ? b.at(batch, j, q) : b.at(batch, q, j)];
  }

  void expect() {
    expected_d = c_values;  // what lies between the elements must stay
    expected_aux = aux.values;
    expected_bias = bias;
    for (int batch = 0; batch < c.batches; ++batch) {
      std::vector<double> row_sums(c.m);
      for (int i = 0; i < c.m; ++i) {
        for (int j = 0; j < c.n; ++j) {
          double x = 0;
          for (int q = 0; q < c.k; ++q) x += op_a(batch, i, q) * op_b(batch, q, j);
          x = c.alpha * x + c.beta * c_values[cd.at(batch, i, j)];
          if (adds_bias()) x += bias[batch * bias_length + i];
          if (writes_aux()) expected_aux[aux.at(batch, i, j)] = static_cast<float>(x);
          if (gelu()) x = gelu_tanh(x);
          if (dgelu()) x *= gelu_tanh_gradient(aux.values[aux.at(batch, i, j)]);
          row_sums[i] += x;
          expected_d[cd.at(batch, i, j)] = static_cast<float>(x);
        }
      }
      for (int i = 0; i < bias_length && writes_bias(); ++i) {
        double sum = 0;
        for (int q = 0; q < c.k; ++q) {
          if (c.epilogue == CUBLASLT_EPILOGUE_BGRADA) sum += op_a(batch, i, q);
          if (c.epilogue == CUBLASLT_EPILOGUE_BGRADB) sum += op_b(batch, q, i);
        }
        if (dgelu()) sum = row_sums[i];
        expected_bias[batch * bias_length + i] = static_cast<float>(sum);
      }
    }
  }
};

class CublasLtProduct : public CublasLt {
 protected:
  /// Which of the heuristic's algorithms to use; -1: none is given.
  void check(const Case& c, int algorithm = -1, bool device_scalars = false) {
    SCOPED_TRACE(c.name());
    const Product p(c);
    const OnDevice<std::byte> a(encode(c.input, p.a.values)), b(encode(c.input, p.b.values));
    const OnDevice<std::byte> initial(encode(c.output, p.c_values)),
        d(encode(c.output, p.c_values));
    const OnDevice<std::byte> bias(encode(c.output, p.bias)), aux(encode(c.output, p.aux.values));
    const OnDevice<float> scalars(std::vector<float>{c.alpha, c.beta});

    Descriptor descriptor;
    descriptor.set(CUBLASLT_MATMUL_DESC_TRANSA, c.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    descriptor.set(CUBLASLT_MATMUL_DESC_TRANSB, c.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    descriptor.set(CUBLASLT_MATMUL_DESC_EPILOGUE, c.epilogue);
    if (p.adds_bias() || p.writes_bias()) {
      descriptor.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.get());
      descriptor.set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, int64_t{p.bias_length});
    }
    if (p.uses_aux()) {
      descriptor.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.get());
      descriptor.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{p.aux.ld});
      descriptor.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, int64_t{p.aux.batch});
    }
    if (device_scalars)
      descriptor.set(CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE);
    Layout a_layout(c.input, p.a.rows, p.a.cols, p.a.ld, c.row_a);
    Layout b_layout(c.input, p.b.rows, p.b.cols, p.b.ld, c.row_b);
    Layout d_layout(c.output, c.m, c.n, p.cd.ld, c.row_cd);
    a_layout.set_batches(c.batches, p.a.batch);
    b_layout.set_batches(c.batches, p.b.batch);
    d_layout.set_batches(c.batches, p.cd.batch);

    const OnDevice<std::byte> workspace(1 << 20);
    cublasLtMatmulHeuristicResult_t results[4];
    int found = 0;
    const Preference preference(workspace.bytes());
    ASSERT_EQ(CUBLAS_STATUS_SUCCESS,
              cublasLtMatmulAlgoGetHeuristic(handle_, descriptor, a_layout, b_layout, d_layout,
                                             d_layout, preference, 4, results, &found));
    ASSERT_LT(algorithm, found);
    const float *alpha = &c.alpha, *beta = &c.beta;
    if (device_scalars) alpha = scalars.get(), beta = scalars.get() + 1;
    ASSERT_EQ(CUBLAS_STATUS_SUCCESS,
              cublasLtMatmul(handle_, descriptor, alpha, a.get(), a_layout, b.get(), b_layout, beta,
                             initial.get(), d_layout, d.get(), d_layout,
                             algorithm < 0 ? nullptr : &results[algorithm].algo, workspace.get(),
                             workspace.bytes(), nullptr));

    const double tolerance = Tolerance::reduction + rounding_of(c.output);
    EXPECT_TRUE(near("D", decode(c.output, d.read()), p.expected_d, tolerance));
    EXPECT_TRUE(near("aux", decode(c.output, aux.read()), p.expected_aux, tolerance));
    EXPECT_TRUE(near("bias", decode(c.output, bias.read()), p.expected_bias, tolerance));
  }
};

constexpr std::pair<cudaDataType_t, cudaDataType_t> kTypes[] = {{CUDA_R_32F, CUDA_R_32F},
                                                                {CUDA_R_16BF, CUDA_R_16BF},
                                                                {CUDA_R_16F, CUDA_R_16F},
                                                                {CUDA_R_16BF, CUDA_R_32F},
                                                                {CUDA_R_16F, CUDA_R_32F}};
constexpr int kEpilogues[] = {CUBLASLT_EPILOGUE_DEFAULT,  CUBLASLT_EPILOGUE_BIAS,
                              CUBLASLT_EPILOGUE_GELU,     CUBLASLT_EPILOGUE_GELU_BIAS,
                              CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                              CUBLASLT_EPILOGUE_DGELU,    CUBLASLT_EPILOGUE_DGELU_BGRAD,
                              CUBLASLT_EPILOGUE_BGRADA,   CUBLASLT_EPILOGUE_BGRADB};

TEST_F(CublasLtProduct, MatchesFormulaInEveryLayout) {
  for (int bits = 0; bits < 32; ++bits) {
    Case c;
    c.transpose_a = bits & 1, c.transpose_b = bits & 2;
    c.row_a = bits & 4, c.row_b = bits & 8, c.row_cd = bits & 16;
    c.padding = bits % 3;
    check(c);
  }
}

TEST_F(CublasLtProduct, MatchesFormulaInEveryTypeAndEpilogue) {
  for (const auto& [input, output] : kTypes) {
    for (int epilogue : kEpilogues) {
      for (int batches : {1, 3}) {
        Case c;
        c.input = input, c.output = output, c.epilogue = epilogue, c.batches = batches;
        c.transpose_a = true, c.padding = 2;
        check(c);
        c.row_cd = c.row_a = true;
        check(c);
      }
    }
  }
}

TEST_F(CublasLtProduct, MatchesFormulaAtManySizes) {
  for (int m : {1, 8, 33})
    for (int n : {1, 16, 513})
      for (int k : {1, 64, 65}) {
        Case c;
        c.m = m, c.n = n, c.k = k;
        check(c);
      }
}

TEST_F(CublasLtProduct, ScalesAndAddsC) {
  for (bool device_scalars : {false, true}) {
    Case c;
    c.alpha = -1.5f, c.beta = 0.25f, c.padding = 1;
    check(c, -1, device_scalars);
    c.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    check(c, -1, device_scalars);
    c.beta = 0;
    check(c, -1, device_scalars);
  }
}

TEST_F(CublasLtProduct, EveryAlgorithmIsRight) {
  for (int algorithm : {0, 1, 2}) {
    Case c;
    c.m = 16, c.n = 24, c.k = 40, c.batches = 2;
    check(c, algorithm);
    c.input = c.output = CUDA_R_16BF;
    check(c, algorithm);
  }
}

TEST_F(CublasLtProduct, BetaZeroDoesNotReadC) {
  const OnDevice<float> a(std::vector<float>{2}), b(std::vector<float>{3}), d(1);  // d is NaN
  const Descriptor descriptor;
  const Layout one(CUDA_R_32F, 1, 1, 1);
  const float alpha = 1, beta = 0;
  EXPECT_STATUS(SUCCESS,
                cublasLtMatmul(handle_, descriptor, &alpha, a.get(), one, b.get(), one, &beta,
                               d.get(), one, d.get(), one, nullptr, nullptr, 0, nullptr));
  EXPECT_EQ(6.0f, d.read()[0]);
}

TEST_F(CublasLtProduct, Tf32KeepsTenBitsOfFraction) {
  // 1 + 2^-11 is a tie and goes away from zero to 1 + 2^-10; a little less goes to 1.
  const float half_way = 1 + 0x1p-11f, below = half_way - 0x1p-23f;
  for (const auto& [value, rounded] : {std::pair{half_way, 1 + 0x1p-10f}, std::pair{below, 1.0f},
                                       std::pair{-half_way, -1 - 0x1p-10f}}) {
    const OnDevice<float> a(std::vector<float>{value}), b(std::vector<float>{1}), d(1);
    const Descriptor descriptor(CUBLAS_COMPUTE_32F_FAST_TF32);
    const Layout one(CUDA_R_32F, 1, 1, 1);
    const float alpha = 1, beta = 0;
    EXPECT_STATUS(SUCCESS,
                  cublasLtMatmul(handle_, descriptor, &alpha, a.get(), one, b.get(), one, &beta,
                                 d.get(), one, d.get(), one, nullptr, nullptr, 0, nullptr));
    EXPECT_EQ(rounded, d.read()[0]);
  }
}

TEST_F(CublasLtProduct, SplittingKChangesBitsAndNotMuchElse) {
  // 2^24, 1, 1, -2^24: in order each 1 is lost and 0 is left; by halves 2^24 + (1 - 2^24) = 1.
  const std::vector<float> row = {0x1p24f, 1, 1, -0x1p24f};
  const std::vector<float> ones(4, 1);
  const OnDevice<float> a(row), b(ones), d(1), workspace(1);
  Descriptor descriptor;
  const Layout a_layout(CUDA_R_32F, 4, 1, 4), b_layout(CUDA_R_32F, 4, 1, 4);
  Layout d_layout(CUDA_R_32F, 1, 1, 4);
  descriptor.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  const Preference preference(4);
  cublasLtMatmulHeuristicResult_t results[3];
  int found = 0;
  ASSERT_EQ(CUBLAS_STATUS_SUCCESS,
            cublasLtMatmulAlgoGetHeuristic(handle_, descriptor, a_layout, b_layout, d_layout,
                                           d_layout, preference, 3, results, &found));
  ASSERT_EQ(3, found);
  const float alpha = 1, beta = 0;
  const float expected[] = {0, 1, 0};
  for (int i = 0; i < 3; ++i) {
    int32_t splits = 0;
    EXPECT_STATUS(SUCCESS, cublasLtMatmulAlgoConfigGetAttribute(&results[i].algo,
                                                                CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                                                &splits, sizeof splits, nullptr));
    EXPECT_EQ(i == 1 ? 2 : 1, splits);
    EXPECT_STATUS(SUCCESS,
                  cublasLtMatmul(handle_, descriptor, &alpha, a.get(), a_layout, b.get(), b_layout,
                                 &beta, d.get(), d_layout, d.get(), d_layout, &results[i].algo,
                                 workspace.get(), results[i].workspaceSize, nullptr));
    EXPECT_EQ(expected[i], d.read()[0]) << "algorithm " << i;
  }
}

TEST_F(CublasLtProduct, RunsInItsStreamAndReplays) {
  set_schedule(Schedule::lazy);
  cudaStream_t stream;
  ASSERT_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const OnDevice<float> a(std::vector<float>{2}), b(std::vector<float>{3}),
      d(std::vector<float>{1});
  const Descriptor descriptor;
  const Layout one(CUDA_R_32F, 1, 1, 1);
  float alpha = 1, beta = 1;
  ASSERT_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  EXPECT_STATUS(SUCCESS,
                cublasLtMatmul(handle_, descriptor, &alpha, a.get(), one, b.get(), one, &beta,
                               d.get(), one, d.get(), one, nullptr, nullptr, 0, stream));
  alpha = beta = 100;  // were read at the call
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  ASSERT_OK(cudaStreamEndCapture(stream, &graph));
  ASSERT_OK(cudaGraphInstantiate(&exec, graph, 0));
  ASSERT_OK(cudaGraphLaunch(exec, stream));
  ASSERT_OK(cudaGraphLaunch(exec, stream));
  EXPECT_EQ(2u, pending_operations());
  EXPECT_EQ(1 + 2 * 6.0f, d.read()[0]);
  ASSERT_EQ(2u, launches().size());
  EXPECT_EQ("cublasLtMatmul", launches()[0].name);
}

}  // namespace
}  // namespace simt
