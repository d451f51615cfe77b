// cublaslt_refusal_test.cpp: what cuBLASLt must refuse, with which status, and what the heuristic
// offers. Each case changes one thing of a product that works, so it is that thing that is refused.
#include <functional>

#include "tests/tools/simt/product_support.h"

namespace simt {
namespace {

/// A product of [8, 16] and [16, 24] in bf16 that works, with a place for every argument.
struct Working {
  Descriptor descriptor;
  Layout a{CUDA_R_16BF, 8, 16, 8}, b{CUDA_R_16BF, 16, 24, 16}, c{CUDA_R_16BF, 8, 24, 8},
      d{CUDA_R_16BF, 8, 24, 8};
  OnDevice<__nv_bfloat16> a_data{8 * 16}, b_data{16 * 24}, c_data{8 * 24}, d_data{8 * 24}, bias{24},
      aux{8 * 24};
  OnDevice<float> workspace{8 * 24};
  const void* a_pointer = a_data.get();
  const void* b_pointer = b_data.get();
  const void* c_pointer = c_data.get();
  void* d_pointer = d_data.get();
  void* workspace_pointer = workspace.get();
  size_t workspace_bytes = workspace.bytes();
  float alpha = 1, beta = 0;
  const float* alpha_pointer = &alpha;
  const float* beta_pointer = &beta;
  const cublasLtMatmulAlgo_t* algo = nullptr;
  Preference preference{8 * 24 * 4};

  cublasStatus_t run(cublasLtHandle_t handle) {
    return cublasLtMatmul(handle, descriptor, alpha_pointer, a_pointer, a, b_pointer, b,
                          beta_pointer, c_pointer, c, d_pointer, d, algo, workspace_pointer,
                          workspace_bytes, nullptr);
  }
  cublasStatus_t ask(cublasLtHandle_t handle, std::vector<cublasLtMatmulHeuristicResult_t>* results,
                     int count = 4) {
    results->resize(count);
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, descriptor, a, b, c, d, preference, count, results->data(), &found);
    results->resize(status == CUBLAS_STATUS_SUCCESS ? found : 0);
    return status;
  }
  void use(int epilogue) { descriptor.set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue); }
  void set_bias(const void* pointer) { descriptor.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointer); }
  void set_aux(const void* pointer, int64_t ld) {
    descriptor.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pointer);
    descriptor.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld);
  }
};

class CublasLtRefusal : public CublasLt {
 protected:
  /// Refused by product and heuristic alike, after the change and only then.
  void expect_refused(cublasStatus_t wanted, const char* what,
                      const std::function<void(Working&)>& change) {
    Working w;
    ASSERT_EQ(CUBLAS_STATUS_SUCCESS, w.run(handle_));
    change(w);
    std::vector<cublasLtMatmulHeuristicResult_t> results;
    EXPECT_EQ(wanted, w.run(handle_)) << what;
    EXPECT_EQ(wanted, w.ask(handle_, &results)) << what;
    ASSERT_OK(cudaDeviceSynchronize());
  }
  /// Refused by the product, for what the heuristic can't see.
  void expect_call_refused(cublasStatus_t wanted, const char* what,
                           const std::function<void(Working&)>& change) {
    Working w;
    ASSERT_EQ(CUBLAS_STATUS_SUCCESS, w.run(handle_));
    change(w);
    EXPECT_EQ(wanted, w.run(handle_)) << what;
    ASSERT_OK(cudaDeviceSynchronize());
  }
};

constexpr auto kInvalid = CUBLAS_STATUS_INVALID_VALUE;
constexpr auto kUnsupported = CUBLAS_STATUS_NOT_SUPPORTED;

TEST_F(CublasLtRefusal, ShapesThatDoNotMatch) {
  expect_refused(kInvalid, "k differs",
                 [](Working& w) { w.b.set(CUBLASLT_MATRIX_LAYOUT_ROWS, uint64_t{15}); });
  expect_refused(kInvalid, "C has other rows",
                 [](Working& w) { w.c.set(CUBLASLT_MATRIX_LAYOUT_ROWS, uint64_t{7}); });
  expect_refused(kInvalid, "D has other columns",
                 [](Working& w) { w.d.set(CUBLASLT_MATRIX_LAYOUT_COLS, uint64_t{23}); });
  expect_refused(kInvalid, "A is transposed",
                 [](Working& w) { w.descriptor.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T); });
  expect_refused(kInvalid, "a size of 0", [](Working& w) {
    w.a.set(CUBLASLT_MATRIX_LAYOUT_COLS, uint64_t{0});
    w.b.set(CUBLASLT_MATRIX_LAYOUT_ROWS, uint64_t{0});
  });
}

TEST_F(CublasLtRefusal, LeadingDimensionsThatAreTooSmall) {
  expect_refused(kInvalid, "columns",
                 [](Working& w) { w.a.set(CUBLASLT_MATRIX_LAYOUT_LD, int64_t{7}); });
  expect_refused(kInvalid, "rows",
                 [](Working& w) { w.b.set(CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_ROW); });
}

TEST_F(CublasLtRefusal, TypesOutsideTheTable) {
  expect_refused(kUnsupported, "A and B differ",
                 [](Working& w) { w.a.set(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16F); });
  expect_refused(kUnsupported, "C and D differ",
                 [](Working& w) { w.c.set(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_32F); });
  expect_refused(kUnsupported, "bf16 in, f16 out", [](Working& w) {
    w.c.set(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16F);
    w.d.set(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16F);
  });
  expect_refused(kUnsupported, "f32 in, bf16 out", [](Working& w) {
    w.a.set(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_32F);
    w.b.set(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_32F);
  });
  expect_refused(kUnsupported, "f64", [](Working& w) {
    for (Layout* x : {&w.a, &w.b, &w.c, &w.d}) x->set(CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_64F);
  });
  expect_refused(kUnsupported, "TF32 of bf16", [](Working& w) {
    w.descriptor.set(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_32F_FAST_TF32);
  });
  expect_refused(kUnsupported, "sums in f16", [](Working& w) {
    w.descriptor.set(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_16F);
  });
  expect_refused(kUnsupported, "alpha in f16",
                 [](Working& w) { w.descriptor.set(CUBLASLT_MATMUL_DESC_SCALE_TYPE, CUDA_R_16F); });
}

TEST_F(CublasLtRefusal, OperationsThatAreNotThere) {
  expect_refused(kUnsupported, "conjugate",
                 [](Working& w) { w.descriptor.set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_C); });
  expect_refused(kUnsupported, "C transposed",
                 [](Working& w) { w.descriptor.set(CUBLASLT_MATMUL_DESC_TRANSC, CUBLAS_OP_T); });
  expect_refused(kUnsupported, "ReLU", [](Working& w) { w.use(CUBLASLT_EPILOGUE_RELU); });
  expect_refused(kUnsupported, "no epilogue of this number", [](Working& w) { w.use(0); });
  expect_refused(kUnsupported, "vector of alphas", [](Working& w) {
    w.descriptor.set(CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE_VECTOR);
  });
  expect_refused(kUnsupported, "tiled order",
                 [](Working& w) { w.a.set(CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_COL32); });
  expect_refused(kInvalid, "scales of 8-bit formats", [](Working& w) {
    w.descriptor.set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, w.workspace_pointer);
  });
}

TEST_F(CublasLtRefusal, BatchesThatDoNotMatch) {
  expect_refused(kInvalid, "counts differ", [](Working& w) { w.a.set_batches(2, 8 * 16); });
  expect_refused(kInvalid, "no batch", [](Working& w) {
    for (Layout* x : {&w.a, &w.b, &w.c, &w.d}) x->set_batches(0, 0);
  });
  expect_refused(kInvalid, "batches of D overlap", [](Working& w) {
    for (Layout* x : {&w.a, &w.b, &w.c}) x->set_batches(2, 0);
    w.d.set_batches(2, 8 * 24 - 1);
  });
}

TEST_F(CublasLtRefusal, BiasMissingOrOfAnotherType) {
  for (int epilogue : {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_BIAS,
                       CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB})
    expect_refused(kInvalid, "no bias", [&](Working& w) { w.use(epilogue); });
  expect_refused(kInvalid, "odd address", [](Working& w) {
    w.use(CUBLASLT_EPILOGUE_BIAS);
    w.set_bias(reinterpret_cast<std::byte*>(w.bias.get()) + 1);
  });
  expect_refused(kUnsupported, "bias in f32 for a result in bf16", [](Working& w) {
    w.use(CUBLASLT_EPILOGUE_BIAS);
    w.set_bias(w.bias.get());
    w.descriptor.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
  });
  expect_refused(kInvalid, "gradients of two batches in one place", [](Working& w) {
    w.use(CUBLASLT_EPILOGUE_BGRADB);
    w.set_bias(w.bias.get());
    for (Layout* x : {&w.a, &w.b, &w.c}) x->set_batches(2, 0);
    w.d.set_batches(2, 8 * 24);
  });
}

TEST_F(CublasLtRefusal, AuxiliaryMatrixMissingOrMisplaced) {
  for (int epilogue : {CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_DGELU})
    expect_refused(kInvalid, "no pointer", [&](Working& w) { w.use(epilogue); });
  const auto with_aux = [](const char*, int64_t ld, int bytes) {
    return [ld, bytes](Working& w) {
      w.use(CUBLASLT_EPILOGUE_GELU_AUX);
      w.set_aux(reinterpret_cast<std::byte*>(w.aux.get()) + bytes, ld);
    };
  };
  expect_refused(CUBLAS_STATUS_SUCCESS, "as it should be", with_aux("", 8, 0));
  expect_refused(kInvalid, "leading dimension unset", with_aux("", 0, 0));
  expect_refused(kInvalid, "leading dimension no multiple of 8", with_aux("", 12, 0));
  expect_refused(kInvalid, "not at 16 bytes", with_aux("", 8, 8));
  expect_refused(kInvalid, "another type than D's", [](Working& w) {
    w.use(CUBLASLT_EPILOGUE_GELU_AUX);
    w.set_aux(w.aux.get(), 8);
    w.descriptor.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, CUDA_R_32F);
  });
}

TEST_F(CublasLtRefusal, PointersThatAreNullOrUnaligned) {
  expect_call_refused(kInvalid, "A", [](Working& w) { w.a_pointer = nullptr; });
  expect_call_refused(kInvalid, "B", [](Working& w) { w.b_pointer = nullptr; });
  expect_call_refused(kInvalid, "C", [](Working& w) { w.c_pointer = nullptr; });
  expect_call_refused(kInvalid, "D", [](Working& w) { w.d_pointer = nullptr; });
  expect_call_refused(kInvalid, "alpha", [](Working& w) { w.alpha_pointer = nullptr; });
  expect_call_refused(kInvalid, "beta", [](Working& w) { w.beta_pointer = nullptr; });
  expect_call_refused(kInvalid, "odd address", [](Working& w) {
    w.a_pointer = reinterpret_cast<const std::byte*>(w.a_pointer) + 1;
  });
  expect_call_refused(kInvalid, "C is D in another layout", [](Working& w) {
    w.c.set(CUBLASLT_MATRIX_LAYOUT_LD, int64_t{16});
    w.c_pointer = w.d_pointer;
  });
}

TEST_F(CublasLtRefusal, HeuristicOffersWhatAlignmentAndWorkspaceAllow) {
  const auto ids = [&](Working& w) {
    std::vector<cublasLtMatmulHeuristicResult_t> results;
    EXPECT_STATUS(SUCCESS, w.ask(handle_, &results));
    std::vector<int> found;
    for (const auto& result : results) {
      int id = 0;
      EXPECT_STATUS(SUCCESS, cublasLtMatmulAlgoConfigGetAttribute(
                                 &result.algo, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, nullptr));
      found.push_back(result.state == CUBLAS_STATUS_SUCCESS ? id : -1);
    }
    return found;
  };
  Working w;
  EXPECT_EQ((std::vector<int>{1, 2, 3, -1}), ids(w)) << "the last is no algorithm: read state";
  w.preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{8 * 24 * 4 - 1});
  EXPECT_EQ((std::vector<int>{1, 3, -1}), ids(w));
  w.preference.set_alignments(8);
  EXPECT_EQ((std::vector<int>{3, -1}), ids(w));
  Working odd;  // A leading dimension of 18 bytes
  odd.d.set(CUBLASLT_MATRIX_LAYOUT_LD, int64_t{9});
  EXPECT_EQ((std::vector<int>{3, -1}), ids(odd));
  std::vector<cublasLtMatmulHeuristicResult_t> one;
  EXPECT_STATUS(SUCCESS, w.ask(handle_, &one, 1));
  EXPECT_EQ(1u, one.size());
  EXPECT_STATUS(SUCCESS, one[0].state);
}

TEST_F(CublasLtRefusal, AlgorithmsWhoseNeedsAreNotMet) {
  Working w;
  std::vector<cublasLtMatmulHeuristicResult_t> found;
  ASSERT_EQ(CUBLAS_STATUS_SUCCESS, w.ask(handle_, &found));
  ASSERT_EQ(4u, found.size());
  EXPECT_EQ(size_t{8 * 24 * 4}, found[1].workspaceSize);

  w.algo = &found[1].algo;
  EXPECT_STATUS(SUCCESS, w.run(handle_));
  w.workspace_bytes -= 1;
  EXPECT_STATUS(INVALID_VALUE, w.run(handle_)) << "a byte too few";
  w.workspace_bytes += 1;
  w.workspace_pointer = nullptr;
  EXPECT_STATUS(INVALID_VALUE, w.run(handle_));
  w.algo = &found[0].algo;
  EXPECT_STATUS(SUCCESS, w.run(handle_)) << "it needs none";

  w.a_pointer = w.a_data.get() + 1;  // 2 bytes further, where the last algorithm alone may read
  EXPECT_STATUS(INVALID_VALUE, w.run(handle_));
  w.a_pointer = w.a_data.get();
  w.algo = &found[3].algo;
  EXPECT_STATUS(NOT_SUPPORTED, w.run(handle_)) << "an entry whose state is no success";
  const cublasLtMatmulAlgo_t nothing{};
  w.algo = &nothing;
  EXPECT_STATUS(INVALID_VALUE, w.run(handle_));
}

TEST_F(CublasLtRefusal, CheckTellsWhatTheHeuristicTold) {
  Working w;
  std::vector<cublasLtMatmulHeuristicResult_t> found;
  ASSERT_EQ(CUBLAS_STATUS_SUCCESS, w.ask(handle_, &found));
  cublasLtMatmulHeuristicResult_t result{};
  EXPECT_STATUS(SUCCESS, cublasLtMatmulAlgoCheck(handle_, w.descriptor, w.a, w.b, w.c, w.d,
                                                 &found[1].algo, &result));
  EXPECT_EQ(found[1].workspaceSize, result.workspaceSize);
  EXPECT_STATUS(NOT_SUPPORTED, cublasLtMatmulAlgoCheck(handle_, w.descriptor, w.a, w.b, w.c, w.d,
                                                       &found[3].algo, &result));
  w.d.set(CUBLASLT_MATRIX_LAYOUT_LD, int64_t{9});
  EXPECT_STATUS(NOT_SUPPORTED, cublasLtMatmulAlgoCheck(handle_, w.descriptor, w.a, w.b, w.c, w.d,
                                                       &found[0].algo, &result));
}

TEST_F(CublasLtRefusal, EverythingWhenTold) {
  Working w;
  std::vector<cublasLtMatmulHeuristicResult_t> results;
  set_cublaslt_refuses(true);
  EXPECT_STATUS(NOT_SUPPORTED, w.ask(handle_, &results));
  EXPECT_STATUS(NOT_SUPPORTED, w.run(handle_));
  set_cublaslt_refuses(false);
  EXPECT_STATUS(SUCCESS, w.run(handle_));
}

TEST_F(CublasLtRefusal, InjectedErrorsComeOnceAtTheirCall) {
  Working w;
  fail_call("cublasLtMatmul", 2);
  EXPECT_STATUS(SUCCESS, w.run(handle_));
  EXPECT_STATUS(EXECUTION_FAILED, w.run(handle_));
  EXPECT_STATUS(SUCCESS, w.run(handle_));
  fail_call("cublasLtCreate", 1);
  cublasLtHandle_t other = nullptr;
  EXPECT_STATUS(NOT_INITIALIZED, cublasLtCreate(&other));
  fail_call("device/cublasLtMatmul", 1);
  EXPECT_STATUS(SUCCESS, w.run(handle_)) << "a fault of the device shows later";
  EXPECT_CUDA(cudaErrorLaunchFailure, cudaDeviceSynchronize());
  EXPECT_STATUS(EXECUTION_FAILED, w.run(handle_));
}

TEST_F(CublasLtRefusal, HandlesThatAreNone) {
  Working w;
  EXPECT_STATUS(NOT_INITIALIZED, w.run(nullptr));
  cublasLtHandle_t gone = nullptr;
  ASSERT_EQ(CUBLAS_STATUS_SUCCESS, cublasLtCreate(&gone));
  EXPECT_STATUS(SUCCESS, cublasLtDestroy(gone));
  EXPECT_STATUS(NOT_INITIALIZED, w.run(gone));
  EXPECT_STATUS(INVALID_VALUE, cublasLtCreate(nullptr));
  DeviceModel none;
  none.devices = 0;
  set_device_model(none);
  EXPECT_STATUS(NOT_INITIALIZED, cublasLtCreate(&gone));
}

TEST_F(CublasLtRefusal, MatricesOutsideDeviceMemoryAreAFault) {
  const std::vector<std::function<void(Working&)>> mistakes = {
      [](Working& w) { w.a_pointer = w.a_data.get() + 8; },  // the last column is outside
      [](Working& w) {
        alignas(16) static __nv_bfloat16 on_host[8 * 16];
        w.a_pointer = on_host;
      },
      [](Working& w) {  // a bias of 8 elements where 24 are written
        w.use(CUBLASLT_EPILOGUE_BGRADB);
        w.set_bias(w.bias.get() + 8);
      }};
  for (const auto& mistake : mistakes) {
    Working w;
    mistake(w);
    EXPECT_STATUS(SUCCESS, w.run(handle_));
    EXPECT_CUDA(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    cudaDeviceReset();
  }
}

}  // namespace
}  // namespace simt
