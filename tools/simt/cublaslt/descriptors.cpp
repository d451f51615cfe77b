// descriptors.cpp: making, filling and reading descriptors of products, matrices and preferences.
// As in the real library, setting checks the size of a value and nothing else; what makes no sense
// is refused by the product or the heuristic.
#include "tools/simt/cublaslt/descriptors.h"

#include <cstddef>
#include <new>

namespace simt {
namespace {

/// Where an attribute lies in its struct of fields.
struct Attribute {
  int which;
  size_t offset;
  size_t bytes;
};

#define SIMT_FIELD(which, Fields, field) \
  { which, offsetof(Fields, field), sizeof(Fields::field) }
#define SIMT_ELEMENT(which, Fields, field, index)                         \
  {                                                                       \
    which, offsetof(Fields, field) + (index) * sizeof(Fields{}.field[0]), \
        sizeof(Fields{}.field[0])                                         \
  }

constexpr Attribute kMatmulAttributes[] = {
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, MatmulFields, compute_type),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_SCALE_TYPE, MatmulFields, scale_type),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_POINTER_MODE, MatmulFields, pointer_mode),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_TRANSA, MatmulFields, transa),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_TRANSB, MatmulFields, transb),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_TRANSC, MatmulFields, transc),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_FILL_MODE, MatmulFields, fill_mode),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE, MatmulFields, epilogue),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_BIAS_POINTER, MatmulFields, bias),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, MatmulFields, bias_batch_stride),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, MatmulFields, aux),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, MatmulFields, aux_ld),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, MatmulFields, aux_batch_stride),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_ALPHA_VECTOR_BATCH_STRIDE, MatmulFields,
               alpha_vector_batch_stride),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, MatmulFields, sm_count_target),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, MatmulFields, scales, 0),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, MatmulFields, scales, 1),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_C_SCALE_POINTER, MatmulFields, scales, 2),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, MatmulFields, scales, 3),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_POINTER, MatmulFields, scales, 4),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, MatmulFields, maxima, 0),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_AMAX_POINTER, MatmulFields, maxima, 1),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, MatmulFields, aux_type),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_FAST_ACCUM, MatmulFields, fast_accumulation),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, MatmulFields, bias_type),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, MatmulFields, scale_modes, 0),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, MatmulFields, scale_modes, 1),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_C_SCALE_MODE, MatmulFields, scale_modes, 2),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_D_SCALE_MODE, MatmulFields, scale_modes, 3),
    SIMT_ELEMENT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_MODE, MatmulFields, scale_modes, 4),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_D_OUT_SCALE_POINTER, MatmulFields, out_scale),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_D_OUT_SCALE_MODE, MatmulFields, out_scale_mode),
    SIMT_FIELD(CUBLASLT_MATMUL_DESC_EMULATION_DESCRIPTOR, MatmulFields, emulation),
};

constexpr Attribute kLayoutAttributes[] = {
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_TYPE, LayoutFields, type),
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_ORDER, LayoutFields, order),
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_ROWS, LayoutFields, rows),
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_COLS, LayoutFields, cols),
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_LD, LayoutFields, ld),
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, LayoutFields, batch_count),
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, LayoutFields, batch_stride),
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, LayoutFields, plane_offset),
    SIMT_FIELD(CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, LayoutFields, batch_mode),
};

constexpr Attribute kPreferenceAttributes[] = {
    SIMT_FIELD(CUBLASLT_MATMUL_PREF_SEARCH_MODE, PreferenceFields, search_mode),
    SIMT_FIELD(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, PreferenceFields, max_workspace),
    SIMT_FIELD(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, PreferenceFields, reduction_mask),
    SIMT_ELEMENT(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, PreferenceFields, alignments, 0),
    SIMT_ELEMENT(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, PreferenceFields, alignments, 1),
    SIMT_ELEMENT(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, PreferenceFields, alignments, 2),
    SIMT_ELEMENT(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, PreferenceFields, alignments, 3),
    SIMT_FIELD(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, PreferenceFields, max_waves),
    SIMT_FIELD(CUBLASLT_MATMUL_PREF_IMPL_MASK, PreferenceFields, implementation_mask),
};

#undef SIMT_FIELD
#undef SIMT_ELEMENT

template <size_t N>
const Attribute* find(const Attribute (&table)[N], int which) {
  for (const Attribute& attribute : table)
    if (attribute.which == which) return &attribute;
  return nullptr;
}

template <typename Opaque>
cublasStatus_t set(Opaque* opaque, const Attribute* attribute, const void* value, size_t bytes) {
  if (!opaque || !attribute || !value || bytes != attribute->bytes)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(reinterpret_cast<std::byte*>(opaque) + attribute->offset, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename Opaque>
cublasStatus_t get(const Opaque* opaque, const Attribute* attribute, void* value, size_t bytes,
                   size_t* written) {
  if (!opaque || !attribute) return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes == 0) {  // asks for the size
    if (!written) return CUBLAS_STATUS_INVALID_VALUE;
  } else {
    if (!value || bytes != attribute->bytes) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(value, reinterpret_cast<const std::byte*>(opaque) + attribute->offset, bytes);
  }
  if (written) *written = attribute->bytes;
  return CUBLAS_STATUS_SUCCESS;
}

template <typename Opaque, typename Fields>
cublasStatus_t initialise(Opaque* opaque, size_t bytes, const Fields& fields) {
  if (!opaque) return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes < sizeof(Opaque)) return CUBLAS_STATUS_ALLOC_FAILED;
  *opaque = {};
  store(opaque, fields);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename Opaque, typename Fields>
cublasStatus_t create(Opaque** opaque, const Fields& fields) {
  if (!opaque) return CUBLAS_STATUS_INVALID_VALUE;
  *opaque = new Opaque;
  return initialise(*opaque, sizeof(Opaque), fields);
}

MatmulFields matmul_fields(cublasComputeType_t compute_type, cudaDataType_t scale_type) {
  MatmulFields fields;
  fields.compute_type = compute_type;
  fields.scale_type = scale_type;
  return fields;
}

LayoutFields layout_fields(cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld) {
  LayoutFields fields;
  fields.type = type;
  fields.rows = rows;
  fields.cols = cols;
  fields.ld = ld;
  return fields;
}

}  // namespace
}  // namespace simt

// ---- Products ----------------------------------------------------------------------------------
cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t descriptor, size_t bytes,
                                               cublasComputeType_t compute_type,
                                               cudaDataType_t scale_type) {
  return simt::initialise(descriptor, bytes, simt::matmul_fields(compute_type, scale_type));
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* descriptor,
                                        cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
  return simt::create(descriptor, simt::matmul_fields(compute_type, scale_type));
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t descriptor) {
  delete descriptor;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatmulDescAttributes_t which,
                                              const void* value, size_t bytes) {
  return simt::set(descriptor, simt::find(simt::kMatmulAttributes, which), value, bytes);
}

cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatmulDescAttributes_t which, void* value,
                                              size_t bytes, size_t* written) {
  return simt::get(descriptor, simt::find(simt::kMatmulAttributes, which), value, bytes, written);
}

// ---- Matrices ----------------------------------------------------------------------------------
cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
  return simt::initialise(layout, bytes, simt::layout_fields(type, rows, cols, ld));
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  return simt::create(layout, simt::layout_fields(type, rows, cols, ld));
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t which,
                                                const void* value, size_t bytes) {
  return simt::set(layout, simt::find(simt::kLayoutAttributes, which), value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t which, void* value,
                                                size_t bytes, size_t* written) {
  return simt::get(layout, simt::find(simt::kLayoutAttributes, which), value, bytes, written);
}

// ---- Preferences -------------------------------------------------------------------------------
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t bytes) {
  return simt::initialise(preference, bytes, simt::PreferenceFields{});
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return simt::create(preference, simt::PreferenceFields{});
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    const void* value, size_t bytes) {
  return simt::set(preference, simt::find(simt::kPreferenceAttributes, which), value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    void* value, size_t bytes, size_t* written) {
  return simt::get(preference, simt::find(simt::kPreferenceAttributes, which), value, bytes,
                   written);
}
