// products.cpp: cuBLASLt, asked as core/kernels/gemm_cublaslt.cpp asks it: products of whole numbers
// are exact; each epilogue on a product with the unit matrix shows what it computes, so which form of
// GELU. A combination that the library offers nothing for is a fact. Matrices are stored by columns.
// Source: cuBLAS 13 documentation, cublasLtEpilogue_t.
#include <cmath>
#include <functional>

#include <cublasLt.h>
#include <fmt/format.h>

#include "core/error.h"
#include "tools/conformance/report.h"

namespace minibert::conformance {
namespace {

void check(cublasStatus_t status, const char* expression) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail<InternalError>("cublasLt: {} failed: {}", expression, cublasLtGetStatusString(status));
}
#define MB_CUBLASLT(expression) check((expression), #expression)

// ---- Types -----------------------------------------------------------------------------------------
struct Type {
  const char* name;
  cudaDataType_t id;
  cublasComputeType_t compute;
  double rounding;  // relative error of a stored result
};
constexpr Type kTypes[] = {{"f32", CUDA_R_32F, CUBLAS_COMPUTE_32F, 0x1p-23},
                           {"tf32", CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, 0x1p-23},
                           {"f16", CUDA_R_16F, CUBLAS_COMPUTE_32F, 0x1p-11},
                           {"bf16", CUDA_R_16BF, CUBLAS_COMPUTE_32F, 0x1p-8}};

using Bytes = std::vector<uint8_t>;

size_t size_of(cudaDataType_t type) {
  return type == CUDA_R_32F ? 4 : 2;
}
Bytes encode(cudaDataType_t type, const std::vector<float>& values) {
  Bytes bytes(values.size() * size_of(type));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto narrow =
        static_cast<uint16_t>(nearest(type == CUDA_R_16F ? kF16 : kBf16, values[i]));
    if (type == CUDA_R_32F) {
      __builtin_memcpy(&bytes[4 * i], &values[i], 4);
    } else {
      __builtin_memcpy(&bytes[2 * i], &narrow, 2);
    }
  }
  return bytes;
}
std::vector<float> decode(cudaDataType_t type, const Bytes& bytes) {
  std::vector<float> values(bytes.size() / size_of(type));
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t narrow = 0;
    if (type == CUDA_R_32F) {
      __builtin_memcpy(&values[i], &bytes[4 * i], 4);
    } else {
      __builtin_memcpy(&narrow, &bytes[2 * i], 2);
      values[i] = static_cast<float>(value_of(type == CUDA_R_16F ? kF16 : kBf16, narrow));
    }
  }
  return values;
}

// ---- One product -------------------------------------------------------------------------------------
/// d [m, n] = op(a) op(b), then the epilogue; ld of each is its rows.
struct Product {
  Type type;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  int m, n, k;
  bool transpose_a = false, transpose_b = false;
  std::vector<float> a = {}, b = {};
  std::vector<float> vector = {};  // bias, or room for its gradient: [m], or [n] for BGRADB
  std::vector<float> aux = {};     // [m, n], or empty
};
struct Results {
  bool offered = false;
  std::vector<float> d, vector, aux;
};

Results run(const Product& p) {
  const cudaDataType_t type = p.type.id;
  const auto there = [&](const std::vector<float>& values) {
    return Buffer<uint8_t>(encode(type, values.empty() ? std::vector<float>(1) : values));
  };
  const std::vector<float> empty(static_cast<size_t>(p.m) * static_cast<size_t>(p.n), 0.0f);
  const auto a = there(p.a), b = there(p.b), vector = there(p.vector), aux = there(p.aux),
             d = there(empty);
  cublasLtHandle_t library = nullptr;
  MB_CUBLASLT(cublasLtCreate(&library));
  cublasLtMatmulDesc_t operation = nullptr;
  MB_CUBLASLT(cublasLtMatmulDescCreate(&operation, p.type.compute, CUDA_R_32F));
  const auto set = [&](cublasLtMatmulDescAttributes_t which, auto value) {
    MB_CUBLASLT(cublasLtMatmulDescSetAttribute(operation, which, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, p.epilogue);
  if (!p.vector.empty()) {
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(vector.data()));
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
  }
  if (!p.aux.empty()) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(aux.data()));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{p.m});
  }
  const auto layout = [&](int rows, int columns) {
    cublasLtMatrixLayout_t made = nullptr;
    MB_CUBLASLT(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows),
                                           static_cast<uint64_t>(columns), rows));
    return made;
  };
  const auto of_a = p.transpose_a ? layout(p.k, p.m) : layout(p.m, p.k),
             of_b = p.transpose_b ? layout(p.n, p.k) : layout(p.k, p.n), of_d = layout(p.m, p.n);
  cublasLtMatmulPreference_t preference = nullptr;
  MB_CUBLASLT(cublasLtMatmulPreferenceCreate(&preference));
  cublasLtMatmulHeuristicResult_t offer{};
  int offers = 0;
  cublasLtMatmulAlgoGetHeuristic(library, operation, of_a, of_b, of_d, of_d, preference, 1, &offer,
                                 &offers);
  Results results;
  if (offers > 0 && offer.state == CUBLAS_STATUS_SUCCESS) {
    const float one = 1, zero = 0;
    MB_CUBLASLT(cublasLtMatmul(library, operation, &one, a.data(), of_a, b.data(), of_b, &zero,
                               d.data(), of_d, d.data(), of_d, &offer.algo, nullptr, 0, nullptr));
    MB_CUDA(cudaDeviceSynchronize());
    results = {true, decode(type, d.read()), decode(type, vector.read()), decode(type, aux.read())};
  }
  cublasLtMatmulPreferenceDestroy(preference);
  for (const cublasLtMatrixLayout_t each : {of_a, of_b, of_d}) cublasLtMatrixLayoutDestroy(each);
  cublasLtMatmulDescDestroy(operation);
  cublasLtDestroy(library);
  return results;
}

// ---- Whole numbers -----------------------------------------------------------------------------------
void run_whole_numbers(Report& report, const Type& type) {
  Random random(41);
  const int m = 40, n = 24, k = 64;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      // Sums are below 64 x 4: whole numbers that even bf16 holds up to 256.
      Product p{type, CUBLASLT_EPILOGUE_DEFAULT, m, n, k, ta, tb};
      for (int i = 0; i < m * k; ++i) p.a.push_back(static_cast<float>(random.whole(-2, 2)));
      for (int i = 0; i < k * n; ++i) p.b.push_back(static_cast<float>(random.whole(-2, 2)));
      std::vector<double> wanted;
      for (int column = 0; column < n; ++column)
        for (int row = 0; row < m; ++row) {
          double sum = 0;
          for (int i = 0; i < k; ++i)
            sum += static_cast<double>(ta ? p.a[row * k + i] : p.a[i * m + row]) *
                   (tb ? p.b[i * n + column] : p.b[column * k + i]);
          wanted.push_back(sum);
        }
      const std::string name =
          fmt::format("cuBLASLt {} {}{}", type.name, ta ? "t" : "n", tb ? "t" : "n");
      const Results got = run(p);
      got.offered ? report.exact(name, got.d, wanted) : report.fact(name, "not offered");
    }
}

// ---- Epilogues ------------------------------------------------------------------------------------------
double gelu(double x, bool tanh_form) {
  if (!tanh_form) return 0.5 * x * std::erfc(-x * M_SQRT1_2);
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double slope(double x, bool tanh_form) {
  if (!tanh_form)
    return 0.5 * std::erfc(-x * M_SQRT1_2) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
  const double c = std::sqrt(2 / M_PI), t = std::tanh(c * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
}

constexpr int kM = 128, kN = 16;  // d = a [128, 16] times the unit matrix

/// Epilogues of a [128, 16] whose elements go from -6 to 6.
class Epilogues {
 public:
  Epilogues(Report& report, const Type& type) : report_(report), type_(type) {
    for (int i = 0; i < kM * kN; ++i) grid_.push_back(-6 + 12 * static_cast<float>(i) / (kM * kN));
    for (int i = 0; i < kM; ++i) bias_.push_back(static_cast<float>(i % 17 - 8) / 8);
    grid_ = decode(type.id, encode(type.id, grid_));
    if (type.compute == CUBLAS_COMPUTE_32F_FAST_TF32)
      for (float& x : grid_) x = static_cast<float>(nearest_tf32(x));
  }
  void run_all() {
    run_bias();
    for (const bool has_bias : {false, true}) run_gelu(has_bias);
    run_dgelu(CUBLASLT_EPILOGUE_DGELU, "DGELU");
    run_dgelu(CUBLASLT_EPILOGUE_DGELU_BGRAD, "DGELU_BGRAD");
    run_input_sums();
  }

 private:
  Product product(cublasLtEpilogue_t epilogue) const {
    Product p{type_, epilogue, kM, kN, kN};
    p.a = grid_;
    p.b.resize(kN * kN, 0.0f);
    for (int i = 0; i < kN; ++i) p.b[i * kN + i] = 1;
    return p;
  }
  std::string name_of(const char* epilogue) const {
    return fmt::format("cuBLASLt {} {}", type_.name, epilogue);
  }
  bool offered(const Results& got, const char* epilogue) {
    if (!got.offered) report_.fact(name_of(epilogue), "not offered");
    return got.offered;
  }
  /// Of a function in f32 that is stored in the type.
  Limits limits() const { return {1.01 * type_.rounding, 4e-6}; }

  void run_bias() {
    Product p = product(CUBLASLT_EPILOGUE_BIAS);
    p.vector = bias_;
    const Results got = run(p);
    if (!offered(got, "BIAS")) return;
    std::vector<double> wanted;
    for (int i = 0; i < kM * kN; ++i) wanted.push_back(double{grid_[i]} + bias_[i % kM]);
    report_.close(name_of("BIAS"), got.d, wanted, limits());
  }

  void run_gelu(bool has_bias) {
    const char* name = has_bias ? "GELU_AUX_BIAS" : "GELU_AUX";
    Product p = product(has_bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX);
    p.aux.resize(kM * kN, -99.0f);
    if (has_bias) p.vector = bias_;
    const Results got = run(p);
    if (!offered(got, name)) return;
    std::vector<double> before;
    for (int i = 0; i < kM * kN; ++i)
      before.push_back(double{grid_[i]} + (has_bias ? double{bias_[i % kM]} : 0));
    report_.close(name_of(name) + ", aux", got.aux, before, limits());
    decide(name, got.d, before, gelu);
  }

  void run_dgelu(cublasLtEpilogue_t epilogue, const char* name) {
    Product p = product(epilogue);
    p.aux = grid_;
    for (float& x : p.a) x = 1;  // the gradient that comes in
    const bool sums = epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD;
    if (sums) p.vector.resize(kM, 0.0f);
    const Results got = run(p);
    if (!offered(got, name)) return;
    const bool tanh_form =
        decide(name, got.d, std::vector<double>(grid_.begin(), grid_.end()), slope);
    if (!sums) return;
    std::vector<double> wanted(kM, 0.0);
    for (int i = 0; i < kM * kN; ++i) wanted[i % kM] += slope(grid_[i], tanh_form);
    // 16 terms of up to 1.13, each perhaps rounded to the type before the sum.
    report_.close(name_of(name) + ", sums", got.vector, wanted,
                  {2 * type_.rounding, kN * (1.2 * type_.rounding + 4e-6)});
  }

  /// Gradients of a bias as sums over k of the factors: of a's columns [m], of b's rows [n].
  void run_input_sums() {
    for (const bool of_b : {false, true}) {
      const char* name = of_b ? "BGRADB" : "BGRADA";
      Product p = product(of_b ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_BGRADA);
      p.vector.resize(of_b ? kN : kM, 0.0f);
      for (int i = 0; i < kN * kN; ++i) p.b[i] = static_cast<float>(i % 13 - 6) / 4;
      const Results got = run(p);
      if (!offered(got, name)) continue;
      std::vector<double> wanted(p.vector.size(), 0.0);
      for (int i = 0; i < (of_b ? kN * kN : kM * kN); ++i)
        wanted[of_b ? i / kN : i % kM] += of_b ? p.b[i] : p.a[i];
      report_.close(name_of(name), got.vector, wanted, {1.01 * type_.rounding, 1e-4});
    }
  }

  /// Which form of GELU the results have: the nearer one. They are held against the tanh form.
  bool decide(const char* name, const std::vector<float>& got, const std::vector<double>& x,
              double (*function)(double, bool)) {
    double error[2] = {};  // the mean, of the erf form and of the tanh form
    std::vector<double> wanted;
    for (size_t i = 0; i < x.size(); ++i) {
      for (const bool tanh_form : {false, true})
        error[tanh_form] += std::abs(got[i] - function(x[i], tanh_form)) / double(x.size());
      wanted.push_back(function(x[i], true));
    }
    const bool tanh_form = error[1] < error[0];
    report_.fact(
        name_of(name) + ", form",
        fmt::format("{}: mean error {:.1e}, of the {} form {:.1e}", tanh_form ? "tanh" : "erf",
                    error[tanh_form], tanh_form ? "erf" : "tanh", error[!tanh_form]));
    report_.close(name_of(name), got, wanted, limits());
    return tanh_form;
  }

  Report& report_;
  Type type_;
  std::vector<float> grid_, bias_;
};

}  // namespace

void run_products(Report& report) {
  for (const Type& type : kTypes) run_whole_numbers(report, type);
  for (const Type& type : kTypes) Epilogues(report, type).run_all();
}

}  // namespace minibert::conformance
