// elementwise.cu: maps over elements on CUDA, sections 8 to 12 of the elementwise chapter; contract
// and mathematics: elementwise.h. Called by elementwise.cpp. Easy to get wrong: an output may be an
// input, so a thread reads all that it needs before it writes, and no pointer is __restrict__.
// Test: ctest -R kernels_elementwise_cuda.
#include "core/kernels/elements_cuda.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/gelu_cuda.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
// One kernel serves all maps; what it computes of an element is a struct of its own, inlined.
// A thread has one pack of 16 bytes, 4 or 8 neighbouring elements, of each operand:
//
//   element  0..7   8..15  16..23  ...   2040..2047 | 2048 ...          (16-bit types)
//   thread   0      1      2       ...   255        | next block
//
// Maps with a vector for each row, or a row number for each row, need to know their row: there a
// warp has 32 neighbouring packs of one row, and a block those columns of 8 rows (elements_cuda.h).
//
// An SM's 2,048 threads ask for 32 KB an operand: enough for the memory of an H100 (cast.cu, section
// 8). GELU in a 16-bit type takes about 25 instructions for the 4 bytes of an element, most of what
// an SM can issue in that time: hence the fast exponential and division. Philox takes 16.

constexpr int kThreads = 256;

// What the maps compute: of 0, 1 or 2 inputs.
template <Gelu kKind>
struct GeluMap {
  static constexpr int kInputs = 1;
  __device__ float operator()(float x) const { return gelu<kKind>(x); }
};
template <Gelu kKind>
struct GeluSlopeMap {
  static constexpr int kInputs = 2;
  __device__ float operator()(float x, float dy) const { return dy * gelu_slope<kKind>(x); }
};
struct TanhMap {
  static constexpr int kInputs = 1;
  __device__ float operator()(float x) const { return tanhf(x); }
};
struct TanhSlopeMap {
  static constexpr int kInputs = 2;
  __device__ float operator()(float y, float dy) const { return dy * (1.0f - y * y); }
};
struct AddMap {
  static constexpr int kInputs = 2;
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct MultiplyMap {
  static constexpr int kInputs = 2;
  __device__ float operator()(float a, float b) const { return a * b; }
};
struct ScaleMap {
  static constexpr int kInputs = 1;
  float factor;
  __device__ float operator()(float x) const { return x * factor; }
};
struct FillMap {
  static constexpr int kInputs = 0;
  float value;
  __device__ float operator()() const { return value; }
};
struct FillFromMap {
  static constexpr int kInputs = 0;
  const float* scalar;
  __device__ float operator()() const { return *scalar; }
};

// ---- 9. Rungs ----------------------------------------------------------------------------------
// The ladder of cast.cu, up to its second rung: with two or three operands a thread has enough under
// way with one pack of each. Its first rung serves operands that are not aligned (N = 1 below).

// ---- 10. Production kernels --------------------------------------------------------------------
// Elements i .. i + N - 1.
template <int N, typename E, typename Map>
__device__ __forceinline__ void map_some(const E* a, const E* b, E* y, int64_t i, bool accumulate,
                                         const Map& map) {
  Pack<E, N> r_a, r_b, r_y;
  if constexpr (Map::kInputs >= 1) r_a = load_pack<N>(a + i);
  if constexpr (Map::kInputs >= 2) r_b = load_pack<N>(b + i);
  if (accumulate) r_y = load_pack<N>(y + i);
  Floats<N> value;
  if constexpr (Map::kInputs == 0) {
#pragma unroll
    for (int j = 0; j < N; ++j) value[j] = map();
  } else if constexpr (Map::kInputs == 1) {
    const Floats<N> x = floats_of(r_a);
#pragma unroll
    for (int j = 0; j < N; ++j) value[j] = map(x[j]);
  } else {
    const Floats<N> x = floats_of(r_a), z = floats_of(r_b);
#pragma unroll
    for (int j = 0; j < N; ++j) value[j] = map(x[j], z[j]);
  }
  if (accumulate) value = floats_of(r_y) + value;
  store_floats<N>(y + i, value);
}

// y (+)= map(a, b) on n elements.
template <int N, typename E, typename Map>
__global__ void MB_LAUNCH_BOUNDS(kThreads)
    map_elements(const E* a, const E* b, E* y, int64_t n, bool accumulate, Map map) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (i + N <= n) map_some<N>(a, b, y, i, accumulate, map);
  if constexpr (N > 1) {  // what is left of the last pack: one element a thread of the last block
    const int64_t rest = n % N;
    if (blockIdx.x + 1 == gridDim.x && threadIdx.x < rest)
      map_some<1>(a, b, y, n - rest + threadIdx.x, accumulate, map);
  }
}

// y[t, h] = x[t, h] + bias[h].
template <int N, typename E>
__global__ void MB_LAUNCH_BOUNDS(kMapThreads)
    add_bias_rows(const E* x, const E* bias, E* y, int64_t T, int64_t H) {
  const RowPlace<N> place;
  const int64_t h = place.h;
  if (h >= H) return;
  const Floats<N> r_bias = load_floats<N>(bias + h);
#pragma unroll 1
  for (int64_t t = place.t; t < T; t += place.row_step)
    store_floats<N>(y + t * H + h, load_floats<N>(x + t * H + h) + r_bias);
}

// y[t, h] (+)= dropout(x[t, h]).
template <bool kPacked, typename E>
__global__ void MB_LAUNCH_BOUNDS(kMapThreads)
    drop_rows(const E* x, const int32_t* position, const int32_t* row_sample, Dropout site, E* y,
              int64_t T, int64_t H, bool accumulate) {
  constexpr int N = kPack<E>;  // also where elements move one by one: Philox serves four columns
  const RowPlace<N> place;
  const int64_t h = place.h;
  if (h >= H) return;
#pragma unroll 1
  for (int64_t t = place.t; t < T; t += place.row_step) {
    const int64_t at = t * H + h;
    const Floats<N> r_x = load_row<kPacked, N>(x + at, H - h);
    Floats<N> r_y{};
    if (accumulate) r_y = load_row<kPacked, N>(y + at, H - h);
    const Floats<N> value = RowDropout(site, position, row_sample, t)(r_x, h);
    store_row<kPacked>(y + at, accumulate ? r_y + value : value, H - h);
  }
}

// ---- 11. Launchers -----------------------------------------------------------------------------
template <typename E, typename Map>
void launch_map_of(const Operand& a, const Operand& b, const Operand& y, bool accumulate,
                   const Map& map, Stream stream) {
  const E *from = cuda_data_or_null<E>(a), *other = cuda_data_or_null<E>(b);
  E* to = cuda_data<E>(y);
  const int64_t n = y.numel();
  constexpr int N = kPack<E>;
  if (aligned_to(16, from, other, to)) {
    launch(map_elements<N, E, Map>, ceil_div(n, N * kThreads), kThreads, 0, stream, from, other, to,
           n, accumulate, map);
  } else {
    launch(map_elements<1, E, Map>, ceil_div(n, kThreads), kThreads, 0, stream, from, other, to, n,
           accumulate, map);
  }
}

template <typename Map>
void launch_map(const Operand& a, const Operand& b, const Operand& y, bool accumulate,
                const Map& map, Stream stream) {
  with_cuda_element(y.dtype(), [&](auto e) {
    launch_map_of<decltype(e), Map>(a, b, y, accumulate, map, stream);
  });
}

template <typename E>
void launch_add_bias(const AddBiasForward& args, Stream stream) {
  const E *x = cuda_data<E>(args.x), *bias = cuda_data<E>(args.bias);
  E* y = cuda_data<E>(args.y);
  const int64_t T = args.x.dim(0), H = args.x.dim(1);
  constexpr int N = kPack<E>;
  if (aligned_to(16, x, bias, y) && H % N == 0) {
    launch(add_bias_rows<N, E>, row_grid(T, H / N), row_block(), 0, stream, x, bias, y, T, H);
  } else {
    launch(add_bias_rows<1, E>, row_grid(T, H), row_block(), 0, stream, x, bias, y, T, H);
  }
}

template <typename E>
void launch_dropout(const DropoutRows& args, Stream stream) {
  const E* x = cuda_data<E>(args.x);
  E* y = cuda_data<E>(args.y);
  const int64_t T = args.x.dim(0), H = args.x.dim(1);
  constexpr int N = kPack<E>;
  const bool packed = aligned_to(16, x, y) && H % N == 0;
  launch(packed ? drop_rows<true, E> : drop_rows<false, E>, row_grid(T, ceil_div(H, N)),
         row_block(), 0, stream, x, cuda_data<int32_t>(args.position),
         cuda_data<int32_t>(args.row_sample), args.dropout, y, T, H, args.accumulate);
}

}  // namespace

void gelu_forward_cuda(const GeluForward& args, Stream stream) {
  if (args.kind == Gelu::erf) {
    launch_map(args.x, {}, args.y, false, GeluMap<Gelu::erf>(), stream);
  } else {
    launch_map(args.x, {}, args.y, false, GeluMap<Gelu::tanh>(), stream);
  }
}

void gelu_backward_cuda(const GeluBackward& args, Stream stream) {
  if (args.kind == Gelu::erf) {
    launch_map(args.x, args.dy, args.dx, args.accumulate, GeluSlopeMap<Gelu::erf>(), stream);
  } else {
    launch_map(args.x, args.dy, args.dx, args.accumulate, GeluSlopeMap<Gelu::tanh>(), stream);
  }
}

void tanh_forward_cuda(const TanhForward& args, Stream stream) {
  launch_map(args.x, {}, args.y, false, TanhMap(), stream);
}

void tanh_backward_cuda(const TanhBackward& args, Stream stream) {
  launch_map(args.y, args.dy, args.dx, args.accumulate, TanhSlopeMap(), stream);
}

void add_forward_cuda(const AddForward& args, Stream stream) {
  launch_map(args.a, args.b, args.y, false, AddMap(), stream);
}

void multiply_cuda(const MultiplyArgs& args, Stream stream) {
  launch_map(args.a, args.b, args.y, args.accumulate, MultiplyMap(), stream);
}

void scale_cuda(const ScaleArgs& args, Stream stream) {
  launch_map(args.x, {}, args.y, args.accumulate, ScaleMap{args.factor}, stream);
}

void fill_cuda(const FillArgs& args, Stream stream) {
  launch_map({}, {}, args.y, false, FillMap{args.value}, stream);
}

void fill_from_cuda(const FillFromArgs& args, Stream stream) {
  launch_map({}, {}, args.y, args.accumulate, FillFromMap{cuda_data<float>(args.scalar)}, stream);
}

void add_bias_cuda(const AddBiasForward& args, Stream stream) {
  with_cuda_element(args.y.dtype(), [&](auto e) { launch_add_bias<decltype(e)>(args, stream); });
}

void dropout_rows_cuda(const DropoutRows& args, Stream stream) {
  with_cuda_element(args.y.dtype(), [&](auto e) { launch_dropout<decltype(e)>(args, stream); });
}

// ---- 12. Instantiations ------------------------------------------------------------------------
namespace {

#define MB_MAP(Map)                                                                               \
  template void launch_map<Map>(const Operand&, const Operand&, const Operand&, bool, const Map&, \
                                Stream);  // for f32, bf16 and f16
MB_MAP(GeluMap<Gelu::erf>)
MB_MAP(GeluMap<Gelu::tanh>)
MB_MAP(GeluSlopeMap<Gelu::erf>)
MB_MAP(GeluSlopeMap<Gelu::tanh>)
MB_MAP(TanhMap)
MB_MAP(TanhSlopeMap)
MB_MAP(AddMap)
MB_MAP(MultiplyMap)
MB_MAP(ScaleMap)
MB_MAP(FillMap)
MB_MAP(FillFromMap)
#undef MB_MAP

#define MB_ROWS(E)                                                 \
  template void launch_add_bias<E>(const AddBiasForward&, Stream); \
  template void launch_dropout<E>(const DropoutRows&, Stream);
MB_ROWS(float)
MB_ROWS(__nv_bfloat16)
MB_ROWS(__half)
#undef MB_ROWS

}  // namespace
}  // namespace minibert
