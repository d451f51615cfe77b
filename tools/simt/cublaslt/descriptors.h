// descriptors.h: what the stand-in keeps in cuBLASLt's opaque structs.
// The structs are plain storage that a program may also hold itself and fill with ...Init(), so the
// fields are read out of them by copy. Sizes and defaults of attributes are the real library's,
// which answers for them without a GPU: tests/tools/simt/cublaslt_descriptor_test.cpp compares.
#pragma once

#include <cstring>
#include <type_traits>

#include <cublasLt.h>

namespace simt {

struct MatmulFields {
  int32_t compute_type = CUBLAS_COMPUTE_32F;
  int32_t scale_type = CUDA_R_32F;
  int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transa = CUBLAS_OP_N, transb = CUBLAS_OP_N, transc = CUBLAS_OP_N;
  int32_t fill_mode = CUBLAS_FILL_MODE_FULL;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  int64_t bias_batch_stride = 0;
  void* aux = nullptr;
  int64_t aux_ld = 0;
  int64_t aux_batch_stride = 0;
  int64_t alpha_vector_batch_stride = 0;
  int32_t sm_count_target = 0;
  int32_t aux_type = -1;   // cudaDataType; -1: that of D
  int32_t bias_type = -1;  // likewise
  int8_t fast_accumulation = 0;
  // Only for formats of 8 bits and fewer, which are refused here; kept so that a caller can set them.
  void* scales[5] = {};  // A, B, C, D, aux
  void* maxima[2] = {};  // D, aux
  int32_t scale_modes[5] = {};
  void* out_scale = nullptr;
  int32_t out_scale_mode = 0;
  void* emulation = nullptr;
};

struct LayoutFields {
  uint32_t type = CUDA_R_32F;
  int32_t order = CUBLASLT_ORDER_COL;
  uint64_t rows = 0, cols = 0;
  int64_t ld = 0;
  int32_t batch_count = 1;
  uint32_t batch_mode = 0;
  int64_t batch_stride = 0;
  int64_t plane_offset = 0;
};

struct PreferenceFields {
  uint32_t search_mode = CUBLASLT_SEARCH_BEST_FIT;
  uint32_t reduction_mask = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint64_t max_workspace = 0;
  uint32_t alignments[4] = {256, 256, 256, 256};  // of A, B, C, D, in bytes
  float max_waves = 0;
  uint64_t implementation_mask = ~uint64_t{0};
};

struct AlgorithmFields {
  uint64_t magic = 0;      // kAlgorithmMagic if one of ours wrote it
  int32_t id = 0;          // 1: plain, 2: the sum over k in two halves, 3: any alignment
  uint32_t alignment = 0;  // that it needs of every pointer and leading dimension, in bytes
  int32_t splits = 1;      // of k; more than one needs a workspace
  bool usable = true;
};
inline constexpr uint64_t kAlgorithmMagic = 0x73696d746c74;

template <typename Fields, typename Opaque>
Fields fields_of(const Opaque* opaque) {
  static_assert(sizeof(Fields) <= sizeof(Opaque) && std::is_trivially_copyable_v<Fields>);
  Fields fields;
  std::memcpy(static_cast<void*>(&fields), opaque, sizeof fields);
  return fields;
}

template <typename Opaque, typename Fields>
void store(Opaque* opaque, const Fields& fields) {
  static_assert(sizeof(Fields) <= sizeof(Opaque) && std::is_trivially_copyable_v<Fields>);
  std::memcpy(static_cast<void*>(opaque), &fields, sizeof fields);
}

}  // namespace simt
