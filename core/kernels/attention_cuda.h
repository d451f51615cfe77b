// attention_cuda.h: what attention's CUDA kernels share: the problem as they see it, the search for
// a block's rows, tiles in shared memory and copies into them, dropout's quads. Included by
// attention_forward.cu and attention_backward.cu alone. Contract and mathematics: attention.h.
// Easy to break: the grid is made without knowing the lengths, so a block may find no rows to do;
// and the row of a quad is only right if a tile starts at a multiple of 16 queries.
#pragma once

#include "core/cuda_kernel.h"
#include "core/kernels/attention.h"
#include "core/ptx.h"

namespace minibert::attention_cuda {

enum Part { kQuery, kKey, kValue };

inline constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

/// Element 0 of row `row` of a head in an array [N, parts, A, D].
template <typename E>
__device__ __forceinline__ E* head_row(E* array, int64_t row, int parts, int part, int A, int head,
                                       int D) {
  return array + ((row * parts + part) * A + head) * D;
}

/// What forward and backward have in common. T is the element type of qkv.
template <typename T>
struct Problem {
  const T* qkv;               // [N, 3, A, D]
  const int32_t* cu_seqlens;  // [B+1]
  const int32_t* sample;      // [B]; null without dropout
  int64_t N;
  int B, A, D;
  float scale;
  Dropout dropout;
  PhiloxKeys keys;  // of dropout's seed: operands in constant memory

  /// Row `row` of a head in qkv, or another array of its shape; the next row is qkv_stride on.
  template <typename E>
  __device__ __forceinline__ E* part(E* array, Part which, int64_t row, int head) const {
    return head_row(array, row, 3, which, A, head, D);
  }
  __device__ __forceinline__ const T* part(Part which, int64_t row, int head) const {
    return part(qkv, which, row, head);
  }
  __device__ __forceinline__ int64_t qkv_stride() const { return int64_t{3} * A * D; }
  /// The same in out or dout, [N, A, D].
  template <typename E>
  __device__ __forceinline__ E* row_of_head(E* array, int64_t row, int head) const {
    return head_row(array, row, 1, 0, A, head, D);
  }
  __device__ __forceinline__ int64_t out_stride() const { return int64_t{A} * D; }
};

template <typename T, typename Args>
Problem<T> problem_of(const Args& args) {
  return {cuda_data<T>(args.qkv),
          args.cu_seqlens.template data<int32_t>(),
          args.dropout.active() ? args.sample.template data<int32_t>() : nullptr,
          args.qkv.dim(0),
          static_cast<int>(args.cu_seqlens.numel() - 1),
          static_cast<int>(args.qkv.dim(2)),
          static_cast<int>(args.qkv.dim(3)),
          args.scale,
          args.dropout,
          philox_keys(args.dropout.seed)};
}

/// Whether 16-byte copies reach every row of every head in these arrays.
template <typename T, typename... Arrays>
bool packed(int64_t D, const Arrays&... arrays) {
  return (packs(arrays.raw(), D * static_cast<int64_t>(sizeof(T))) && ...);
}

// ---- Which rows a block owns -------------------------------------------------------------------

/// The greatest i in 0 .. count - 1 with start(i) <= value, where start rises and start(0) <= value.
/// A search in 32 parts at a time: two loads for up to 1,024 sequences. Called by whole warps.
template <typename Start>
__device__ __forceinline__ int last_start(int count, int64_t value, const Start& start) {
  int low = 0;
  while (count > 1) {
    const int step = (count + kWarpSize - 1) / kWarpSize, i = lane_id() * step;
    const bool before = i < count && start(low + i) <= value;
    const int part = __popc(__ballot_sync(kFullMask, before)) - 1;
    low += part * step;
    count = min(step, count - part * step);
  }
  return low;
}

/// Rows first .. first + count - 1 of a sequence, and the head.
struct RowTile {
  int sequence;  // B: the tail, rows that belong to no sequence
  int row;       // of the batch, where the sequence starts
  int length;    // S
  int first;     // of the tile, counted from `row`
  int count;     // 0: nothing to do
  int head;
};

/// Blocks of a launch whose block owns up to `rows` rows of a head. The host does not know the
/// lengths: sequence b gets cu_seqlens[b] / rows + b as the number of its first tile. Two
/// neighbours' first tiles are at least ceil(S / rows) apart, whatever the lengths, and all numbers
/// are below B + N / rows; those between are idle. The tail is sequence B.
inline int64_t row_tile_blocks(int64_t N, int64_t B, int64_t A, int rows) {
  return N == 0 ? 0 : (B + ceil_div(N, rows)) * A;
}

/// The tile of this block of such a launch. Heads of a tile are neighbours: their rows are, too.
template <int kRows, typename T>
__device__ __forceinline__ RowTile row_tile(const Problem<T>& p) {
  const int slot = static_cast<int>(blockIdx.x / p.A);
  const auto first_tile = [&](int b) { return p.cu_seqlens[b] / kRows + b; };
  RowTile tile;
  tile.head = static_cast<int>(blockIdx.x % p.A);
  tile.sequence = last_start(p.B + 1, slot, first_tile);
  tile.row = p.cu_seqlens[tile.sequence];
  if (tile.sequence < p.B) {
    tile.length = p.cu_seqlens[tile.sequence + 1] - tile.row;
    tile.first = (slot - first_tile(tile.sequence)) * kRows;
    tile.count = max(0, min(kRows, tile.length - tile.first));
  } else {
    const int begin = (slot - p.B) * kRows, end = min(begin + kRows, static_cast<int>(p.N));
    tile.length = static_cast<int>(p.N) - tile.row;
    tile.first = max(begin - tile.row, 0);
    tile.count = max(0, end - tile.row - tile.first);
  }
  return tile;
}

/// Zeroes this head's `count` rows of `row_elements` elements, `stride` apart. All threads.
template <typename T>
__device__ void zero_rows(T* first, int64_t stride, int count, int row_elements) {
  for (int i = thread_in_block(); i < count * row_elements; i += static_cast<int>(blockDim.x))
    first[i / row_elements * stride + i % row_elements] = from_float<T>(0.0f);
}

// ---- Tiles in shared memory --------------------------------------------------------------------

/// Rows of D 16-bit elements in shared memory, in chunks of 16 bytes. A row's chunks are permuted by
/// exclusive or with a number that its neighbours do not have, so that chunk c of eight rows lies in
/// eight different groups of four banks: ldmatrix goes without conflicts, and no padding is needed.
template <typename T, int D>
struct Tile {
  static constexpr int kChunks = D / 8, kElements = 8, kStride = D;  // of a chunk, of a row
  static_assert(sizeof(T) == 2 && (kChunks == 4 || kChunks % 8 == 0));

  T* data;

  __device__ __forceinline__ T* chunk(int row, int c) const {
    const int permutation = kChunks == 4 ? row >> 1 & 3 : row & 7;  // 4: two rows fill the 32 banks
    return data + row * kStride + (c ^ permutation) * kElements;
  }
  __device__ __forceinline__ T* at(int row, int column) const {
    return chunk(row, column / kElements) + column % kElements;
  }
};
/// In f32, rows are padded by a chunk. Lane (g, t) of a fragment then reads bank 4 g + t or, along
/// rows, 8 t + g: 32 different ones, at addresses that differ by constants.
template <int D>
struct Tile<float, D> {
  static constexpr int kChunks = D / 4, kElements = 4, kStride = D + 4;

  float* data;

  __device__ __forceinline__ float* chunk(int row, int c) const { return at(row, c * kElements); }
  __device__ __forceinline__ float* at(int row, int column) const {
    return data + row * kStride + column;
  }
};

/// Copies `count` rows (1 or more) into rows 0.. of the tile and zeroes the others up to kRows, by
/// cp.async or by loads and stores. Rows are 16-byte aligned.
template <int kRows, int kThreads, bool kAsync, typename T, int D>
__device__ __forceinline__ void copy_rows(const Tile<T, D>& s_tile, const T* from, int64_t stride,
                                          int count) {
  constexpr int kChunks = Tile<T, D>::kChunks;
  static_assert(kRows * kChunks % kThreads == 0);
#pragma unroll(kAsync ? kRows* kChunks / kThreads : 4)  // loads hold registers until they arrive
  for (int i = 0; i < kRows * kChunks; i += kThreads) {
    const int row = (i + thread_in_block()) / kChunks, c = (i + thread_in_block()) % kChunks;
    const bool valid = row < count;
    const T* source = from + (valid ? row : 0) * stride + c * kPack<T>;
    if constexpr (kAsync) {
      cp_async16_if(s_tile.chunk(row, c), source, valid);
    } else {
      const uint4 word = valid ? *reinterpret_cast<const uint4*>(source) : make_uint4(0, 0, 0, 0);
      *reinterpret_cast<uint4*>(s_tile.chunk(row, c)) = word;
    }
  }
}

// ---- Dropout -----------------------------------------------------------------------------------

/// The dropout site of one head of one sequence.
template <typename T>
class HeadDropout {
 public:
  __device__ __forceinline__ HeadDropout(const Problem<T>& p, const RowTile& tile)
      : keys_(p.keys),
        site_(p.dropout),
        head_(static_cast<uint32_t>(tile.head)),
        sample_(site_.active() ? static_cast<uint32_t>(p.sample[tile.sequence]) : 0),
        least_kept_(site_.threshold << 16) {
    // Reads the data step from memory, here and not in each draw.
    site_.layer_purpose = site_.active() ? site_.step_layer_purpose() : 0;
    site_.data_step = nullptr;
  }
  __device__ __forceinline__ bool active() const { return site_.active(); }
  __device__ __forceinline__ float scale() const { return site_.scale; }
  /// The words of the quad (query, key) (query, key + 1) (query + 8, key) (query + 8, key + 1), where
  /// bit 3 of query is clear and key is even.
  __device__ __forceinline__ PhiloxOutput quad(int query, int key) const {
    const PhiloxCounter counter = attention_counter(site_, static_cast<uint32_t>(query),
                                                    static_cast<uint32_t>(key), head_, sample_);
    return philox4x32(counter, keys_);
  }
  /// dropout_keeps: (word >> 16) >= threshold, without the shift.
  __device__ __forceinline__ bool keeps(uint32_t word) const { return word >= least_kept_; }

 private:
  const PhiloxKeys& keys_;
  Dropout site_;
  uint32_t head_, sample_, least_kept_;
};

}  // namespace minibert::attention_cuda
