// optimizer.cu: the optimizer's passes on the device, each one launch over all tensors.
// Called by optimizer.cpp. Easy to break: lamb_apply must recompute exactly the u whose norm
// lamb_moments took, so both call direction(); a sum's order must not depend on where the buffers
// lie, so an unaligned piece is dealt to the threads as an aligned one is.
// Test: ctest -R kernels_optimizer_cuda.
#include <cmath>

#include "core/cuda_kernel.h"
#include "core/error.h"
#include "core/kernels/optimizer.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
//   One block takes one piece: the work is cut by the arena's chunks, not by tensors, so a launch
//   fills the device whatever the tensors' sizes, and 16,384 elements keep a block busy for long.
//
//     tensors   |--word embeddings--------------------------|b|--query-------|b|...
//     pieces    |----0----|----1----|----2----|----3----|-4-|5|-6-|----7----|8|...   a block each
//     a piece   | t0 | t1 | t2 | ... | t255 | t0 | t1 | ...        4 elements a thread: 16 bytes
//
//   Each stream of f32 is read and written 16 bytes a thread, 512 neighbouring bytes a warp. The
//   working copy takes 8 bytes a thread: a warp's 256 bytes are whole sectors all the same, and two
//   packs of f32 a thread would touch each sector twice instead.
//   Bytes a weight                            read      written
//     piece_square_sums                       g                   4
//     lamb_moments                            w g m v   m v      24     u is not stored, but made
//     lamb_apply                              w m v     w        16     again: 8 bytes less
//     working copy in 16 bits                           E         2
//     LAMB in all                                                46
//     adamw_step                              w g m v   w m v    28 (+ 2)
//   LAMB's two passes cannot be one: the ratio needs |w| and |u| of the whole tensor first.
//   Each pass walks the pieces in the opposite direction of the one before (squares up, moments
//   down, apply up): what the last one touched last is still in L2, all of it for a small model.
//   About 60 instructions a weight, IEEE root and division included, against some 250 that memory
//   would leave time for: the arithmetic hides, 32 warps an SM are enough to keep memory busy.
//   Squares need few doubles: converting and adding is one FMA a square, exact before it is added.
//   Every block reads state.applied first: a skipped step costs an empty launch, and no host.
// ---- 9. Rungs ----------------------------------------------------------------------------------
//   of lamb_moments and lamb_apply
//   1  a launch per tensor: a few hundred launches, most of them for a vector that fills one block;
//      each ends before the next starts. Bound by launches and tails.
//   2  one launch for all pieces: the device stays full; an element a thread, so four times the
//      load and store instructions for the same bytes.
//   3  production: packs of four elements.

constexpr int kThreads = 256;
constexpr int kTensorBlocks =
    64;  // of a launch in rung 1: the host does not know the tensor's size

/// OptimizerArgs in the kernels' types, the range's ends, and what is the same for each element.
struct Update {
  float* w;
  const float* g;
  float *m, *v;
  OptimizerTables tables;
  int32_t first, end;  // pieces
  SquareSums* sums;
  const TensorNorms* norms;
  const StepState* state;
  float b1, one_minus_b1, b2, one_minus_b2, eps;
  bool decay_first;
};

/// A piece and section 1's letters.
struct Piece {
  __device__ __forceinline__ Piece(const Update& u, const OptimizerPiece& piece)
      : w(u.w + piece.offset),
        g(u.g + piece.offset),
        m(u.m + piece.offset),
        v(u.v + piece.offset),
        n(piece.count),
        c(u.state->gradient_scale),
        cm(u.state->m_correction),
        cv(u.state->v_correction),
        decay(u.tables.tensors[piece.tensor].decay) {}

  float* w;
  const float* g;
  float *m, *v;
  int n;
  float c, cm, cv, decay;
};

// ---- Elements. The products that are fused are written as fmaf and no others can be: m, v and the
// weights of adamw_step have the bits of the CPU's levels v3 and v4.
__device__ __forceinline__ void update_moments(const Update& u, const Piece& p, float g, float& m,
                                               float& v) {
  g *= p.c;
  m = fmaf(u.b1, m, u.one_minus_b1 * g);
  v = fmaf(u.b2, v, u.one_minus_b2 * (g * g));
}

/// r + decay w.
__device__ __forceinline__ float direction(const Update& u, const Piece& p, float m, float v,
                                           float w, float decay) {
  const float r = m * p.cm / (sqrtf(v * p.cv) + u.eps);
  return fmaf(decay, w, r);
}

/// sum + x^2; the square is exact.
__device__ __forceinline__ double add_square(double sum, float x) {
  const double wide = x;
  return fma(wide, wide, sum);
}

// ---- Elements of a piece to threads ---------------------------------------------------------------
template <int kWidth>
struct Width {
  static constexpr int value = kWidth;
};

/// Thread t's elements: groups t, t + 256, ... of kWidth neighbours. body(i, Width<kWidth>) for a
/// whole group from element i on, body(i, Width<1>) for each element of the last, short one; where
/// the buffers are not `aligned` to groups, for each element, in the same order.
template <int kWidth, int kUnroll, typename Body>
__device__ __forceinline__ void for_elements(int n, bool aligned, const Body& body) {
  int group = static_cast<int>(threadIdx.x);
  const int whole = aligned ? n / kWidth : 0;
#pragma unroll kUnroll
  for (; group < whole; group += kThreads) body(kWidth * group, Width<kWidth>());
  for (int i = kWidth * group; i < n; i += kWidth * kThreads) {
    const int end = i + kWidth < n ? i + kWidth : n;
    for (int k = i; k < end; ++k) body(k, Width<1>());
  }
}

/// Whether packs of kWidth elements may be read from here on.
template <int kWidth, typename T>
__device__ __forceinline__ bool aligned_to(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % (sizeof(T) * kWidth) == 0;
}
template <int kWidth>
__device__ __forceinline__ bool aligned_to(const Piece& p) {
  return aligned_to<kWidth>(p.w) && aligned_to<kWidth>(p.g) && aligned_to<kWidth>(p.m) &&
         aligned_to<kWidth>(p.v);
}

template <typename E, int N>
__device__ __forceinline__ void store_working(E* working, const Pack<float, N>& w) {
  Pack<E, N> copy;
#pragma unroll
  for (int j = 0; j < N; ++j) copy[j] = from_float<E>(w[j]);
  store_pack(working, copy);
}
/// In f32 the masters are the working copy.
template <int N>
__device__ __forceinline__ void store_working(float*, const Pack<float, N>&) {}

// ---- One piece, by a block -----------------------------------------------------------------------
template <int kWidth>
__device__ __forceinline__ void moments_of_piece(const Update& u, int32_t number) {
  MB_SHARED(double, s_scratch, kWarpSize);
  const Piece p(u, u.tables.pieces[number]);
  double weight = 0, update = 0;
  for_elements<kWidth, 1>(p.n, aligned_to<kWidth>(p), [&](int i, auto width) {
    constexpr int N = decltype(width)::value;
    const Pack<float, N> g = load_pack_once<N>(p.g + i), w = load_pack<N>(p.w + i);
    Pack<float, N> m = load_pack<N>(p.m + i), v = load_pack<N>(p.v + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      update_moments(u, p, g[j], m[j], v[j]);
      weight = add_square(weight, w[j]);
      update = add_square(update, direction(u, p, m[j], v[j], w[j], p.decay));
    }
    store_pack(p.m + i, m);
    store_pack(p.v + i, v);
  });
  weight = block_sum(weight, s_scratch);
  update = block_sum(update, s_scratch);
  if (threadIdx.x == 0) u.sums[number] = {weight, update};
}

template <int kWidth, typename E>
__device__ __forceinline__ void apply_to_piece(const Update& u, E* working, int32_t number) {
  const OptimizerPiece piece = u.tables.pieces[number];
  const Piece p(u, piece);
  E* const copy = working + piece.offset;
  const float step = u.state->learning_rate * u.norms[piece.tensor].trust_ratio;
  const bool aligned = aligned_to<kWidth>(p) && aligned_to<kWidth>(copy);
  for_elements<kWidth, 1>(p.n, aligned, [&](int i, auto width) {
    constexpr int N = decltype(width)::value;
    const Pack<float, N> m = load_pack<N>(p.m + i), v = load_pack<N>(p.v + i);
    Pack<float, N> w = load_pack<N>(p.w + i);
#pragma unroll
    for (int j = 0; j < N; ++j)
      w[j] = fmaf(-step, direction(u, p, m[j], v[j], w[j], p.decay), w[j]);
    store_pack(p.w + i, w);
    store_working(copy + i, w);
  });
}

/// body(number) for this block's pieces of a tensor: rung 1.
template <typename Body>
__device__ __forceinline__ void for_pieces_of(const Update& u, int32_t tensor, const Body& body) {
  const OptimizerTensor& t = u.tables.tensors[tensor];
  const int32_t first = t.first_piece > u.first ? t.first_piece : u.first;
  const int32_t end = t.first_piece + t.pieces < u.end ? t.first_piece + t.pieces : u.end;
  for (int32_t i = first + static_cast<int32_t>(blockIdx.x); i < end; i += kTensorBlocks) body(i);
}

__global__ void MB_LAUNCH_BOUNDS(kThreads) lamb_moments_of_tensor(Update u, int32_t tensor) {
  if (u.state->applied == 0) return;
  for_pieces_of(u, tensor, [&](int32_t i) { moments_of_piece<1>(u, i); });
}

template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    lamb_apply_to_tensor(Update u, E* working, int32_t tensor) {
  if (u.state->applied == 0) return;
  for_pieces_of(u, tensor, [&](int32_t i) { apply_to_piece<1>(u, working, i); });
}

// ---- 10. Production kernels ---------------------------------------------------------------------
// kWidth 4; 1 is rung 2.
template <int kWidth>
__global__ void MB_LAUNCH_BOUNDS(kThreads) lamb_moments_kernel(Update u) {
  if (u.state->applied == 0) return;
  moments_of_piece<kWidth>(u, u.end - 1 - static_cast<int32_t>(blockIdx.x));
}

template <int kWidth, typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads) lamb_apply_kernel(Update u, E* working) {
  if (u.state->applied == 0) return;
  apply_to_piece<kWidth>(u, working, u.first + static_cast<int32_t>(blockIdx.x));
}

template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads) adamw_kernel(Update u, E* working) {
  if (u.state->applied == 0) return;
  const OptimizerPiece piece = u.tables.pieces[u.end - 1 - static_cast<int32_t>(blockIdx.x)];
  const Piece p(u, piece);
  E* const copy = working + piece.offset;
  const float lr = u.state->learning_rate;
  const float keep = u.decay_first ? static_cast<float>(1 - static_cast<double>(lr) * p.decay) : 1;
  const float decay = u.decay_first ? 0 : p.decay;
  for_elements<4, 1>(p.n, aligned_to<4>(p) && aligned_to<4>(copy), [&](int i, auto width) {
    constexpr int N = decltype(width)::value;
    const Pack<float, N> g = load_pack_once<N>(p.g + i);
    Pack<float, N> w = load_pack<N>(p.w + i), m = load_pack<N>(p.m + i), v = load_pack<N>(p.v + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      update_moments(u, p, g[j], m[j], v[j]);
      w[j] = fmaf(-lr, direction(u, p, m[j], v[j], w[j], decay), keep * w[j]);
    }
    store_pack(p.m + i, m);
    store_pack(p.v + i, v);
    store_pack(p.w + i, w);
    store_working(copy + i, w);
  });
}

__global__ void MB_LAUNCH_BOUNDS(kThreads)
    square_sums_kernel(const float* x, OptimizerTables tables, int32_t first, double* sums) {
  MB_SHARED(double, s_scratch, kWarpSize);
  const int32_t number = first + static_cast<int32_t>(blockIdx.x);
  const OptimizerPiece piece = tables.pieces[number];
  x += piece.offset;
  double sum = 0;
  // Unrolled, or a thread would have one load of 16 bytes under way: too few for a pass that only
  // reads.
  for_elements<4, 4>(piece.count, aligned_to<4>(x), [&](int i, auto width) {
    constexpr int N = decltype(width)::value;
    const Pack<float, N> pack = load_pack<N>(x + i);
#pragma unroll
    for (int j = 0; j < N; ++j) sum = add_square(sum, pack[j]);
  });
  sum = block_sum(sum, s_scratch);
  if (threadIdx.x == 0) sums[number] = sum;
}

// ---- A tensor's sums of its pieces', by a block. The contract wants them added in order, so one
// thread adds; the others fetch what it adds, or it would wait for memory some 1,900 times (the word
// embeddings of BERT-large).
constexpr int kSumThreads = 128;
constexpr int kStaged = 1024;  // pieces

__global__ void MB_LAUNCH_BOUNDS(kSumThreads)
    tensor_sums_kernel(OptimizerTables tables, const double* piece_sums, double* tensor_sums) {
  MB_SHARED(double, s_sums, kStaged);
  const OptimizerTensor& t = tables.tensors[blockIdx.x];
  double sum = 0;
  for (int begin = 0; begin < t.pieces; begin += kStaged) {
    const int n = t.pieces - begin < kStaged ? t.pieces - begin : kStaged;
    const double* from = piece_sums + t.first_piece + begin;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kSumThreads) s_sums[i] = from[i];
    __syncthreads();
    if (threadIdx.x == 0)
      for (int i = 0; i < n; ++i) sum += s_sums[i];
    __syncthreads();
  }
  if (threadIdx.x == 0) tensor_sums[blockIdx.x] = sum;
}

__global__ void MB_LAUNCH_BOUNDS(kSumThreads)
    lamb_ratios_kernel(OptimizerTables tables, const SquareSums* piece_sums, const StepState* state,
                       TensorNorms* norms) {
  MB_SHARED(double, s_weight, kStaged);
  MB_SHARED(double, s_update, kStaged);
  if (state->applied == 0) return;
  const OptimizerTensor& t = tables.tensors[blockIdx.x];
  double weight = 0, update = 0;
  for (int begin = 0; begin < t.pieces; begin += kStaged) {
    const int n = t.pieces - begin < kStaged ? t.pieces - begin : kStaged;
    const SquareSums* from = piece_sums + t.first_piece + begin;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kSumThreads) {
      s_weight[i] = from[i].weight;
      s_update[i] = from[i].update;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int i = 0; i < n; ++i) {
        weight += s_weight[i];
        update += s_update[i];
      }
    }
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  weight = sqrt(weight);
  update = sqrt(update);
  norms[blockIdx.x] = {weight, update, trust_ratio(t.adapt, weight, update)};
}

// ---- 11. Launchers -----------------------------------------------------------------------------
Update update_of(const OptimizerArgs& args) {
  return {.w = cuda_data<float>(args.masters),
          .g = cuda_data<float>(args.gradients),
          .m = cuda_data<float>(args.first_moment),
          .v = cuda_data<float>(args.second_moment),
          .tables = args.tables,
          .first = args.range.first,
          .end = args.range.first + args.range.count,
          .sums = args.piece_sums,
          .norms = args.norms,
          .state = args.state,
          .b1 = static_cast<float>(args.adam.beta1),
          .one_minus_b1 = static_cast<float>(1 - args.adam.beta1),
          .b2 = static_cast<float>(args.adam.beta2),
          .one_minus_b2 = static_cast<float>(1 - args.adam.beta2),
          .eps = args.adam.eps,
          .decay_first = args.adam.decay_first};
}

template <typename E>
void apply(const OptimizerArgs& args, Stream stream, int rung) {
  const Update u = update_of(args);
  E* const working = cuda_data<E>(args.working);
  if (rung == 1) {
    for (int32_t k = 0; k < args.tables.tensor_count; ++k)
      launch(lamb_apply_to_tensor<E>, kTensorBlocks, kThreads, 0, stream, u, working, k);
  } else {
    launch(rung == 2 ? lamb_apply_kernel<1, E> : lamb_apply_kernel<4, E>, args.range.count,
           kThreads, 0, stream, u, working);
  }
}

template <typename E>
void adamw(const OptimizerArgs& args, Stream stream) {
  launch(adamw_kernel<E>, args.range.count, kThreads, 0, stream, update_of(args),
         cuda_data<E>(args.working));
}

}  // namespace

void piece_square_sums_cuda(const SquareSumsArgs& args, Stream stream) {
  launch(square_sums_kernel, args.range.count, kThreads, 0, stream, cuda_data<float>(args.x),
         args.tables, args.range.first, args.piece_sums);
}

void tensor_square_sums_cuda(const SquareSumsArgs& args, Stream stream) {
  launch(tensor_sums_kernel, args.tables.tensor_count, kSumThreads, 0, stream, args.tables,
         args.piece_sums, args.tensor_sums);
}

void lamb_moments_cuda_rung(const OptimizerArgs& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kLambRungs, "lamb_moments: rung {} of {}", rung, kLambRungs);
  const Update u = update_of(args);
  if (rung == 1) {
    for (int32_t k = 0; k < args.tables.tensor_count; ++k)
      launch(lamb_moments_of_tensor, kTensorBlocks, kThreads, 0, stream, u, k);
  } else {
    launch(rung == 2 ? lamb_moments_kernel<1> : lamb_moments_kernel<4>, args.range.count, kThreads,
           0, stream, u);
  }
}

void lamb_ratios_cuda(const OptimizerArgs& args, Stream stream) {
  launch(lamb_ratios_kernel, args.tables.tensor_count, kSumThreads, 0, stream, args.tables,
         args.piece_sums, args.state, args.norms);
}

void lamb_apply_cuda_rung(const OptimizerArgs& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kLambRungs, "lamb_apply: rung {} of {}", rung, kLambRungs);
  with_cuda_element(args.working.dtype(), [&](auto e) { apply<decltype(e)>(args, stream, rung); });
}

void lamb_moments_cuda(const OptimizerArgs& args, Stream stream) {
  lamb_moments_cuda_rung(args, stream, kLambRungs);
}

void lamb_apply_cuda(const OptimizerArgs& args, Stream stream) {
  lamb_apply_cuda_rung(args, stream, kLambRungs);
}

void adamw_step_cuda(const OptimizerArgs& args, Stream stream) {
  with_cuda_element(args.working.dtype(), [&](auto e) { adamw<decltype(e)>(args, stream); });
}

// ---- 12. Instantiations: f32, bf16 and f16 working copies, by with_cuda_element -------------------

}  // namespace minibert
