// gemm.cu: general matrix multiplication on device cuda: the idea, the second pass, and the launcher.
// Called by gemm.cpp's dispatch through gemm_cuda (gemm_choice_cublaslt.cpp). The kernels are in files
// of their own: the rungs in gemm_rungs.cu (section 9), production in gemm_mma_cuda.h,
// gemm_ffma_cuda.h and gemm_epilogue_cuda.h (10), their instantiations in gemm_mma_*.cu and
// gemm_ffma.cu (12); cuBLASLt and the choice between it and ours in gemm_cublaslt.cpp and
// gemm_choice_cublaslt.cpp. Easy to break: a plan decides how K is cut, and so the bits.
// Test: ctest -R gemm_cuda. Bench: minibert bench gemm.
#include <algorithm>
#include <optional>

#include "core/kernels/gemm_epilogue_cuda.h"
#include "core/kernels/reduce.h"

namespace minibert {

// ---- 8. Idea -----------------------------------------------------------------------------------
//   c [M, N]                    a block's tile, 128 x 128           a warp's tile, 64 x 64
//   +----+----+----+--          +---------+---------+               eight by four fragments of
//   |    |    |    |            | warp 0  | warp 2  |               16 x 8 sums, 128 registers a
//   +----+----+----+--          +---------+---------+               thread; each step reads 4 + 4
//   |    |tile|    |            | warp 1  | warp 3  |               fragments for 32 instructions
//   +----+----+----+--          +---------+---------+
//
//   memory --cp.async--> slot 0 | slot 1 | slot 2 | slot 3 --ldmatrix--> registers --mma--> sums
//                        64 bytes of K of 128 rows of a and 128 of b each, 16 KB a slot
//   One round: wait for the next slot; one barrier; queue the copies of three rounds ahead into the
//   slot read last; read the fragments of the next step while the tensor cores work on this one.
//   Epilogue: sums to shared memory (the slots' own), then 16 bytes a thread along rows of c.
//
// Why this tile: for each 16 of K a warp reads 2 x 64 x 32 bytes of shared memory for 32
// instructions. With all four warps at work that is 64 bytes a clock of a multiprocessor of sm_80,
// half of its bandwidth; the copies write another 32. Warps of 64 x 32 would need all of it. Those 32
// come mostly from the second-level cache: blocks that run together form bands of eight tiles.
// Occupancy: two blocks of 64 KB and 128 threads with up to 255 registers, so that one's products
// hide the other's epilogue. Where c has too few tiles for the chip, tiles of 64 x 64, or K
// in parts: each part's sums go to memory in f32, and a second pass adds them and finishes.
// tf32: a register of a fragment holds one element in place of two, and with warps of 64 x 64 they
// spill. There eight warps of 64 x 32 share the tile, in one block of a multiprocessor.
//
// Operands lie in memory along K or along their rows; a slot keeps their order. Chunks of 16 bytes
// change places within a line, so that ldmatrix (transposing, where lines run along the rows)
// meets no bank conflict. Rows that are not 16-byte aligned are first copied to rows that are:
// BERT's own sizes never need it.

// ---- 10. Production: the second pass -------------------------------------------------------------
namespace {

/// Sums of kWidth columns over the parts of K, in ascending order.
struct SplitSums {
  const float* products;  // [splits, M, N], from this tile's corner on
  int N, splits;
  int64_t stride;

  template <int kWidth>
  __device__ __forceinline__ void operator()(int row, int column, float (&x)[kWidth]) const {
    constexpr int kLoad = kWidth < 4 ? kWidth : 4;
    const float* from = products + static_cast<int64_t>(row) * N + column;
#pragma unroll
    for (float& sum : x) sum = 0;
    for (int split = 0; split < splits; ++split, from += stride) {
#pragma unroll
      for (int i = 0; i < kWidth; i += kLoad) {
        const auto part = load_pack<kLoad>(from + i);
#pragma unroll
        for (int j = 0; j < kLoad; ++j) x[i + j] += part[j];
      }
    }
  }
};

/// c itself, where it holds the product.
template <typename E>
struct StoredProduct {
  const E* c;  // from this tile's corner on
  int N;

  template <int kWidth>
  __device__ __forceinline__ void operator()(int row, int column, float (&x)[kWidth]) const {
    const auto product = load_pack<kWidth>(c + static_cast<int64_t>(row) * N + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[i] = to_float(product[i]);
  }
};

}  // namespace

/// Grid: tiles across, tiles down.
template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kFinishThreads, 2)
    gemm_finish_kernel(const GemmFinish f, const float* products, int splits) {
  MB_SHARED(double, s_sums, kFinishThreads * 8);
  const int m0 = static_cast<int>(blockIdx.y) * kFinishM;
  const int n0 = static_cast<int>(blockIdx.x) * kFinishN;
  const float* corner = products + static_cast<int64_t>(m0) * f.N + n0;
  finish_tile<E, kFinishM, kFinishN, kFinishThreads>(
      f, m0, n0, 0, s_sums, SplitSums{corner, f.N, splits, static_cast<int64_t>(f.M) * f.N});
}

/// Grid: tiles across, tiles down.
template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kFinishThreads, 2) gemm_residual_kernel(const GemmFinish f) {
  const int m0 = static_cast<int>(blockIdx.y) * kFinishM;
  const int n0 = static_cast<int>(blockIdx.x) * kFinishN;
  const E* corner = static_cast<const E*>(f.c) + static_cast<int64_t>(m0) * f.N + n0;
  finish_tile<E, kFinishM, kFinishN, kFinishThreads>(f, m0, n0, 0, nullptr,
                                                     StoredProduct<E>{corner, f.N});
}

/// y[n] (+)= sum over the tiles of sums[tile][n]. A block has 32 columns; its eight rows of threads
/// take every eighth tile, then their sums are added in order.
__global__ void MB_LAUNCH_BOUNDS(256)
    gemm_column_sums_kernel(const double* sums, int tiles, int N, float* y, bool accumulate) {
  MB_SHARED(double[32], s_part, 8);
  const int n = static_cast<int>(blockIdx.x * 32 + threadIdx.x);
  double sum = 0;
  for (int tile = static_cast<int>(threadIdx.y); n < N && tile < tiles; tile += 8)
    sum += sums[static_cast<int64_t>(tile) * N + n];
  s_part[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || n >= N) return;
  sum = accumulate ? y[n] : 0.0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum += s_part[i][threadIdx.x];
  y[n] = static_cast<float>(sum);
}

/// Rows of `columns` elements to rows of `stride`, filled up with zeros.
template <typename Word>
__global__ void MB_LAUNCH_BOUNDS(256)
    gemm_pad_kernel(const Word* from, Word* to, int64_t rows, int columns, int stride) {
  const int column = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (column >= stride) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
    to[row * stride + column] = column < columns ? from[row * columns + column] : Word(0);
}

// ---- 11. Launcher ------------------------------------------------------------------------------
GemmSizes gemm_sizes(const GemmArgs& args) {
  return {args.a.dim(args.transpose_a ? 1 : 0), args.b.dim(args.transpose_b ? 0 : 1),
          args.a.dim(args.transpose_a ? 0 : 1)};
}

namespace {

bool sums_columns(const GemmArgs& args) {
  return args.epilogue == GemmArgs::Epilogue::dgelu && args.column_sum.defined();
}

/// Sums by parts of what is added, [parts, length], and their way to a vector. Unless `wanted`:
/// nothing.
class SumParts {
 public:
  SumParts(bool wanted, int64_t parts, int64_t length)
      : parts_(static_cast<int>(parts)), length_(static_cast<int>(length)) {
    if (wanted) sums_.emplace(parts * length * 8);
  }
  double* data() const { return sums_ ? sums_->data<double>() : nullptr; }
  void add_to(const Operand& y, bool accumulate, Stream stream) const {
    if (!sums_) return;
    launch(gemm_column_sums_kernel, ceil_div(length_, 32), dim3(32, 8), 0, stream, data(), parts_,
           length_, y.data<float>(), accumulate);
  }

 private:
  int parts_, length_;
  std::optional<DeviceWorkspace> sums_;
};

/// Each tile's sums of columns.
SumParts column_sum_parts(const GemmArgs& args, int tile_rows) {
  const GemmSizes sizes = gemm_sizes(args);
  return {sums_columns(args), ceil_div(sizes.M, tile_rows), sizes.N};
}

/// An operand with rows of whole chunks of 16 bytes: itself, or a copy with zeros at the rows' ends.
struct ChunkedRows {
  const void* data;
  int64_t stride;  // elements
  Tensor copy;

  ChunkedRows(const Operand& x, Stream stream) : data(x.raw()), stride(x.dim(1)) {
    const auto element = static_cast<int64_t>(size_of(x.dtype()));
    if (packs(data, stride * element)) return;
    const int64_t chunk = 16 / element, rows = x.dim(0), columns = stride;
    stride = ceil_div(columns, chunk) * chunk;
    copy = Tensor::empty({rows * stride}, x.dtype(), MemoryCategory::workspace, Device::cuda);
    const LaunchGrid grid(ceil_div(stride, 256), std::min<int64_t>(rows, 65535));
    if (element == 2) {
      launch(gemm_pad_kernel<uint16_t>, grid, 256, 0, stream, static_cast<const uint16_t*>(data),
             static_cast<uint16_t*>(copy.raw()), rows, columns, stride);
    } else {
      launch(gemm_pad_kernel<uint32_t>, grid, 256, 0, stream, static_cast<const uint32_t*>(data),
             static_cast<uint32_t*>(copy.raw()), rows, columns, stride);
    }
    data = copy.raw();
  }
};

/// Whether c's rows, and what is read beside them, can be moved in packs of 16 bytes of c.
bool is_wide(const GemmArgs& args) {
  const auto element = static_cast<int64_t>(size_of(args.c.dtype()));
  const int64_t row = args.c.dim(1) * element;
  const auto bias_pack = static_cast<int>(16 / element * size_of(args.a.dtype()));
  return packs(args.c.raw(), row) && packs(args.pre_activation.raw(), row) &&
         packs(args.residual.raw(), row) && packs(args.bias.raw(), 0, std::min(bias_pack, 16));
}

int multiprocessors() {
  int device = 0, count = 0;
  MB_CUDA(cudaGetDevice(&device));
  MB_CUDA(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

void run_production(const GemmLaunch& p, const GemmArgs& args, GemmTileSize tile, Stream stream) {
  const DType type = args.a.dtype();
  if (type == DType::bf16) return gemm_mma_bf16(p, tile, stream);
  if (type == DType::f16) return gemm_mma_f16(p, tile, stream);
  args.tf32 ? gemm_mma_tf32(p, tile, stream) : gemm_ffma(p, tile, stream);
}

}  // namespace

GemmFinish gemm_finish_of(const GemmArgs& args) {
  const auto [M, N, K] = gemm_sizes(args);
  GemmFinish f{};
  f.M = static_cast<int>(M), f.N = static_cast<int>(N);
  f.c = args.c.raw();
  f.bias = args.bias.raw();
  f.pre_activation = args.pre_activation.raw();
  f.residual = args.residual.raw();
  f.position = args.position.data_or_null<int32_t>();
  f.row_sample = args.row_sample.data_or_null<int32_t>();
  f.dropout = args.dropout;
  f.epilogue = args.epilogue;
  f.gelu = args.gelu;
  f.accumulate = args.accumulate;
  f.c_is_f32 = args.c.dtype() == DType::f32;
  f.wide = is_wide(args);
  return f;
}

void gemm_finish_products(const GemmArgs& args, const float* products, int splits, Stream stream) {
  GemmFinish finish = gemm_finish_of(args);
  const SumParts sums = column_sum_parts(args, kFinishM);
  finish.column_sums = sums.data();
  with_cuda_element(args.a.dtype(), [&](auto e) {
    launch(gemm_finish_kernel<decltype(e)>,
           {ceil_div(finish.N, kFinishN), ceil_div(finish.M, kFinishM)}, kFinishThreads, 0, stream,
           finish, products, splits);
  });
  sums.add_to(args.column_sum, args.accumulate_column_sum, stream);
}

void gemm_add_residual(const GemmArgs& args, Stream stream) {
  GemmFinish finish = gemm_finish_of(args);
  finish.bias = nullptr;  // is in c
  with_cuda_element(args.a.dtype(), [&](auto e) {
    launch(gemm_residual_kernel<decltype(e)>,
           {ceil_div(finish.N, kFinishN), ceil_div(finish.M, kFinishM)}, kFinishThreads, 0, stream,
           finish);
  });
}

void gemm_sum_rows_apart(const GemmArgs& args, Stream stream) {
  if (args.row_sum.defined())
    column_sum_cuda({args.a, args.row_sum, args.accumulate_row_sum}, stream);
}

void gemm_cuda_planned(const GemmArgs& args, Stream stream, GemmPlan plan) {
  const auto [M, N, K] = gemm_sizes(args);
  MB_ASSERT(std::max({M, N, K}) <= INT32_MAX / 2, "gemm: M, N or K is above 2^30");
  const bool sums_rows =
      args.row_sum.defined() && !args.transpose_b && args.a.dtype() != DType::f32 && M > 0 && N > 0;
  if (!sums_rows) gemm_sum_rows_apart(args, stream);
  if (M == 0 || N == 0) return gemm_finish_products(args, nullptr, 1, stream);
  if (args.transpose_a && args.transpose_b) plan.tile = GemmTileSize::small;
  const ChunkedRows a(args.a, stream), b(args.b, stream);
  const auto round_k = static_cast<int64_t>(kGemmRoundBytes / size_of(args.a.dtype()));
  const int64_t rounds_of_split = ceil_div(ceil_div(K, round_k), plan.splits);
  // None of them is empty.
  const int splits = static_cast<int>(K == 0 ? 1 : ceil_div(K, rounds_of_split * round_k));

  GemmLaunch p{};
  p.a = a.data, p.b = b.data;
  p.a_stride = a.stride, p.b_stride = b.stride;
  p.transpose_a = args.transpose_a, p.transpose_b = args.transpose_b;
  p.K = static_cast<int>(K);
  p.splits = splits;
  p.split_k = static_cast<int>(rounds_of_split * round_k);
  const SumParts row_sums(sums_rows, splits, M);
  p.row_sums = row_sums.data();
  if (splits == 1) {
    const SumParts sums = column_sum_parts(args, plan.tile == GemmTileSize::large ? 128 : 64);
    p.finish = gemm_finish_of(args);
    p.finish.column_sums = sums.data();
    run_production(p, args, plan.tile, stream);
    sums.add_to(args.column_sum, args.accumulate_column_sum, stream);
    row_sums.add_to(args.row_sum, args.accumulate_row_sum, stream);
    return;
  }
  const DeviceWorkspace products(splits * M * N * static_cast<int64_t>(sizeof(float)));
  p.finish.M = static_cast<int>(M), p.finish.N = static_cast<int>(N);
  p.finish.c = products.data<float>();
  p.finish.split_stride = M * N;
  p.finish.c_is_f32 = true;
  p.finish.wide = N % 4 == 0;
  run_production(p, args, plan.tile, stream);
  gemm_finish_products(args, products.data<float>(), splits, stream);
  row_sums.add_to(args.row_sum, args.accumulate_row_sum, stream);
}

void gemm_cuda_ours(const GemmArgs& args, Stream stream) {
  const auto [M, N, K] = gemm_sizes(args);
  gemm_cuda_planned(args, stream, gemm_plan(M, N, K, args.a.dtype(), args.tf32, multiprocessors()));
}

}  // namespace minibert
