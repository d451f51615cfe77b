// gemm_cublaslt.cpp: GEMM by cuBLASLt, the other choice on device cuda (gemm_choice_cublaslt.cpp).
// The library's matrices are stored by columns, ours by rows, so it computes c^T = op(b)^T op(a)^T:
// our rows are its columns, and a vector along its columns is a bias as we mean it. Of its epilogues:
//   BIAS            in every type.
//   GELU_AUX_BIAS, DGELU, DGELU_BGRAD
//                   for the tanh form of GELU, the only one that the library has, and in f32, where they
//                   keep section 4's contract. In 16 bits GELU would see p before it is rounded, and
//                   column sums would be rounded to 16 bits.
//   residual        the product in E with its bias, then a pass of ours in place (gemm_add_residual).
//   all else        the plain product in f32, then our second pass (gemm_finish_products).
// Row sums are left to column_sum.
// Easy to break: reductions in place are excluded, because their order is not fixed.
// Source: cuBLAS 13 documentation, cublasLtMatmul. Test: ctest -R gemm_cuda.
#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <mutex>
#include <vector>

#include <cublasLt.h>

#include "core/cuda_error.h"
#include "core/cuda_failure.h"
#include "core/kernels/gemm_cuda.h"

namespace minibert {
namespace {

using Epilogue = GemmArgs::Epilogue;

void check(cublasStatus_t status, const char* expression) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  if (status == CUBLAS_STATUS_ALLOC_FAILED)
    fail<OutOfMemory>("cublasLt: {} found no memory", expression);
  // A device that died earlier is what the library most often means.
  const std::string place = place_of_failure(cudaPeekAtLastError());
  fail<InternalError>("cublasLt: {} failed{}: {}", expression, place,
                      cublasLtGetStatusString(status));
}
#define MB_CUBLASLT(expression) check((expression), #expression)

/// One of cuBLASLt's opaque objects, destroyed at the scope's end.
template <typename Handle, cublasStatus_t (*destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle) destroy(handle);
  }
};

/// The library, opened at the first product and open until the process ends.
cublasLtHandle_t library() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t opened = nullptr;
    MB_CUBLASLT(cublasLtCreate(&opened));
    return opened;
  }();
  return handle;
}

cudaDataType_t data_type(DType type) {
  if (type == DType::bf16) return CUDA_R_16BF;
  return type == DType::f16 ? CUDA_R_16F : CUDA_R_32F;
}

/// What the library is asked for: the whole call, or its product in f32 for our second pass.
struct Request {
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  bool whole = true;
};

Request request_of(const GemmArgs& args) {
  const Request product{CUBLASLT_EPILOGUE_DEFAULT, /* whole= */ false};
  if (args.epilogue == Epilogue::none || args.epilogue == Epilogue::residual) {
    if (!args.bias.defined()) return {};
    // A bias in 16 bits for a c in f32 is no combination of the library's.
    return args.c.dtype() == args.a.dtype() ? Request{CUBLASLT_EPILOGUE_BIAS} : product;
  }
  const bool ld_fits = args.c.dim(1) % 8 == 0;  // rule for the leading dimension of aux
  if (args.gelu != Gelu::tanh || args.c.dtype() != DType::f32 || args.a.dtype() != DType::f32 ||
      !ld_fits)
    return product;
  if (args.epilogue == Epilogue::bias_gelu) {
    const bool bias = args.bias.defined(), aux = args.pre_activation.defined();
    if (aux) return {bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX};
    return {bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU};
  }
  if (!args.column_sum.defined()) return {CUBLASLT_EPILOGUE_DGELU};
  return args.accumulate_column_sum ? product : Request{CUBLASLT_EPILOGUE_DGELU_BGRAD};
}

/// The call in the library's terms, with what is needed to run it.
class Matmul {
 public:
  explicit Matmul(const GemmArgs& args) : args_(args), request_(request_of(args)) {
    const auto [M, N, K] = gemm_sizes(args);
    const bool f32 = args.a.dtype() == DType::f32;
    MB_CUBLASLT(cublasLtMatmulDescCreate(
        &operation_.handle, f32 && args.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
        CUDA_R_32F));
    // The library's A is our b, its B our a. As it reads them, both are already transposed once.
    set(CUBLASLT_MATMUL_DESC_TRANSA, args.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, args.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, request_.epilogue);
    if (request_.whole && request_.epilogue != CUBLASLT_EPILOGUE_DEFAULT) set_vectors(N);
    layout(&b_.handle, args.b.dtype(), args.b.dim(0), args.b.dim(1));
    layout(&a_.handle, args.a.dtype(), args.a.dim(0), args.a.dim(1));
    layout(&c_.handle, request_.whole ? args.c.dtype() : DType::f32, M, N);
  }

  bool whole() const { return request_.whole; }

  /// The library's offers, asked for once a form and alignment: the question takes longer than a
  /// small product.
  const std::vector<cublasLtMatmulAlgo_t>& algorithms() const {
    static std::mutex mutex;
    static auto* known = new std::map<Key, std::vector<cublasLtMatmulAlgo_t>>;
    const std::lock_guard lock(mutex);
    const auto [entry, is_new] = known->try_emplace(key());
    if (is_new) entry->second = ask();
    return entry->second;
  }

  void run(const cublasLtMatmulAlgo_t& algorithm, void* c, Stream stream) const {
    const DeviceWorkspace workspace(kWorkspaceBytes);
    const float alpha = 1, beta = request_.whole && args_.accumulate ? 1.0f : 0.0f;
    MB_CUBLASLT(cublasLtMatmul(library(), operation_.handle, &alpha, args_.b.raw(), b_.handle,
                               args_.a.raw(), a_.handle, &beta, c, c_.handle, c, c_.handle,
                               &algorithm, workspace.data<void>(), kWorkspaceBytes,
                               static_cast<cudaStream_t>(stream.handle)));
  }

 private:
  using Key = std::array<int64_t, 12>;
  static constexpr size_t kWorkspaceBytes = 32 << 20;  // what NVIDIA advises for Hopper
  static constexpr int kMostAlgorithms = 4;

  /// All that decides what the library may offer.
  Key key() const {
    const auto [M, N, K] = gemm_sizes(args_);
    int device = 0;
    MB_CUDA(cudaGetDevice(&device));
    const int flags = args_.transpose_a | args_.transpose_b << 1 | args_.tf32 << 2 |
                      args_.accumulate << 3 | request_.whole << 4;
    return {M,
            N,
            K,
            device,
            flags,
            request_.epilogue,
            int64_t(args_.a.dtype()),
            int64_t(args_.c.dtype()),
            alignment_of(args_.a),
            alignment_of(args_.b),
            alignment_of(args_.c),
            alignment_of(args_.pre_activation)};
  }
  std::vector<cublasLtMatmulAlgo_t> ask() const {
    Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> preference;
    MB_CUBLASLT(cublasLtMatmulPreferenceCreate(&preference.handle));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, auto value) {
      MB_CUBLASLT(
          cublasLtMatmulPreferenceSetAttribute(preference.handle, which, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    const uint32_t of_c = request_.whole ? alignment_of(args_.c) : 256;
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(args_.b));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(args_.a));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_c);
    std::array<cublasLtMatmulHeuristicResult_t, kMostAlgorithms> results;
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        library(), operation_.handle, b_.handle, a_.handle, c_.handle, c_.handle, preference.handle,
        kMostAlgorithms, results.data(), &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
    MB_CUBLASLT(status);
    std::vector<cublasLtMatmulAlgo_t> usable;
    for (int i = 0; i < count; ++i)
      if (results[static_cast<size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
        usable.push_back(results[static_cast<size_t>(i)].algo);
    return usable;
  }

  template <typename T>
  void set(cublasLtMatmulDescAttributes_t which, const T& value) {
    MB_CUBLASLT(cublasLtMatmulDescSetAttribute(operation_.handle, which, &value, sizeof value));
  }
  void set_vectors(int64_t N) {
    const void* bias = args_.column_sum.defined() ? args_.column_sum.raw() : args_.bias.raw();
    if (bias) {
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(args_.a.dtype()));
    }
    if (args_.pre_activation.defined()) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, args_.pre_activation.raw());
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, N);
    }
  }
  /// A matrix of ours, [rows, columns], is the library's [columns, rows].
  static void layout(cublasLtMatrixLayout_t* made, DType type, int64_t rows, int64_t columns) {
    MB_CUBLASLT(cublasLtMatrixLayoutCreate(made, data_type(type), static_cast<uint64_t>(columns),
                                           static_cast<uint64_t>(rows), columns));
  }
  static uint32_t alignment_of(const Operand& x) {
    const auto address = reinterpret_cast<uintptr_t>(x.raw());
    return std::min<uint32_t>(256, 1u << std::countr_zero(address | 256));
  }

  GemmArgs args_;
  Request request_;
  Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> operation_;
  Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy> a_, b_, c_;
};

}  // namespace

int gemm_cublaslt_algorithms(const GemmArgs& args) {
  const auto [M, N, K] = gemm_sizes(args);
  if (M == 0 || N == 0 || K == 0) return 0;
  return static_cast<int>(Matmul(args).algorithms().size());
}

void gemm_cublaslt(const GemmArgs& args, Stream stream, int algorithm) {
  const Matmul matmul(args);
  const auto& offers = matmul.algorithms();
  MB_ASSERT(algorithm < static_cast<int>(offers.size()),
            "gemm: cuBLASLt's algorithm {} is asked for, but it offers {}", algorithm,
            offers.size());
  const auto& chosen = offers[static_cast<size_t>(algorithm)];
  gemm_sum_rows_apart(args, stream);
  if (matmul.whole()) {
    matmul.run(chosen, args.c.raw(), stream);
    if (args.epilogue == Epilogue::residual) gemm_add_residual(args, stream);
    return;
  }
  const DeviceWorkspace product(args.c.numel() * static_cast<int64_t>(sizeof(float)));
  matmul.run(chosen, product.data<float>(), stream);
  gemm_finish_products(args, product.data<float>(), 1, stream);
}

std::string gemm_cublaslt_description() {
  const size_t version = cublasLtGetVersion();  // 130100 is 13.1.0
  return fmt::format("cuBLASLt {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace minibert
