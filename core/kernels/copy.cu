// copy.cu: bytes copied and rows picked on CUDA, sections 8 to 12 of the copy chapter; contract and
// mathematics: copy.h. Called by copy.cpp. Easy to get wrong: copy_to_device does not wait. From
// pageable memory the driver has taken the bytes when the call returns; pinned memory must stay as
// it is until the stream has passed the copy. Test: ctest -R kernels_copy_cuda.
#include "core/error.h"
#include "core/kernels/copy.h"
#include "core/kernels/elements_cuda.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
// Copies and zeros are the runtime's: its copy engines and kernels run at the memory's speed. Rows
// are ours. A gather moves bytes whatever they mean, so its element is a word of 16 bytes and one
// kernel serves all types; a scatter adds, so its element is a pack of one type.
//
//            words    0        1        ...   31       | 32 ...
//   p = 0    warp 0   lane 0   lane 1   ...   lane 31  | next block of columns
//   p = 1    warp 1   lane 0   lane 1   ...   lane 31  |
//   ...                                                             8 rows a block
//
// All lanes of a warp read the same row number, which is one access. Rows that are picked lie far
// apart, but each is read in pieces of 512 bytes, so no sector is read for a part of its bytes.

constexpr int kThreads = 256;

// ---- 9. Rungs ----------------------------------------------------------------------------------
// 1. A thread a row. Lanes are a row apart: a warp's instruction touches 32 sectors for 4 bytes of
//    each. Lesson: the loop over columns belongs to neighbouring lanes, not to one thread.
template <typename Word>
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    gather_thread_per_row(const Word* x, const int32_t* row, Word* y, int64_t P, int64_t words) {
  const int64_t p = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= P) return;
  const int64_t from = row[p];
  for (int64_t w = 0; w < words; ++w) y[p * words + w] = from < 0 ? Word() : x[from * words + w];
}

// 2. A warp a row, a lane an element of 2 or 4 bytes: gather_words of a small word, below. Lesson:
//    coalesced is not yet enough: 64 bytes an instruction are too few to keep memory busy.

// ---- 10. Production kernels --------------------------------------------------------------------
// 3. The same with words of 16 bytes. y[p] = x[row[p]], or 0.
template <typename Word>
__global__ void MB_LAUNCH_BOUNDS(kMapThreads)
    gather_words(const Word* x, const int32_t* row, Word* y, int64_t P, int64_t words) {
  const RowPlace<1> place;
  if (place.h >= words) return;
#pragma unroll 1
  for (int64_t p = place.t; p < P; p += place.row_step) {
    const int64_t from = row[p];
    Word word{};
    if (from >= 0) word = x[from * words + place.h];
    y[p * words + place.h] = word;
  }
}

// dx[row[p]] += dy[p]; or, where dx is all zeros, 0 + dy[p], which saves reading them. (The sum turns
// -0 into 0, as the reference does.) No two p name one row, so no two threads meet.
template <int N, typename E>
__global__ void MB_LAUNCH_BOUNDS(kMapThreads)
    scatter_add_packs(const E* dy, const int32_t* row, E* dx, int64_t P, int64_t H,
                      bool accumulate) {
  const RowPlace<N> place;
  if (place.h >= H) return;
#pragma unroll 1
  for (int64_t p = place.t; p < P; p += place.row_step) {
    const int64_t to = row[p];
    if (to < 0) continue;
    const Pack<E, N> r_dy = load_pack<N>(dy + p * H + place.h);
    Floats<N> sum{};
    if (accumulate) sum = load_floats<N>(dx + to * H + place.h);
    store_floats<N>(dx + to * H + place.h, sum + floats_of(r_dy));
  }
}

// ---- 11. Launchers -----------------------------------------------------------------------------
template <typename Word>
void launch_gather(const GatherRows& args, Stream stream, int rung) {
  const auto row_bytes = args.y.dim(1) * static_cast<int64_t>(size_of(args.y.dtype()));
  const int64_t P = args.y.dim(0), words = row_bytes / static_cast<int64_t>(sizeof(Word));
  const auto* x = static_cast<const Word*>(args.x.raw());
  const int32_t* row = cuda_data<int32_t>(args.row);
  auto* y = static_cast<Word*>(args.y.raw());
  if (rung == 1) {
    launch(gather_thread_per_row<Word>, ceil_div(P, kThreads), kThreads, 0, stream, x, row, y, P,
           words);
  } else {
    launch(gather_words<Word>, row_grid(P, words), row_block(), 0, stream, x, row, y, P, words);
  }
}

template <typename E>
void launch_scatter(const ScatterAddRows& args, Stream stream) {
  const int64_t P = args.dy.dim(0), H = args.dy.dim(1);
  const E* dy = cuda_data<E>(args.dy);
  const int32_t* row = cuda_data<int32_t>(args.row);
  E* dx = cuda_data<E>(args.dx);
  constexpr int N = kPack<E>;
  if (aligned_to(16, dy, dx) && H % N == 0) {
    launch(scatter_add_packs<N, E>, row_grid(P, H / N), row_block(), 0, stream, dy, row, dx, P, H,
           args.accumulate);
  } else {
    launch(scatter_add_packs<1, E>, row_grid(P, H), row_block(), 0, stream, dy, row, dx, P, H,
           args.accumulate);
  }
}

cudaStream_t cuda_stream(Stream stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

void copy_async(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind, Stream stream) {
  if (bytes == 0) return;
  MB_CUDA(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, cuda_stream(stream)));
}

// ---- 12. Instantiations ------------------------------------------------------------------------
template void launch_gather<uint4>(const GatherRows&, Stream, int);     // 16 bytes at a time
template void launch_gather<uint32_t>(const GatherRows&, Stream, int);  // an f32
template void launch_gather<uint16_t>(const GatherRows&, Stream, int);  // a bf16 or f16
template void launch_scatter<float>(const ScatterAddRows&, Stream);
template void launch_scatter<__nv_bfloat16>(const ScatterAddRows&, Stream);
template void launch_scatter<__half>(const ScatterAddRows&, Stream);

}  // namespace

void copy_bytes_cuda(const Operand& from, const Operand& to, Stream stream) {
  copy_async(to.raw(), from.raw(), to.bytes(), cudaMemcpyDeviceToDevice, stream);
}

void zero_bytes_cuda(const Operand& to, Stream stream) {
  if (to.bytes() == 0) return;
  MB_CUDA(cudaMemsetAsync(to.raw(), 0, static_cast<size_t>(to.bytes()), cuda_stream(stream)));
}

void copy_to_device_cuda(const void* host, const Operand& to, Stream stream) {
  copy_async(to.raw(), host, to.bytes(), cudaMemcpyHostToDevice, stream);
}

void copy_to_host_cuda(const Operand& from, void* host, Stream stream) {
  copy_async(host, from.raw(), from.bytes(), cudaMemcpyDeviceToHost, stream);
  MB_CUDA(cudaStreamSynchronize(cuda_stream(stream)));
}

void gather_rows_cuda_rung(const GatherRows& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kGatherRowsRungs, "gather_rows: rung {} of {}", rung,
            kGatherRowsRungs);
  const int64_t element = static_cast<int64_t>(size_of(args.x.dtype()));
  const bool words =
      aligned_to(16, args.x.raw(), args.y.raw()) && args.x.dim(1) * element % 16 == 0;
  if (rung == 3 && words) {
    launch_gather<uint4>(args, stream, rung);
  } else if (element == sizeof(float)) {
    launch_gather<uint32_t>(args, stream, rung);
  } else {
    launch_gather<uint16_t>(args, stream, rung);
  }
}

void gather_rows_cuda(const GatherRows& args, Stream stream) {
  gather_rows_cuda_rung(args, stream, kGatherRowsRungs);
}

void scatter_add_rows_cuda(const ScatterAddRows& args, Stream stream) {
  if (!args.accumulate) zero_bytes_cuda(args.dx, stream);
  with_cuda_element(args.dx.dtype(), [&](auto e) { launch_scatter<decltype(e)>(args, stream); });
}

}  // namespace minibert
