// descriptors.cpp: making, filling and reading descriptors of products, matrices and preferences.
// As in the real library, setting checks the size of a value and nothing else; what makes no sense
// is refused by the product or the heuristic.
#include "tools/simt/cublaslt/descriptors.h"

#include <cstddef>
#include <new>

#include "tools/simt/cublaslt/handle.h"

namespace simt {
namespace {

/// Where an attribute lies in its struct of fields.
struct Attribute {
  int which;
  size_t offset;
  size_t bytes;
};

/// `field` may be an element of an array: scales[2].
#define SIMT_ATTRIBUTE(which, Fields, field) \
  { which, offsetof(Fields, field), sizeof(Fields{}.field) }
#define SIMT_DESC(which, field) SIMT_ATTRIBUTE(CUBLASLT_MATMUL_DESC_##which, MatmulFields, field)
#define SIMT_LAYOUT(which, field) \
  SIMT_ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_##which, LayoutFields, field)
#define SIMT_PREF(which, field) \
  SIMT_ATTRIBUTE(CUBLASLT_MATMUL_PREF_##which, PreferenceFields, field)

constexpr Attribute kMatmulAttributes[] = {
    SIMT_DESC(COMPUTE_TYPE, compute_type),
    SIMT_DESC(SCALE_TYPE, scale_type),
    SIMT_DESC(POINTER_MODE, pointer_mode),
    SIMT_DESC(TRANSA, transa),
    SIMT_DESC(TRANSB, transb),
    SIMT_DESC(TRANSC, transc),
    SIMT_DESC(FILL_MODE, fill_mode),
    SIMT_DESC(EPILOGUE, epilogue),
    SIMT_DESC(BIAS_POINTER, bias),
    SIMT_DESC(BIAS_BATCH_STRIDE, bias_batch_stride),
    SIMT_DESC(EPILOGUE_AUX_POINTER, aux),
    SIMT_DESC(EPILOGUE_AUX_LD, aux_ld),
    SIMT_DESC(EPILOGUE_AUX_BATCH_STRIDE, aux_batch_stride),
    SIMT_DESC(ALPHA_VECTOR_BATCH_STRIDE, alpha_vector_batch_stride),
    SIMT_DESC(SM_COUNT_TARGET, sm_count_target),
    SIMT_DESC(A_SCALE_POINTER, scales[0]),
    SIMT_DESC(B_SCALE_POINTER, scales[1]),
    SIMT_DESC(C_SCALE_POINTER, scales[2]),
    SIMT_DESC(D_SCALE_POINTER, scales[3]),
    SIMT_DESC(EPILOGUE_AUX_SCALE_POINTER, scales[4]),
    SIMT_DESC(AMAX_D_POINTER, maxima[0]),
    SIMT_DESC(EPILOGUE_AUX_AMAX_POINTER, maxima[1]),
    SIMT_DESC(EPILOGUE_AUX_DATA_TYPE, aux_type),
    SIMT_DESC(FAST_ACCUM, fast_accumulation),
    SIMT_DESC(BIAS_DATA_TYPE, bias_type),
    SIMT_DESC(A_SCALE_MODE, scale_modes[0]),
    SIMT_DESC(B_SCALE_MODE, scale_modes[1]),
    SIMT_DESC(C_SCALE_MODE, scale_modes[2]),
    SIMT_DESC(D_SCALE_MODE, scale_modes[3]),
    SIMT_DESC(EPILOGUE_AUX_SCALE_MODE, scale_modes[4]),
    SIMT_DESC(D_OUT_SCALE_POINTER, out_scale),
    SIMT_DESC(D_OUT_SCALE_MODE, out_scale_mode),
    SIMT_DESC(EMULATION_DESCRIPTOR, emulation),
};

constexpr Attribute kLayoutAttributes[] = {
    SIMT_LAYOUT(TYPE, type),
    SIMT_LAYOUT(ORDER, order),
    SIMT_LAYOUT(ROWS, rows),
    SIMT_LAYOUT(COLS, cols),
    SIMT_LAYOUT(LD, ld),
    SIMT_LAYOUT(BATCH_COUNT, batch_count),
    SIMT_LAYOUT(STRIDED_BATCH_OFFSET, batch_stride),
    SIMT_LAYOUT(PLANE_OFFSET, plane_offset),
    SIMT_LAYOUT(BATCH_MODE, batch_mode),
};

constexpr Attribute kPreferenceAttributes[] = {
    SIMT_PREF(SEARCH_MODE, search_mode),
    SIMT_PREF(MAX_WORKSPACE_BYTES, max_workspace),
    SIMT_PREF(REDUCTION_SCHEME_MASK, reduction_mask),
    SIMT_PREF(MIN_ALIGNMENT_A_BYTES, alignments[0]),
    SIMT_PREF(MIN_ALIGNMENT_B_BYTES, alignments[1]),
    SIMT_PREF(MIN_ALIGNMENT_C_BYTES, alignments[2]),
    SIMT_PREF(MIN_ALIGNMENT_D_BYTES, alignments[3]),
    SIMT_PREF(MAX_WAVES_COUNT, max_waves),
    SIMT_PREF(IMPL_MASK, implementation_mask),
};

#undef SIMT_ATTRIBUTE
#undef SIMT_DESC
#undef SIMT_LAYOUT
#undef SIMT_PREF

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
  return simt::enter(__func__, [&] {
    return simt::initialise(descriptor, bytes, simt::matmul_fields(compute_type, scale_type));
  });
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* descriptor,
                                        cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
  return simt::enter(__func__, [&] {
    return simt::create(descriptor, simt::matmul_fields(compute_type, scale_type));
  });
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t descriptor) {
  return simt::enter(__func__, [&] {
    delete descriptor;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatmulDescAttributes_t which,
                                              const void* value, size_t bytes) {
  return simt::enter(__func__, [&] {
    return simt::set(descriptor, simt::find(simt::kMatmulAttributes, which), value, bytes);
  });
}

cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatmulDescAttributes_t which, void* value,
                                              size_t bytes, size_t* written) {
  return simt::enter(__func__, [&] {
    return simt::get(descriptor, simt::find(simt::kMatmulAttributes, which), value, bytes, written);
  });
}

// ---- Matrices ----------------------------------------------------------------------------------
cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
  return simt::enter(__func__, [&] {
    return simt::initialise(layout, bytes, simt::layout_fields(type, rows, cols, ld));
  });
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  return simt::enter(
      __func__, [&] { return simt::create(layout, simt::layout_fields(type, rows, cols, ld)); });
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return simt::enter(__func__, [&] {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t which,
                                                const void* value, size_t bytes) {
  return simt::enter(__func__, [&] {
    return simt::set(layout, simt::find(simt::kLayoutAttributes, which), value, bytes);
  });
}

cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t which, void* value,
                                                size_t bytes, size_t* written) {
  return simt::enter(__func__, [&] {
    return simt::get(layout, simt::find(simt::kLayoutAttributes, which), value, bytes, written);
  });
}

// ---- Preferences -------------------------------------------------------------------------------
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t bytes) {
  return simt::enter(__func__,
                     [&] { return simt::initialise(preference, bytes, simt::PreferenceFields{}); });
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return simt::enter(__func__, [&] { return simt::create(preference, simt::PreferenceFields{}); });
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return simt::enter(__func__, [&] {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    const void* value, size_t bytes) {
  return simt::enter(__func__, [&] {
    return simt::set(preference, simt::find(simt::kPreferenceAttributes, which), value, bytes);
  });
}

cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    void* value, size_t bytes, size_t* written) {
  return simt::enter(__func__, [&] {
    return simt::get(preference, simt::find(simt::kPreferenceAttributes, which), value, bytes,
                     written);
  });
}
