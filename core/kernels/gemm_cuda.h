// gemm_cuda.h: what the CUDA files of the GEMM chapter ask of one another.
// gemm.cu (sections 8 and 11) chooses a kernel and a tile; gemm_rungs.cu (section 9) holds the rungs;
// gemm_mma_cuda.h and gemm_ffma_cuda.h (section 10) the production kernels, instantiated by
// gemm_mma_bf16.cu, _f16.cu, _tf32.cu and gemm_ffma.cu (section 12); gemm_epilogue_cuda.h what
// happens to a finished sum; gemm_cublaslt.cpp the library, gemm_choice_cublaslt.cpp the choice. No
// CUDA header is included, so that host files may include it. Easy to break: a stride is the length
// of a row in memory, which is longer than the matrix's row where the launcher made a padded copy.
#pragma once

#include <cstdint>

#include "core/kernels/gemm_cuda_choice.h"
#include "core/tensor.h"

namespace minibert {

/// What follows a product: section 1's epilogues, as plain data for kernels. Matrices are [M, N].
struct GemmFinish {
  int M, N;
  void* c;
  int64_t split_stride;  // elements from one split's c to the next; 0 if K is not split
  const void* bias;      // [N] of type E, or null
  void* pre_activation;  // of c's type, or null
  const void* residual;  // of type E, or null
  const int32_t *position, *row_sample;  // [M], read if dropout is active
  Dropout dropout;
  double* column_sums;  // [tiles of rows, N]: each tile's sum of what c gets, or null
  GemmArgs::Epilogue epilogue;
  Gelu gelu;
  bool accumulate;
  bool c_is_f32;
  bool wide;  // c, pre_activation, residual and bias can be moved in packs of 16 bytes of c
};

/// op(a) [M, K] op(b) [K, N], then `finish`.
struct GemmLaunch {
  const void *a, *b;
  int64_t a_stride, b_stride;  // elements from one row in memory to the next
  bool transpose_a, transpose_b;
  int K;
  int splits, split_k;  // split s takes k from s split_k on, split_k of them
  double* row_sums;     // [splits, M]: each split's sums of op(a)'s rows, or null: 16-bit dy^T x
  GemmFinish finish;
};

// ---- Production kernels: rows of a and b are 16-byte aligned -----------------------------------
void gemm_mma_bf16(const GemmLaunch& product, GemmTileSize tile, Stream stream);
void gemm_mma_f16(const GemmLaunch& product, GemmTileSize tile, Stream stream);
void gemm_mma_tf32(const GemmLaunch& product, GemmTileSize tile, Stream stream);
void gemm_ffma(const GemmLaunch& product, GemmTileSize tile, Stream stream);

/// Bytes of a row of K that a production kernel handles a round: splits begin at multiples of it.
inline constexpr int kGemmRoundBytes = 64;

// ---- Parts of the launcher that the rungs share ------------------------------------------------
struct GemmSizes {
  int64_t M, N, K;
};
GemmSizes gemm_sizes(const GemmArgs& args);
/// The epilogue of the call, but for column sums.
GemmFinish gemm_finish_of(const GemmArgs& args);
/// Row sums by a kernel that passes over a. Without row sums: nothing.
void gemm_sum_rows_apart(const GemmArgs& args, Stream stream);
/// c holds the product, with bias, rounded to E: the rest of the epilogue `residual`, in place.
void gemm_add_residual(const GemmArgs& args, Stream stream);
/// Adds `splits` products [M, N] in f32 in ascending order and finishes the sum, with column sums.
void gemm_finish_products(const GemmArgs& args, const float* products, int splits, Stream stream);
/// Uninitialised memory on the device. It is given back to the allocator at the scope's end, when the
/// kernels that use it are queued: the next to get it queues after them, on the same stream.
class DeviceWorkspace {
 public:
  explicit DeviceWorkspace(int64_t bytes)
      : bytes_(Tensor::empty({bytes}, DType::u8, MemoryCategory::workspace, Device::cuda)) {}
  template <typename T>
  T* data() const {
    return static_cast<T*>(bytes_.raw());
  }

 private:
  Tensor bytes_;
};
/// The call by production kernels, divided as the shape asks.
void gemm_cuda_ours(const GemmArgs& args, Stream stream);

// ---- cuBLASLt: gemm_cublaslt.cpp ----------------------------------------------------------------
/// How many of its algorithms, best guess first, the library offers for the call; 0: it can't do it.
int gemm_cublaslt_algorithms(const GemmArgs& args);
/// The call by the library's `algorithm`th offer, and our second pass where its epilogues would not
/// keep the contract.
void gemm_cublaslt(const GemmArgs& args, Stream stream, int algorithm);
/// "cuBLASLt 13.1.0"
std::string gemm_cublaslt_description();

}  // namespace minibert
