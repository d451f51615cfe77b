// warp.cu: what the lanes of a warp and the warps of a block do together: shuffles, votes, sums of
// whole numbers, named barriers, and the sums and maxima of core/cuda_kernel.h, whose order is fixed.
// Models: for shuffles the pseudo-code of PTX ISA 9.0, 9.7.9.6 (shfl.sync), else plain loops.
#include <algorithm>
#include <cmath>
#include <functional>

#include "core/ptx.h"
#include "tools/conformance/report.h"

namespace minibert::conformance {
namespace {

// ---- Shuffles ------------------------------------------------------------------------------------
enum class Shuffle { index, up, down, exclusive_or };

template <typename T>
__device__ T shuffled(Shuffle mode, T x, int by, int width) {
  if (mode == Shuffle::index) return __shfl_sync(kFullMask, x, by, width);
  if (mode == Shuffle::up) return __shfl_up_sync(kFullMask, x, static_cast<unsigned>(by), width);
  if (mode == Shuffle::down)
    return __shfl_down_sync(kFullMask, x, static_cast<unsigned>(by), width);
  return __shfl_xor_sync(kFullMask, x, by, width);
}
/// Block b shifts by b; of 64-bit values, both halves. `index` reads another lane in each lane.
template <typename T>
__global__ void shuffle(Shuffle mode, int width, const T* x, T* out) {
  const int lane = lane_id(), by = static_cast<int>(blockIdx.x);
  const int operand = mode == Shuffle::index ? (lane * 5 + by) % 64 : by;
  out[by * 32 + lane] = shuffled(mode, x[lane], operand, width);
}

int shuffle_source(Shuffle mode, int lane, int by, int width) {
  const int segment_mask = 32 - width, clamp = mode == Shuffle::up ? 0 : 31;
  const int most = (lane & segment_mask) | (clamp & ~segment_mask), least = lane & segment_mask;
  int source = 0;
  bool inside = false;
  switch (mode) {
    case Shuffle::index:
      source = least | ((lane * 5 + by) % 64 & ~segment_mask & 31);
      inside = source <= most;
      break;
    case Shuffle::up:
      source = lane - by, inside = source >= most;
      break;
    case Shuffle::down:
      source = lane + by, inside = source <= most;
      break;
    case Shuffle::exclusive_or:
      source = lane ^ by, inside = source <= most;
      break;
  }
  return inside ? source : lane;
}

template <typename T>
void run_shuffles(Report& report, const char* type) {
  Random random(3);
  std::vector<T> x(32);
  for (T& value : x) {
    uint32_t words[2] = {random.bits(), random.bits()};
    __builtin_memcpy(&value, words, sizeof value);
  }
  const Buffer<T> there(x);
  const std::pair<Shuffle, const char*> modes[] = {{Shuffle::index, "index"},
                                                   {Shuffle::up, "up"},
                                                   {Shuffle::down, "down"},
                                                   {Shuffle::exclusive_or, "xor"}};
  const auto words = [](const T* values, size_t count, std::vector<uint32_t>& to) {
    const auto* first = reinterpret_cast<const uint32_t*>(values);
    to.insert(to.end(), first, first + count * sizeof(T) / 4);
  };
  for (const auto& [mode, name] : modes) {
    std::vector<uint32_t> got, wanted;
    for (const int width : {2, 4, 8, 16, 32}) {
      const Buffer<T> out(32 * 32);
      launch(shuffle<T>, 32, 32, 0, {}, mode, width, there.data(), out.data());
      const std::vector<T> results = out.read();
      words(results.data(), results.size(), got);
      for (int by = 0; by < 32; ++by)
        for (int lane = 0; lane < 32; ++lane)
          words(&x[static_cast<size_t>(shuffle_source(mode, lane, by, width))], 1, wanted);
    }
    report.exact(text("shuffle %s of %s", name, type), got, wanted);
  }
}

// ---- Votes and sums of whole numbers ----------------------------------------------------------------
constexpr int kVotes = 13;

/// Block b: the warp's values x[b]. A row of `out` is one function's result in each lane.
__global__ void vote(const uint32_t* x, uint32_t* out) {
  const int lane = lane_id();
  const uint32_t value = x[blockIdx.x * 32 + lane];
  const auto number = static_cast<int32_t>(value);
  out += blockIdx.x * kVotes * 32 + lane;
  const auto put = [&](int row, uint32_t result) { out[row * 32] = result; };
  put(0, __ballot_sync(kFullMask, static_cast<int>(value & 1)));
  put(1, static_cast<uint32_t>(__any_sync(kFullMask, value % 64 == 0)));
  put(2, static_cast<uint32_t>(__all_sync(kFullMask, value % 64 != 0)));
  put(3, __match_any_sync(kFullMask, value % 4));
  put(4, redux_add(value));
  put(5, static_cast<uint32_t>(redux_add(number)));
  put(6, redux_min(value));
  put(7, static_cast<uint32_t>(redux_min(number)));
  put(8, redux_max(value));
  put(9, static_cast<uint32_t>(redux_max(number)));
  put(10, redux_or(value & 0x11111111u << (lane % 4)));
  // A part of the warp alone.
  uint32_t half = 0, odd = 0;
  if (lane < 16) {
    half = __ballot_sync(0x0000FFFFu, static_cast<int>(value >> 1 & 1));
  } else {
    half = __ballot_sync(0xFFFF0000u, static_cast<int>(value >> 2 & 1));
  }
  __syncwarp();
  if (lane % 2 == 1) odd = __shfl_xor_sync(0xAAAAAAAAu, value, 2);
  put(11, half);
  put(12, odd);
}

std::vector<uint32_t> votes_of(const uint32_t* x) {
  std::vector<uint32_t> all(kVotes * 32);
  const auto put = [&](int row, const std::function<uint32_t(int)>& of_lane) {
    for (int lane = 0; lane < 32; ++lane) all[row * 32 + lane] = of_lane(lane);
  };
  const auto mask_of = [&](const std::function<bool(int)>& is) {
    uint32_t mask = 0;
    for (int lane = 0; lane < 32; ++lane) mask |= static_cast<uint32_t>(is(lane)) << lane;
    return mask;
  };
  uint32_t sum = 0, any = 0;
  for (int lane = 0; lane < 32; ++lane) {
    sum += x[lane];
    any |= x[lane] & 0x11111111u << (lane % 4);
  }
  const bool some = std::any_of(x, x + 32, [](uint32_t v) { return v % 64 == 0; });
  const auto less = [](uint32_t a, uint32_t b) { return int32_t(a) < int32_t(b); };
  put(0, [&](int) { return mask_of([&](int i) { return x[i] & 1; }); });
  put(1, [&](int) { return some ? 1u : 0u; });
  put(2, [&](int) { return some ? 0u : 1u; });
  put(3, [&](int lane) { return mask_of([&](int i) { return x[i] % 4 == x[lane] % 4; }); });
  put(4, [&](int) { return sum; });
  put(5, [&](int) { return sum; });
  put(6, [&](int) { return *std::min_element(x, x + 32); });
  put(7, [&](int) { return *std::min_element(x, x + 32, less); });
  put(8, [&](int) { return *std::max_element(x, x + 32); });
  put(9, [&](int) { return *std::max_element(x, x + 32, less); });
  put(10, [&](int) { return any; });
  put(11, [&](int lane) {
    return mask_of(
        [&](int i) { return i / 16 == lane / 16 && (x[i] >> (lane < 16 ? 1 : 2) & 1) != 0; });
  });
  put(12, [&](int lane) { return lane % 2 == 1 ? x[lane ^ 2] : 0; });
  return all;
}

void run_votes(Report& report) {
  constexpr int kWarps = 16;
  Random random(11);
  std::vector<uint32_t> x(kWarps * 32), wanted;
  for (uint32_t& value : x) value = random.bits();
  x[0] = 0x80000000u, x[1] = 0x7FFFFFFFu;
  for (int warp = 0; warp < kWarps; ++warp) {
    const std::vector<uint32_t> all = votes_of(&x[static_cast<size_t>(warp) * 32]);
    wanted.insert(wanted.end(), all.begin(), all.end());
  }
  const Buffer<uint32_t> there(x), out(wanted.size());
  launch(vote, kWarps, 32, 0, {}, there.data(), out.data());
  report.exact("votes and sums of whole numbers", out.read(), wanted);
}

// ---- Named barriers --------------------------------------------------------------------------------
constexpr int kHandOvers = 12;

/// Warps 0 and 1 fill a buffer of two, warps 2 and 3 read the other: barriers 1, 2 say "full",
/// 3, 4 "empty".
__global__ void hand_over(uint32_t* out) {
  MB_SHARED(uint32_t[64], buffer, 2);
  const int t = thread_in_block() % 64;
  const bool producer = thread_in_block() < 64;
  for (int i = 0; i < kHandOvers; ++i) {
    const int which = i % 2;
    if (producer) {
      if (i >= 2) bar_sync(3 + which, 128);
      buffer[which][t] = static_cast<uint32_t>(1000 * i + t);
      bar_arrive(1 + which, 128);
    } else {
      bar_sync(1 + which, 128);
      out[i * 64 + t] = buffer[which][63 - t];
      if (i + 2 < kHandOvers) bar_arrive(3 + which, 128);
    }
  }
}

void run_barriers(Report& report) {
  std::vector<uint32_t> wanted;
  for (int i = 0; i < kHandOvers; ++i)
    for (int t = 0; t < 64; ++t) wanted.push_back(static_cast<uint32_t>(1000 * i + 63 - t));
  const Buffer<uint32_t> out(wanted.size());
  launch(hand_over, 1, 128, 0, {}, out.data());
  report.exact("named barriers", out.read(), wanted);
}

// ---- Sums and maxima in a fixed order ------------------------------------------------------------------
__global__ void reduce(const float* x, float* out) {
  MB_SHARED(float, scratch, 32);
  const int t = thread_in_block(), n = static_cast<int>(blockDim.x);
  const float value = x[t];
  out[t] = warp_sum(value);
  out[n + t] = warp_max(value);
  out[2 * n + t] = block_sum(value, scratch);
  out[3 * n + t] = block_max(value, scratch, -INFINITY);
}

/// Lanes 16 apart are added first, then 8, 4, 2, 1: in f32.
float tree(const float* x, int count, bool maximum) {
  float lanes[32];
  for (int i = 0; i < 32; ++i) lanes[i] = i < count ? x[i] : maximum ? -INFINITY : 0.0f;
  for (int distance = 16; distance > 0; distance /= 2)
    for (int i = 0; i < distance; ++i)
      lanes[i] = maximum ? std::max(lanes[i], lanes[i + distance]) : lanes[i] + lanes[i + distance];
  return lanes[0];
}

void run_sums(Report& report) {
  Random random(23);
  for (const int threads : {32, 160, 1024}) {
    std::vector<float> x(static_cast<size_t>(threads));
    for (float& value : x) value = random.normal();
    std::vector<double> wanted;
    for (const bool whole_block : {false, true})
      for (const bool maximum : {false, true}) {
        std::vector<float> warps;
        for (int warp = 0; warp < threads / 32; ++warp)
          warps.push_back(tree(&x[static_cast<size_t>(warp) * 32], 32, maximum));
        const float all = tree(warps.data(), static_cast<int>(warps.size()), maximum);
        for (int t = 0; t < threads; ++t) wanted.push_back(whole_block ? all : warps[t / 32]);
      }
    const Buffer<float> there(x), out(wanted.size());
    launch(reduce, 1, threads, 0, {}, there.data(), out.data());
    report.exact(text("sums and maxima of %d threads", threads), out.read(), wanted);
  }
}

}  // namespace

void run_warp(Report& report) {
  run_shuffles<uint32_t>(report, "32 bits");
  run_shuffles<double>(report, "64 bits");
  run_votes(report);
  run_barriers(report);
  run_sums(report);
}

}  // namespace minibert::conformance
