// optimizer.cu: the optimizer's passes on the device, each one launch over all tensors.
// Called by optimizer.cpp. Easy to break: optimizer_apply must recompute exactly the u whose norm
// optimizer_moments took, so both call update_of(); a sum's order must not depend on where the buffers
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
//   Bytes a weight, direction adam            read      written
//     piece_square_sums                       g                   4
//     optimizer_moments                       w g m v   m v      24     u is not stored but computed
//     optimizer_apply                         w m v     w        16     again: 8 bytes less
//     working copy in 16 bits                           E         2
//     LAMB in all                                                46
//     optimizer_step                          w g m v   w m v    28 (+ 2)
//   LAMB's two passes cannot be one: the ratio needs |w| and |u| of the whole tensor first.
//   A direction is a template's argument, so none pays for another's operands; options of a direction
//   are scalars of the piece (PieceFactors).
//   Each pass walks the pieces in the opposite direction of the one before (squares up, moments
//   down, apply up): what the last one touched last is still in L2, all of it for a small model.
//   Root and division are IEEE's. optimizer_moments has 190 instructions for a warp's 128 weights on
//   sm_90a: 48 clocks of an SM's four schedulers, where an H100's memory takes 210 for their 3,072
//   bytes. So memory hides the arithmetic, squares in double included, and accuracy costs nothing.
//   Every block reads state.applied first: a skipped step costs an empty launch, and no host.
// ---- 9. Rungs ----------------------------------------------------------------------------------
//   of optimizer_moments and optimizer_apply
//   1  a launch per tensor: a few hundred launches, most of them for a vector that fills one block;
//      each ends before the next starts. Bound by launches and tails.
//   2  one launch for all pieces: the device stays full; an element a thread, so four times the
//      load and store instructions for the same bytes.
//   3  production: packs of four elements.

constexpr int kThreads = 256;
/// Blocks that share a multiprocessor: 6 of 40 registers a thread. LANS has two updates to keep, and a
/// rung that takes single elements more addresses.
template <int kWidth, Direction kDirection>
inline constexpr int kBlocks = kDirection == Direction::lans ? 4
                               : kWidth == 4                 ? 6
                                                             : 5;
/// Blocks of a launch in rung 1, which does not know the tensor's size on the host.
constexpr int kTensorBlocks = 64;

/// OptimizerArgs in the kernels' types, the range's ends, and what is the same for each element.
struct Update {
  float* w;
  const float* g;
  float *m, *v;  // v: null for momentum
  OptimizerTables tables;
  int32_t first, end;  // pieces
  SquareSums* sums;
  TensorNorms* norms;
  const StepState* state;
  const float* gradient_scales;
  UpdateRule rule;
  float b1, share, b2, one_minus_b2, eps,
      eps_inside;  // share: of a gradient in m, if no rate is in it
};

/// A piece and section 1's letters. Without what only a pass that writes weights needs: PieceFactors.
template <Direction kDirection>
struct Piece {
  __device__ __forceinline__ Piece(const Update& u, const OptimizerPiece& piece)
      : w(u.w + piece.offset),
        g(u.g + piece.offset),
        m(u.m + piece.offset),
        v(kDirection == Direction::momentum ? nullptr : u.v + piece.offset),
        n(piece.count),
        c(u.gradient_scales ? u.gradient_scales[piece.tensor] : u.state->gradient_scale),
        cm(u.state->m_correction),
        cv(u.state->v_correction),
        decay(u.tables.tensors[piece.tensor].decay) {}

  float* w;
  const float* g;
  float *m, *v;
  int n;
  float c, cm, cv, decay;
};

__device__ __forceinline__ PieceFactors factors_of(const Update& u, const OptimizerPiece& piece) {
  const TensorNorms* norms = u.rule.ratio_of == RatioOf::none ? nullptr : u.norms + piece.tensor;
  return piece_factors(u.rule, *u.state, u.tables.tensors[piece.tensor], 0, norms);
}

// ---- Elements. The products that are fused are written as fmaf and no others can be: moments and the
// weights of optimizer_step have the bits of the CPU's levels v3 and v4.

/// Moments of an element. Turns its gradient g into g', or of momentum into d with its `share`.
template <Direction kDirection>
__device__ __forceinline__ void update_moments(const Update& u, const Piece<kDirection>& p,
                                               float share, float w, float& g, float& m, float& v) {
  g *= p.c;
  if constexpr (kDirection == Direction::momentum) {
    g = share * fmaf(p.decay, w, g);
    m = fmaf(u.b1, m, g);
  } else {
    m = fmaf(u.b1, m, share * g);
    v = fmaf(u.b2, v, u.one_minus_b2 * (g * g));
  }
}

/// sqrt(v cv) + eps, or sqrt(v cv + eps).
template <Direction kDirection>
__device__ __forceinline__ float root(const Update& u, const Piece<kDirection>& p, float v) {
  return sqrtf(fmaf(v, p.cv, u.eps_inside)) + u.eps;
}

/// u.
template <Direction kDirection>
__device__ __forceinline__ float update_of(const Update& u, const Piece<kDirection>& p, float m,
                                           float v, float w) {
  if constexpr (kDirection == Direction::momentum) return m;
  return fmaf(p.decay, w, m * p.cm / root(u, p, v));
}

/// q, of lans.
__device__ __forceinline__ float gradient_update_of(const Update& u,
                                                    const Piece<Direction::lans>& p, float g,
                                                    float v, float w) {
  return fmaf(p.decay, w, g / root(u, p, v));
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
template <int kWidth, Direction kDirection>
__device__ __forceinline__ bool aligned_to(const Piece<kDirection>& p) {
  return aligned_to<kWidth>(p.w) && aligned_to<kWidth>(p.g) && aligned_to<kWidth>(p.m) &&
         (kDirection == Direction::momentum || aligned_to<kWidth>(p.v));
}

template <Direction kDirection, int N>
__device__ __forceinline__ Pack<float, N> load_second_moment(const Piece<kDirection>& p, int i) {
  if constexpr (kDirection == Direction::momentum) return {};
  return load_pack<N>(p.v + i);
}
template <Direction kDirection, int N>
__device__ __forceinline__ void store_moments(const Piece<kDirection>& p, int i,
                                              const Pack<float, N>& m, const Pack<float, N>& v) {
  store_pack(p.m + i, m);
  if constexpr (kDirection != Direction::momentum) store_pack(p.v + i, v);
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
template <int kWidth, Direction kDirection>
__device__ __forceinline__ void moments_of_piece(const Update& u, int32_t number) {
  MB_SHARED(double, s_scratch, kWarpSize);
  const Piece<kDirection> p(u, u.tables.pieces[number]);
  double weight = 0, update = 0, gradient_update = 0;
  for_elements<kWidth, 1>(p.n, aligned_to<kWidth>(p), [&](int i, auto width) {
    constexpr int N = decltype(width)::value;
    Pack<float, N> g = load_pack_once<N>(p.g + i), m = load_pack<N>(p.m + i);
    const Pack<float, N> w = load_pack<N>(p.w + i);
    Pack<float, N> v = load_second_moment<kDirection, N>(p, i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      update_moments<kDirection>(u, p, u.share, w[j], g[j], m[j], v[j]);
      weight = add_square(weight, w[j]);
      update = add_square(update, update_of<kDirection>(u, p, m[j], v[j], w[j]));
      if constexpr (kDirection == Direction::lans)
        gradient_update = add_square(gradient_update, gradient_update_of(u, p, g[j], v[j], w[j]));
    }
    store_moments<kDirection, N>(p, i, m, v);
  });
  weight = block_sum(weight, s_scratch);
  update = block_sum(update, s_scratch);
  if constexpr (kDirection == Direction::lans)
    gradient_update = block_sum(gradient_update, s_scratch);
  if (threadIdx.x == 0) u.sums[number] = {weight, update, gradient_update};
}

template <int kWidth, Direction kDirection, typename E>
__device__ __forceinline__ void apply_to_piece(const Update& u, E* working, int32_t number) {
  const OptimizerPiece piece = u.tables.pieces[number];
  const Piece<kDirection> p(u, piece);
  const PieceFactors f = factors_of(u, piece);
  E* const copy = working + piece.offset;
  const bool aligned = aligned_to<kWidth>(p) && aligned_to<kWidth>(copy);
  for_elements<kWidth, 1>(p.n, aligned, [&](int i, auto width) {
    constexpr int N = decltype(width)::value;
    const Pack<float, N> m = load_pack<N>(p.m + i);
    const Pack<float, N> v = load_second_moment<kDirection, N>(p, i);
    Pack<float, N> w = load_pack<N>(p.w + i), g{};
    if constexpr (kDirection == Direction::lans) g = load_pack_once<N>(p.g + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float old = w[j];
      w[j] = fmaf(-f.step, update_of<kDirection>(u, p, m[j], v[j], old), old);
      if constexpr (kDirection == Direction::lans)
        w[j] = fmaf(-f.gradient_step, gradient_update_of(u, p, g[j] * p.c, v[j], old), w[j]);
    }
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

template <Direction kDirection>
__global__ void MB_LAUNCH_BOUNDS(kThreads, kBlocks<1, kDirection>)
    optimizer_moments_of_tensor(Update u, int32_t tensor) {
  if (u.state->applied == 0) return;
  for_pieces_of(u, tensor, [&](int32_t i) { moments_of_piece<1, kDirection>(u, i); });
}

template <Direction kDirection, typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads, kBlocks<1, kDirection>)
    optimizer_apply_to_tensor(Update u, E* working, int32_t tensor) {
  if (u.state->applied == 0) return;
  for_pieces_of(u, tensor, [&](int32_t i) { apply_to_piece<1, kDirection>(u, working, i); });
}

// ---- 10. Production kernels ---------------------------------------------------------------------
// kWidth 4; 1 is rung 2.
template <int kWidth, Direction kDirection>
__global__ void MB_LAUNCH_BOUNDS(kThreads, kBlocks<kWidth, kDirection>)
    optimizer_moments_kernel(Update u) {
  if (u.state->applied == 0) return;
  moments_of_piece<kWidth, kDirection>(u, u.end - 1 - static_cast<int32_t>(blockIdx.x));
}

template <int kWidth, Direction kDirection, typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads, kBlocks<kWidth, kDirection>)
    optimizer_apply_kernel(Update u, E* working) {
  if (u.state->applied == 0) return;
  apply_to_piece<kWidth, kDirection>(u, working, u.first + static_cast<int32_t>(blockIdx.x));
}

template <Direction kDirection, typename E>
__global__ void MB_LAUNCH_BOUNDS(kThreads, kBlocks<4, kDirection>)
    optimizer_step_kernel(Update u, E* working) {
  if (u.state->applied == 0) return;
  const OptimizerPiece piece = u.tables.pieces[u.end - 1 - static_cast<int32_t>(blockIdx.x)];
  Piece<kDirection> p(u, piece);
  const PieceFactors f = factors_of(u, piece);
  if (u.rule.decay_first) p.decay = 0;  // it is in f.keep
  const float share = kDirection == Direction::momentum ? f.share : u.share;
  E* const copy = working + piece.offset;
  for_elements<4, 1>(p.n, aligned_to<4>(p) && aligned_to<4>(copy), [&](int i, auto width) {
    constexpr int N = decltype(width)::value;
    Pack<float, N> g = load_pack_once<N>(p.g + i), w = load_pack<N>(p.w + i);
    Pack<float, N> m = load_pack<N>(p.m + i), v = load_second_moment<kDirection, N>(p, i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      update_moments<kDirection>(u, p, share, w[j], g[j], m[j], v[j]);
      float change = update_of<kDirection>(u, p, m[j], v[j], w[j]);
      if constexpr (kDirection == Direction::momentum)
        if (u.rule.nesterov) change = fmaf(u.b1, m[j], g[j]);
      w[j] = fmaf(-f.step, change, f.keep * w[j]);
    }
    store_moments<kDirection, N>(p, i, m, v);
    store_pack(p.w + i, w);
    store_working(copy + i, w);
  });
}

__global__ void MB_LAUNCH_BOUNDS(kThreads) optimizer_norms_kernel(Update u) {
  MB_SHARED(double, s_scratch, kWarpSize);
  if (u.state->applied == 0) return;
  const int32_t number = u.end - 1 - static_cast<int32_t>(blockIdx.x);
  const Piece<Direction::momentum> p(u, u.tables.pieces[number]);
  double weight = 0, gradient = 0;
  for_elements<4, 2>(p.n, aligned_to<4>(p.w) && aligned_to<4>(p.g), [&](int i, auto width) {
    constexpr int N = decltype(width)::value;
    const Pack<float, N> w = load_pack<N>(p.w + i), g = load_pack<N>(p.g + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      weight = add_square(weight, w[j]);
      gradient = add_square(gradient, g[j] * p.c);
    }
  });
  weight = block_sum(weight, s_scratch);
  gradient = block_sum(gradient, s_scratch);
  if (threadIdx.x == 0) u.sums[number] = {weight, gradient, 0};
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

__global__ void MB_LAUNCH_BOUNDS(kSumThreads, 8)
    optimizer_ratios_kernel(OptimizerTables tables, const SquareSums* piece_sums,
                            const StepState* state, UpdateRule rule, TensorNorms* norms) {
  MB_SHARED(double, s_weight, kStaged);
  MB_SHARED(double, s_update, kStaged);
  MB_SHARED(double, s_gradient, kStaged);
  if (state->applied == 0) return;
  const OptimizerTensor& t = tables.tensors[blockIdx.x];
  SquareSums total;
  for (int begin = 0; begin < t.pieces; begin += kStaged) {
    const int n = t.pieces - begin < kStaged ? t.pieces - begin : kStaged;
    const SquareSums* from = piece_sums + t.first_piece + begin;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kSumThreads) {
      s_weight[i] = from[i].weight;
      s_update[i] = from[i].update;
      s_gradient[i] = from[i].gradient_update;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int i = 0; i < n; ++i) {
        total.weight += s_weight[i];
        total.update += s_update[i];
        total.gradient_update += s_gradient[i];
      }
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) norms[blockIdx.x] = norms_of(rule, t, total);
}

__global__ void MB_LAUNCH_BOUNDS(kSumThreads) gradient_scales_kernel(GradientScalesArgs args) {
  if (args.state->applied == 0) return;
  const int k = static_cast<int>(blockIdx.x * kSumThreads + threadIdx.x);
  if (k < args.tables.tensor_count) args.scales[k] = gradient_scale(args, args.tensor_sums[k]);
}

// ---- 11. Launchers -----------------------------------------------------------------------------
Update arguments_of(const OptimizerArgs& args) {
  const UpdateRule& rule = args.rule;
  return {.w = cuda_data<float>(args.masters),
          .g = cuda_data<float>(args.gradients),
          .m = cuda_data<float>(args.first_moment),
          .v = has_second_moment(rule) ? cuda_data<float>(args.second_moment) : nullptr,
          .tables = args.tables,
          .first = args.range.first,
          .end = args.range.first + args.range.count,
          .sums = args.piece_sums,
          .norms = args.norms,
          .state = args.state,
          .gradient_scales = args.gradient_scales,
          .rule = rule,
          .b1 = static_cast<float>(rule.beta1),
          .share = static_cast<float>(gradient_share(rule)),
          .b2 = static_cast<float>(rule.beta2),
          .one_minus_b2 = static_cast<float>(1 - rule.beta2),
          .eps = rule.eps_inside_root ? 0 : rule.eps,
          .eps_inside = rule.eps_inside_root ? rule.eps : 0};
}

template <Direction kDirection>
void moments(const OptimizerArgs& args, Stream stream, int rung) {
  const Update u = arguments_of(args);
  if (rung == 1) {
    for (int32_t k = 0; k < args.tables.tensor_count; ++k)
      launch(optimizer_moments_of_tensor<kDirection>, kTensorBlocks, kThreads, 0, stream, u, k);
  } else {
    launch(rung == 2 ? optimizer_moments_kernel<1, kDirection>
                     : optimizer_moments_kernel<4, kDirection>,
           args.range.count, kThreads, 0, stream, u);
  }
}

template <Direction kDirection, typename E>
void apply(const OptimizerArgs& args, Stream stream, int rung) {
  const Update u = arguments_of(args);
  E* const working = cuda_data<E>(args.working);
  if (rung == 1) {
    for (int32_t k = 0; k < args.tables.tensor_count; ++k)
      launch(optimizer_apply_to_tensor<kDirection, E>, kTensorBlocks, kThreads, 0, stream, u,
             working, k);
  } else {
    launch(rung == 2 ? optimizer_apply_kernel<1, kDirection, E>
                     : optimizer_apply_kernel<4, kDirection, E>,
           args.range.count, kThreads, 0, stream, u, working);
  }
}

template <Direction kDirection, typename E>
void step(const OptimizerArgs& args, Stream stream) {
  launch(optimizer_step_kernel<kDirection, E>, args.range.count, kThreads, 0, stream,
         arguments_of(args), cuda_data<E>(args.working));
}

template <Direction kDirection>
struct DirectionTag {
  static constexpr Direction value = kDirection;
};
/// body(DirectionTag) of the rule's direction.
template <typename Body>
void with_direction(Direction direction, const Body& body) {
  if (direction == Direction::momentum) return body(DirectionTag<Direction::momentum>());
  if (direction == Direction::lans) return body(DirectionTag<Direction::lans>());
  body(DirectionTag<Direction::adam>());
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

void gradient_scales_cuda(const GradientScalesArgs& args, Stream stream) {
  launch(gradient_scales_kernel, (args.tables.tensor_count + kSumThreads - 1) / kSumThreads,
         kSumThreads, 0, stream, args);
}

void optimizer_norms_cuda(const OptimizerArgs& args, Stream stream) {
  launch(optimizer_norms_kernel, args.range.count, kThreads, 0, stream, arguments_of(args));
}

void optimizer_moments_cuda_rung(const OptimizerArgs& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kOptimizerRungs, "optimizer_moments: rung {} of {}", rung,
            kOptimizerRungs);
  with_direction(args.rule.direction,
                 [&](auto direction) { moments<decltype(direction)::value>(args, stream, rung); });
}

void optimizer_ratios_cuda(const OptimizerArgs& args, Stream stream) {
  launch(optimizer_ratios_kernel, args.tables.tensor_count, kSumThreads, 0, stream, args.tables,
         args.piece_sums, args.state, args.rule, args.norms);
}

void optimizer_apply_cuda_rung(const OptimizerArgs& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kOptimizerRungs, "optimizer_apply: rung {} of {}", rung,
            kOptimizerRungs);
  with_direction(args.rule.direction, [&](auto direction) {
    with_cuda_element(args.working.dtype(), [&](auto e) {
      apply<decltype(direction)::value, decltype(e)>(args, stream, rung);
    });
  });
}

void optimizer_moments_cuda(const OptimizerArgs& args, Stream stream) {
  optimizer_moments_cuda_rung(args, stream, kOptimizerRungs);
}

void optimizer_apply_cuda(const OptimizerArgs& args, Stream stream) {
  optimizer_apply_cuda_rung(args, stream, kOptimizerRungs);
}

void optimizer_step_cuda(const OptimizerArgs& args, Stream stream) {
  with_cuda_element(args.working.dtype(), [&](auto e) {
    args.rule.direction == Direction::momentum
        ? step<Direction::momentum, decltype(e)>(args, stream)
        : step<Direction::adam, decltype(e)>(args, stream);
  });
}

// ---- 12. Instantiations: directions and working copies in f32, bf16, f16, by the helpers above -----

}  // namespace minibert
