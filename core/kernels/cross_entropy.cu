// cross_entropy.cu: log-sum-exp of vocabulary-wide rows in one pass, and their gradient in place.
// Called by cross_entropy.cpp. Easy to break: a thread whose logits are all -infinity must add
// nothing to the row, while a NaN among them must reach it; section 8 says how.
// Test: ctest -R kernels_cross_entropy_cuda.
#include <climits>
#include <cmath>

#include "core/cuda_kernel.h"
#include "core/error.h"
#include "core/kernels/cross_entropy.h"
#include "core/ptx.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
//   A row is 30,528 logits, 61 KB in 16 bits: one block a row, and a thread takes 16-byte packs:
//
//     row p   | t0 | t1 | t2 | ... | t255 | t0 | t1 | ...        8 logits of 16 bits, 4 of f32
//
//   Forward reads each logit once. A thread keeps the largest logit so far and sum exp(x - largest);
//   a pack with a larger one rescales the sum first: sum' = sum exp(old - new) + sum of the pack.
//   At the end the block finds the largest of all, and each thread rescales its sum to it.
//     - largest starts at -infinity, and stays there while a thread sees nothing else: -inf - -inf
//       would be NaN. So what is subtracted, the shift, is then 0: exp(-inf) = 0, as it should be,
//       and exp(NaN) is still NaN. A row of nothing but -infinity gets its NaN at the end, where
//       the threads' sums are rescaled by exp(-inf - -inf).
//     - hits: which is the *first* of the largest logits? A thread notes the pack in which its
//       largest rose last; the block takes the lowest such pack among those that hold the row's
//       largest; one thread looks that pack up again. One comparison a pack, not one a logit.
//     - the row's loss waits in a workspace [P]; a last block adds all rows, in an order that P
//       alone decides, and adds the counts: nothing is atomic, nothing goes to the host.
//   Backward is one pass: read a pack, write it, perhaps to the same place. A label's element takes
//   expm1, which keeps the digits where softmax is nearly 1; its thread still has the logit.
//   exp: in 16 bits ex2.approx with 1/ln 2 multiplied in, some 1e-6 off, less than a hundredth of
//   what the type's rounding costs; in f32 expf. Either way it is one MUFU operation a logit. An H100's
//   SM does 16 a clock, and its share of the memory's rate is 7 logits of 16 bits. So memory bounds both
//   passes: forward moves size_of(E) bytes a logit, backward twice that.
//   Narrow rows (next-sentence prediction has 2 classes) get a block of one warp.
// ---- 9. Rungs ----------------------------------------------------------------------------------
//   1  a thread a row: neighbouring threads read addresses 61 KB apart, a 32-byte sector for each
//      logit, and a few hundred rows keep a few hundred threads busy.
//   2  a block a row, forward in two passes: whole sectors, the device is full, but the row comes
//      from L2 a second time, an element a thread.
//   3  forward online: one pass, still an element a thread. Backward has one pass anyway.
//   4  production (of backward, 3): 16 bytes a thread.

constexpr int kMaxThreads = 256;
constexpr float kInfinity = INFINITY;
constexpr float kLog2e = 1.44269504f;

/// The arguments in the kernels' types.
template <typename E>
struct Forward {
  const E* logits;
  const int32_t* label;
  float* lse;
  LossCounts* rows;  // [P], what each row counts
  int64_t P, V;
  int classes;
};
template <typename E>
struct Backward {
  const E* logits;
  const int32_t* label;
  const float *lse, *dy, *scale;
  E* dlogits;
  int64_t P, V;
  int classes;
};

template <typename E>
__device__ __forceinline__ float exp_of(float x) {
  if constexpr (std::is_same_v<E, float>) {
    return expf(x);
  } else {
    return exp2_approx(x * kLog2e);
  }
}

/// Stores a row's lse and what it counts, given max, sum and the number of the first largest logit.
template <typename E>
__device__ __forceinline__ void finish_row(const Forward<E>& f, int64_t p, int32_t label,
                                           float largest, double sum, int first) {
  const double lse = largest + log(sum);
  f.lse[p] = static_cast<float>(lse);
  const double of_label = to_float(f.logits[p * f.V + label]);
  f.rows[p] = {lse - of_label, 1, lse == lse && first == label ? 1 : 0};
}
template <typename E>
__device__ __forceinline__ void ignore_row(const Forward<E>& f, int64_t p) {
  f.lse[p] = 0;
  f.rows[p] = {0, 0, 0};
}

template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kMaxThreads) forward_thread_a_row(Forward<E> f) {
  const int64_t p = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (p >= f.P) return;
  const int32_t label = f.label[p];
  if (label < 0) return ignore_row(f, p);
  const E* const x = f.logits + p * f.V;
  float largest = -kInfinity;
  int first = 0;
  for (int v = 0; v < f.classes; ++v) {
    const float logit = to_float(x[v]);
    if (logit > largest) largest = logit, first = v;
  }
  double sum = 0;
  for (int v = 0; v < f.classes; ++v) sum += exp_of<E>(to_float(x[v]) - largest);
  finish_row(f, p, label, largest, sum, first);
}

template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kMaxThreads) forward_two_passes(Forward<E> f) {
  MB_SHARED(float, s_largest, kWarpSize);
  MB_SHARED(double, s_sum, kWarpSize);
  MB_SHARED(int, s_first, kWarpSize);
  const int64_t p = blockIdx.x;
  const int32_t label = f.label[p];
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  if (label < 0) {
    if (thread == 0) ignore_row(f, p);
    return;
  }
  const E* const x = f.logits + p * f.V;
  float largest = -kInfinity;
  int first = INT_MAX;
  for (int v = thread; v < f.classes; v += threads) {
    const float logit = to_float(x[v]);
    if (logit > largest) largest = logit, first = v;
  }
  const float of_row = block_max(largest, s_largest, -kInfinity);
  first = -block_max(largest == of_row ? -first : -INT_MAX, s_first, -INT_MAX);
  float sum = 0;
  for (int v = thread; v < f.classes; v += threads) sum += exp_of<E>(to_float(x[v]) - of_row);
  const double total = block_sum(static_cast<double>(sum), s_sum);
  if (thread == 0) finish_row(f, p, label, of_row, total, first);
}

template <typename E>
__global__ void MB_LAUNCH_BOUNDS(kMaxThreads) backward_thread_a_row(Backward<E> b) {
  const int64_t p = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (p >= b.P) return;
  const int32_t label = b.label[p];
  const float scale = *b.scale * *b.dy, lse = b.lse[p];
  for (int64_t v = 0; v < b.V; ++v) {
    float dx = 0;
    if (label >= 0 && v < b.classes) {
      const float x = to_float(b.logits[p * b.V + v]) - lse;
      dx = (v == label ? expm1f(x) : exp_of<E>(x)) * scale;
    }
    b.dlogits[p * b.V + v] = from_float<E>(dx);
  }
}

// ---- 10. Production kernels ---------------------------------------------------------------------
/// Logits v .. v + N - 1 as floats, -infinity from `classes` on: its exp is 0.
template <int N, typename E>
__device__ __forceinline__ void load_logits(const E* x, int v, int classes, float (&logits)[N]) {
  const Pack<E, N> pack = load_pack<N>(x + v);
#pragma unroll
  for (int j = 0; j < N; ++j) logits[j] = to_float(pack[j]);
  if (v + N <= classes) return;
#pragma unroll
  for (int j = 0; j < N; ++j)
    if (v + j >= classes) logits[j] = -kInfinity;
}

/// A row in one pass, N logits a thread; 1 is rung 3, and for rows that are not aligned.
template <typename E, int N>
__global__ void MB_LAUNCH_BOUNDS(kMaxThreads) forward_online(Forward<E> f) {
  MB_SHARED(float, s_largest, kWarpSize);
  MB_SHARED(double, s_sum, kWarpSize);
  MB_SHARED(int, s_first, kWarpSize);
  const int64_t p = blockIdx.x;
  const int32_t label = f.label[p];
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  if (label < 0) {
    if (thread == 0) ignore_row(f, p);
    return;
  }
  const E* const x = f.logits + p * f.V;
  float largest = -kInfinity, sum = 0;
  int risen = INT_MAX;  // where the pack begins in which the largest rose last
  for (int v = thread * N; v < f.classes; v += threads * N) {
    float logits[N];
    load_logits(x, v, f.classes, logits);
    float larger = largest;
#pragma unroll
    for (int j = 0; j < N; ++j) larger = fmaxf(larger, logits[j]);
    if (larger > largest) risen = v;
    const float shift = larger == -kInfinity ? 0 : larger;
    sum *= exp_of<E>(largest - shift);
#pragma unroll
    for (int j = 0; j < N; ++j) sum += exp_of<E>(logits[j] - shift);
    largest = larger;
  }
  const float of_row = block_max(largest, s_largest, -kInfinity);
  const int first_pack = -block_max(largest == of_row ? -risen : -INT_MAX, s_first, -INT_MAX);
  const double scaled = static_cast<double>(sum) * exp_of<E>(largest - of_row);
  const double total = block_sum(scaled, s_sum);
  if (thread != 0) return;
  int first = first_pack;
  while (first < f.classes && !(to_float(x[first]) == of_row)) ++first;
  finish_row(f, p, label, of_row, total, first);
}

/// Adds up the rows: thread t those from t on in steps of kMaxThreads, then a tree. One block.
__global__ void MB_LAUNCH_BOUNDS(kMaxThreads)
    add_rows(const LossCounts* rows, int64_t P, LossSite site, float* loss) {
  MB_SHARED(double, s_double, kWarpSize);
  MB_SHARED(int64_t, s_int, kWarpSize);
  double loss_sum = 0;
  int64_t labelled = 0, correct = 0;
  for (int64_t p = threadIdx.x; p < P; p += kMaxThreads) {
    loss_sum += rows[p].loss_sum;
    labelled += rows[p].rows;
    correct += rows[p].correct;
  }
  loss_sum = block_sum(loss_sum, s_double);
  labelled = block_sum(labelled, s_int);
  correct = block_sum(correct, s_int);
  if (threadIdx.x != 0) return;
  *loss = static_cast<float>(*site.scale * loss_sum);
  if (site.counts == nullptr) return;
  site.counts->loss_sum += loss_sum;
  site.counts->rows += labelled;
  site.counts->correct += correct;
}

/// A row, N elements a thread; 1 is rung 2, and for rows that are not aligned. V is a
/// multiple of N.
template <typename E, int N>
__global__ void MB_LAUNCH_BOUNDS(kMaxThreads) backward_row(Backward<E> b) {
  const int64_t p = blockIdx.x;
  const int32_t label = b.label[p];
  const int classes = label < 0 ? 0 : b.classes;  // of an ignored row, all is padding
  const int V = static_cast<int>(b.V);
  const E* const x = b.logits + p * b.V;
  E* const dlogits = b.dlogits + p * b.V;
  const float scale = *b.scale * *b.dy, lse = b.lse[p];
  for (int v = static_cast<int>(threadIdx.x) * N; v < V; v += static_cast<int>(blockDim.x) * N) {
    Pack<E, N> pack = {};
    if (v < classes) {
      float logits[N];
      load_logits(x, v, classes, logits);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        const float softmax = exp_of<E>(logits[j] - lse);
        pack[j] = from_float<E>(softmax * scale);
      }
      if (v + N > classes) {  // not 0 yet where lse is NaN
#pragma unroll
        for (int j = 0; j < N; ++j)
          if (v + j >= classes) pack[j] = from_float<E>(0.0f);
      }
      if (label >= v && label < v + N) {
        float of_label = 0;
#pragma unroll
        for (int j = 0; j < N; ++j)  // no logits[label - v]: it would put the array into memory
          if (label == v + j) of_label = logits[j];
        const E dx_of_label = from_float<E>(expm1f(of_label - lse) * scale);
#pragma unroll
        for (int j = 0; j < N; ++j)
          if (label == v + j) pack[j] = dx_of_label;
      }
    }
    store_pack(dlogits + v, pack);
  }
}

// ---- 11. Launchers -----------------------------------------------------------------------------
/// Threads of a row's block: whole warps, as many as have a pack.
int threads_of(int64_t packs) {
  const int64_t warps = ceil_div(packs, kWarpSize), most = kMaxThreads / kWarpSize;
  return static_cast<int>((warps < most ? warps : most) * kWarpSize);
}

template <typename E, int N>
void forward_online_rows(const Forward<E>& f, Stream stream) {
  launch(forward_online<E, N>, f.P, threads_of(ceil_div(f.classes, N)), 0, stream, f);
}

template <typename E>
void forward(const CrossEntropyForward& args, LossCounts* rows, Stream stream, int rung) {
  const Forward<E> f{.logits = cuda_data<E>(args.logits),
                     .label = args.label.data<int32_t>(),
                     .lse = cuda_data<float>(args.lse),
                     .rows = rows,
                     .P = args.logits.dim(0),
                     .V = args.logits.dim(1),
                     .classes = static_cast<int>(args.classes)};
  if (rung == 1) {
    launch(forward_thread_a_row<E>, ceil_div(f.P, kMaxThreads), kMaxThreads, 0, stream, f);
  } else if (rung == 2) {
    launch(forward_two_passes<E>, f.P, threads_of(f.classes), 0, stream, f);
  } else if (rung == 3 || !packs(f.logits, f.V * static_cast<int64_t>(sizeof(E)))) {
    forward_online_rows<E, 1>(f, stream);
  } else {
    forward_online_rows<E, kPack<E>>(f, stream);
  }
}

template <typename E>
void backward(const CrossEntropyBackward& args, Stream stream, int rung) {
  const Backward<E> b{.logits = cuda_data<E>(args.logits),
                      .label = args.label.data<int32_t>(),
                      .lse = cuda_data<float>(args.lse),
                      .dy = cuda_data<float>(args.dy),
                      .scale = args.scale,
                      .dlogits = cuda_data<E>(args.dlogits),
                      .P = args.logits.dim(0),
                      .V = args.logits.dim(1),
                      .classes = static_cast<int>(args.classes)};
  const int64_t row_bytes = b.V * static_cast<int64_t>(sizeof(E));
  if (rung == 1) {
    launch(backward_thread_a_row<E>, ceil_div(b.P, kMaxThreads), kMaxThreads, 0, stream, b);
  } else if (rung == 2 || !packs(b.logits, row_bytes) || !packs(b.dlogits, row_bytes)) {
    launch(backward_row<E, 1>, b.P, threads_of(b.V), 0, stream, b);
  } else {
    launch(backward_row<E, kPack<E>>, b.P, threads_of(b.V / kPack<E>), 0, stream, b);
  }
}

}  // namespace

void cross_entropy_forward_cuda_rung(const CrossEntropyForward& args, LossCounts* rows,
                                     Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kCrossEntropyForwardRungs, "cross_entropy_forward: rung {} of {}",
            rung, kCrossEntropyForwardRungs);
  with_cuda_element(args.logits.dtype(),
                    [&](auto e) { forward<decltype(e)>(args, rows, stream, rung); });
  launch(add_rows, 1, kMaxThreads, 0, stream, rows, args.logits.dim(0), args.site,
         cuda_data<float>(args.loss));
}

void cross_entropy_backward_cuda_rung(const CrossEntropyBackward& args, Stream stream, int rung) {
  MB_ASSERT(rung >= 1 && rung <= kCrossEntropyBackwardRungs,
            "cross_entropy_backward: rung {} of {}", rung, kCrossEntropyBackwardRungs);
  with_cuda_element(args.logits.dtype(),
                    [&](auto e) { backward<decltype(e)>(args, stream, rung); });
}

void cross_entropy_forward_cuda(const CrossEntropyForward& args, LossCounts* rows, Stream stream) {
  cross_entropy_forward_cuda_rung(args, rows, stream, kCrossEntropyForwardRungs);
}

void cross_entropy_backward_cuda(const CrossEntropyBackward& args, Stream stream) {
  cross_entropy_backward_cuda_rung(args, stream, kCrossEntropyBackwardRungs);
}

// ---- 12. Instantiations: f32, bf16 and f16, by with_cuda_element ----------------------------------

}  // namespace minibert
