// product_support.h: descriptors with lifetimes, and typed matrices, for the tests of cuBLASLt.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tests/tools/simt/support.h"

#define EXPECT_STATUS(wanted, expression) \
  EXPECT_EQ(CUBLAS_STATUS_##wanted, expression) << #expression

namespace simt {

// ---- Types -------------------------------------------------------------------------------------
inline std::vector<std::byte> encode(cudaDataType_t type, const std::vector<float>& values) {
  const size_t size = type == CUDA_R_32F ? 4 : 2;
  std::vector<std::byte> bytes(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const __half half = __float2half_rn(values[i]);
    const __nv_bfloat16 bfloat = __float2bfloat16_rn(values[i]);
    const void* source = &values[i];
    if (type == CUDA_R_16F) source = &half;
    if (type == CUDA_R_16BF) source = &bfloat;
    std::memcpy(&bytes[i * size], source, size);
  }
  return bytes;
}

inline std::vector<float> decode(cudaDataType_t type, const std::vector<std::byte>& bytes) {
  const size_t size = type == CUDA_R_32F ? 4 : 2;
  std::vector<float> values(bytes.size() / size);
  for (size_t i = 0; i < values.size(); ++i) {
    __half half;
    __nv_bfloat16 bfloat;
    if (type == CUDA_R_32F) std::memcpy(&values[i], &bytes[i * size], 4);
    if (type == CUDA_R_16F) std::memcpy(&half, &bytes[i * size], 2), values[i] = __half2float(half);
    if (type == CUDA_R_16BF)
      std::memcpy(&bfloat, &bytes[i * size], 2), values[i] = __bfloat162float(bfloat);
  }
  return values;
}

inline const char* name_of(cudaDataType_t type) {
  return type == CUDA_R_32F ? "f32" : type == CUDA_R_16F ? "f16" : "bf16";
}

/// Half a unit in the last place, relative: the error of one rounding.
inline double rounding_of(cudaDataType_t type) {
  return type == CUDA_R_32F ? 0x1p-24 : type == CUDA_R_16F ? 0x1p-11 : 0x1p-8;
}

// ---- Descriptors -------------------------------------------------------------------------------
class Descriptor {
 public:
  explicit Descriptor(cublasComputeType_t compute_type = CUBLAS_COMPUTE_32F) {
    EXPECT_STATUS(SUCCESS, cublasLtMatmulDescCreate(&handle_, compute_type, CUDA_R_32F));
  }
  ~Descriptor() { cublasLtMatmulDescDestroy(handle_); }
  Descriptor(const Descriptor&) = delete;
  template <typename T>
  void set(cublasLtMatmulDescAttributes_t which, const T& value) {
    EXPECT_STATUS(SUCCESS, cublasLtMatmulDescSetAttribute(handle_, which, &value, sizeof value));
  }
  operator cublasLtMatmulDesc_t() const { return handle_; }

 private:
  cublasLtMatmulDesc_t handle_ = nullptr;
};

class Layout {
 public:
  Layout(cudaDataType_t type, int64_t rows, int64_t cols, int64_t ld, bool row_major = false) {
    EXPECT_STATUS(SUCCESS, cublasLtMatrixLayoutCreate(&handle_, type, rows, cols, ld));
    if (row_major) set(CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_ROW);
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(handle_); }
  Layout(const Layout&) = delete;
  template <typename T>
  void set(cublasLtMatrixLayoutAttribute_t which, const T& value) {
    EXPECT_STATUS(SUCCESS, cublasLtMatrixLayoutSetAttribute(handle_, which, &value, sizeof value));
  }
  void set_batches(int32_t count, int64_t stride) {
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }
  operator cublasLtMatrixLayout_t() const { return handle_; }

 private:
  cublasLtMatrixLayout_t handle_ = nullptr;
};

class Preference {
 public:
  explicit Preference(uint64_t workspace = 0) {
    EXPECT_STATUS(SUCCESS, cublasLtMatmulPreferenceCreate(&handle_));
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  }
  ~Preference() { cublasLtMatmulPreferenceDestroy(handle_); }
  Preference(const Preference&) = delete;
  template <typename T>
  void set(cublasLtMatmulPreferenceAttributes_t which, const T& value) {
    EXPECT_STATUS(SUCCESS,
                  cublasLtMatmulPreferenceSetAttribute(handle_, which, &value, sizeof value));
  }
  void set_alignments(uint32_t bytes) {
    for (auto which :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      set(which, bytes);
  }
  operator cublasLtMatmulPreference_t() const { return handle_; }

 private:
  cublasLtMatmulPreference_t handle_ = nullptr;
};

/// A fresh device with a handle.
class CublasLt : public FreshDevice {
 protected:
  CublasLt() { EXPECT_STATUS(SUCCESS, cublasLtCreate(&handle_)); }
  ~CublasLt() override { cublasLtDestroy(handle_); }
  cublasLtHandle_t handle_ = nullptr;
};

// ---- Values ------------------------------------------------------------------------------------
/// Values of order 1 that this type holds exactly.
inline std::vector<float> random_values(size_t count, cudaDataType_t type, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return decode(type, encode(type, values));
}

}  // namespace simt
