// cublaslt_descriptor_test.cpp: descriptors store what is set, and answer as the real library does.
// The real one needs no GPU for descriptors: every attribute, every size, null arguments and
// defaults are asked of both.
#include <algorithm>
#include <array>
#include <string>

#include <cublasLt.h>

#include "tests/tools/simt/real_library.h"

namespace simt {
namespace {

using Bytes = std::array<unsigned char, 64>;

/// What a library says of one attribute and size: defaults, statuses and bytes written.
template <typename Handle, typename Which>
struct Functions {
  cublasStatus_t (*set)(Handle, Which, const void*, size_t);
  cublasStatus_t (*get)(Handle, Which, void*, size_t, size_t*);
};

template <typename Handle, typename Which>
std::string answers(const Functions<Handle, Which>& f, Handle handle, int attribute, size_t bytes) {
  const auto which = static_cast<Which>(attribute);
  Bytes value{};
  size_t written = 777;
  const auto note = [](const char* what, size_t number) {
    return std::string(what) + " " + std::to_string(number) + "; ";
  };
  std::string log = note("get", f.get(handle, which, value.data(), bytes, &written));
  log += note("written", written) + "value ";
  for (size_t i = 0; i < bytes; ++i) log += std::to_string(value[i]) + " ";
  log += note("; get without count", f.get(handle, which, value.data(), bytes, nullptr));
  log += note("get into null", f.get(handle, which, nullptr, bytes, &written));
  log += note("set null", f.set(handle, which, nullptr, bytes));
  Bytes other{};
  for (size_t i = 0; i < other.size(); ++i) other[i] = static_cast<unsigned char>(i + 1);
  log += note("set", f.set(handle, which, other.data(), bytes));
  f.get(handle, which, value.data(), bytes, &written);
  log += "then ";
  for (size_t i = 0; i < bytes; ++i) log += std::to_string(value[i]) + " ";
  return log;
}

// Attribute 16 is in no header, but the real library knows it.
bool documented(int attribute) {
  return attribute != 16;
}

template <typename Handle, typename Which>
void expect_same(const Functions<Handle, Which>& ours, Handle our_handle,
                 const Functions<Handle, Which>& theirs, Handle their_handle, int attributes) {
  for (int attribute = 0; attribute < attributes; ++attribute) {
    if (!documented(attribute)) continue;
    for (size_t bytes : {0, 1, 2, 4, 8, 16})
      EXPECT_EQ(answers(theirs, their_handle, attribute, bytes),
                answers(ours, our_handle, attribute, bytes))
          << "attribute " << attribute << ", " << bytes << " bytes";
  }
}

TEST(CublasLtDescriptor, MatmulAttributesAreTheRealOnes) {
  const RealLibrary real("MINIBERT_REAL_CUBLASLT");
  if (!real.found()) GTEST_SKIP() << "libcublasLt is not installed";
  cublasLtMatmulDesc_t ours = nullptr, theirs = nullptr;
  const auto create = SIMT_REAL(real, cublasLtMatmulDescCreate);
  ASSERT_EQ(create(&theirs, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F),
            cublasLtMatmulDescCreate(&ours, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F));
  const Functions<cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t>
      our_functions = {cublasLtMatmulDescSetAttribute, cublasLtMatmulDescGetAttribute},
      their_functions = {SIMT_REAL(real, cublasLtMatmulDescSetAttribute),
                         SIMT_REAL(real, cublasLtMatmulDescGetAttribute)};
  expect_same(our_functions, ours, their_functions, theirs, 45);
  EXPECT_EQ(SIMT_REAL(real, cublasLtMatmulDescDestroy)(theirs), cublasLtMatmulDescDestroy(ours));
}

TEST(CublasLtDescriptor, LayoutAttributesAreTheRealOnes) {
  const RealLibrary real("MINIBERT_REAL_CUBLASLT");
  if (!real.found()) GTEST_SKIP() << "libcublasLt is not installed";
  cublasLtMatrixLayout_t ours = nullptr, theirs = nullptr;
  const auto create = SIMT_REAL(real, cublasLtMatrixLayoutCreate);
  ASSERT_EQ(create(&theirs, CUDA_R_16BF, 4, 5, 6),
            cublasLtMatrixLayoutCreate(&ours, CUDA_R_16BF, 4, 5, 6));
  const Functions<cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t>
      our_functions = {cublasLtMatrixLayoutSetAttribute, cublasLtMatrixLayoutGetAttribute},
      their_functions = {SIMT_REAL(real, cublasLtMatrixLayoutSetAttribute),
                         SIMT_REAL(real, cublasLtMatrixLayoutGetAttribute)};
  expect_same(our_functions, ours, their_functions, theirs, 12);
  EXPECT_EQ(SIMT_REAL(real, cublasLtMatrixLayoutDestroy)(theirs),
            cublasLtMatrixLayoutDestroy(ours));
}

TEST(CublasLtDescriptor, PreferenceAttributesAreTheRealOnes) {
  const RealLibrary real("MINIBERT_REAL_CUBLASLT");
  if (!real.found()) GTEST_SKIP() << "libcublasLt is not installed";
  cublasLtMatmulPreference_t ours = nullptr, theirs = nullptr;
  ASSERT_EQ(SIMT_REAL(real, cublasLtMatmulPreferenceCreate)(&theirs),
            cublasLtMatmulPreferenceCreate(&ours));
  const Functions<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t>
      our_functions = {cublasLtMatmulPreferenceSetAttribute, cublasLtMatmulPreferenceGetAttribute},
      their_functions = {SIMT_REAL(real, cublasLtMatmulPreferenceSetAttribute),
                         SIMT_REAL(real, cublasLtMatmulPreferenceGetAttribute)};
  expect_same(our_functions, ours, their_functions, theirs, 16);
  EXPECT_EQ(SIMT_REAL(real, cublasLtMatmulPreferenceDestroy)(theirs),
            cublasLtMatmulPreferenceDestroy(ours));
}

TEST(CublasLtDescriptor, KeepsWhatIsSet) {
  cublasLtMatmulDesc_t descriptor = nullptr;
  ASSERT_EQ(CUBLAS_STATUS_SUCCESS,
            cublasLtMatmulDescCreate(&descriptor, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasLtEpilogue_t wanted = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  ASSERT_EQ(CUBLAS_STATUS_SUCCESS,
            cublasLtMatmulDescSetAttribute(descriptor, CUBLASLT_MATMUL_DESC_EPILOGUE, &wanted,
                                           sizeof wanted));
  cublasLtEpilogue_t found{};
  size_t written = 0;
  EXPECT_EQ(CUBLAS_STATUS_SUCCESS,
            cublasLtMatmulDescGetAttribute(descriptor, CUBLASLT_MATMUL_DESC_EPILOGUE, &found,
                                           sizeof found, &written));
  EXPECT_EQ(wanted, found);
  EXPECT_EQ(sizeof found, written);
  cublasLtMatmulDescDestroy(descriptor);
}

TEST(CublasLtDescriptor, InitialisesTheCallersStorage) {
  cublasLtMatrixLayoutOpaque_t layout;
  std::fill(std::begin(layout.data), std::end(layout.data), ~uint64_t{0});
  ASSERT_EQ(CUBLAS_STATUS_SUCCESS, cublasLtMatrixLayoutInit(&layout, CUDA_R_16F, 3, 4, 5));
  const auto number = [&](cublasLtMatrixLayoutAttribute_t which, size_t bytes) {
    int64_t value = 0;
    EXPECT_EQ(CUBLAS_STATUS_SUCCESS,
              cublasLtMatrixLayoutGetAttribute(&layout, which, &value, bytes, nullptr));
    return value;
  };
  EXPECT_EQ(CUDA_R_16F, number(CUBLASLT_MATRIX_LAYOUT_TYPE, 4));
  EXPECT_EQ(3, number(CUBLASLT_MATRIX_LAYOUT_ROWS, 8));
  EXPECT_EQ(4, number(CUBLASLT_MATRIX_LAYOUT_COLS, 8));
  EXPECT_EQ(5, number(CUBLASLT_MATRIX_LAYOUT_LD, 8));
  EXPECT_EQ(1, number(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 4));
  EXPECT_EQ(CUBLAS_STATUS_ALLOC_FAILED,
            cublasLtMatrixLayoutInit_internal(&layout, sizeof(layout) - 1, CUDA_R_16F, 3, 4, 5));
}

}  // namespace
}  // namespace simt
