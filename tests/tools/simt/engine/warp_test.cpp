// warp_test.cpp: shuffles, votes and reductions against plain formulas, for every mask and width that
// kernels use, under every schedule.
#include <algorithm>
#include <random>
#include <vector>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

struct Wide {  // 12 bytes, no power of two
  int a;
  float b;
  short c;
  bool operator==(const Wide&) const = default;
};
template <typename T>
T value_of_lane(int lane) {
  return static_cast<T>(lane * 3 + 1);
}
template <>
Wide value_of_lane<Wide>(int lane) {
  return {lane, lane * 0.5f, static_cast<short>(-lane)};
}
template <>
float4 value_of_lane<float4>(int lane) {
  return make_float4(lane, -lane, lane * 2, 1);
}

template <typename T>
bool equal(const T& a, const T& b) {
  if constexpr (std::is_same_v<T, Wide>) return a == b;  // its padding is nobody's
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

enum class Kind { index, up, down, exchange };

template <typename T>
__global__ void shuffles(Kind kind, int argument, int width, T* out) {
  const T x = value_of_lane<T>(lane_id());
  T y = x;
  if (kind == Kind::index) y = __shfl_sync(kFullMask, x, argument, width);
  if (kind == Kind::up) y = __shfl_up_sync(kFullMask, x, argument, width);
  if (kind == Kind::down) y = __shfl_down_sync(kFullMask, x, argument, width);
  if (kind == Kind::exchange) y = __shfl_xor_sync(kFullMask, x, argument, width);
  out[threadIdx.x] = y;
}

/// The lane that lane reads, as the programming guide words it.
int source_lane(Kind kind, int lane, int argument, int width) {
  const int first = lane / width * width, last = first + width - 1;
  switch (kind) {
    case Kind::index:
      return first + argument % width;
    case Kind::up:
      return lane - argument >= first ? lane - argument : lane;
    case Kind::down:
      return lane + argument <= last ? lane + argument : lane;
    case Kind::exchange:
      return (lane ^ argument) <= last ? (lane ^ argument) : lane;
  }
  return -1;
}

template <typename T>
void expect_shuffles() {
  for (const Kind kind : {Kind::index, Kind::up, Kind::down, Kind::exchange})
    for (const int width : {2, 4, 8, 16, 32})
      for (const int argument : {0, 1, 2, 5, 15, 16, 31}) {
        T out[32];
        launch(shuffles<T>, 1, 32, 0, {}, kind, argument, width, out);
        for (int lane = 0; lane < 32; ++lane) {
          const T wanted = value_of_lane<T>(source_lane(kind, lane, argument, width));
          EXPECT_TRUE(equal(out[lane], wanted))
              << "kind " << static_cast<int>(kind) << " width " << width << " argument " << argument
              << " lane " << lane;
        }
      }
}

TEST(SimtWarp, ShufflesOfAnySizeReadTheLaneOfTheGuide) {
  under_all_schedules([] { expect_shuffles<int>(); });
  expect_shuffles<double>();
  expect_shuffles<uint8_t>();
  expect_shuffles<Wide>();
  expect_shuffles<float4>();
}

__global__ void half_types(__half* h, __nv_bfloat16* b, float* sums) {
  h[lane_id()] = __shfl_down_sync(kFullMask, __float2half_rn(lane_id()), 1);
  b[lane_id()] = __shfl_xor_sync(kFullMask, __float2bfloat16_rn(lane_id()), 16);
  sums[0] = warp_sum(1.0f + lane_id());
  sums[1] = warp_max(lane_id() == 13 ? 100.0f : static_cast<float>(-lane_id()));
  sums[2] = warp_sum(lane_id());
}

TEST(SimtWarp, SixteenBitFloatsAndSumsOfTheKernelHeader) {
  under_all_schedules([] {
    __half h[32];
    __nv_bfloat16 b[32];
    float sums[3];
    launch(half_types, 1, 32, 0, {}, h, b, sums);
    for (int lane = 0; lane < 32; ++lane) {
      EXPECT_EQ(__half2float(h[lane]), std::min(lane + 1, 31));
      EXPECT_EQ(__bfloat162float(b[lane]), lane ^ 16);
    }
    EXPECT_EQ(sums[0], 528);
    EXPECT_EQ(sums[1], 100);
    EXPECT_EQ(sums[2], 496);
  });
}

__global__ void votes(unsigned mask, const int* predicates, unsigned* out) {
  const int lane = lane_id();
  if (!(mask >> lane & 1)) return;
  out[lane] = __ballot_sync(mask, predicates[lane]);
  out[32 + lane] = static_cast<unsigned>(__any_sync(mask, predicates[lane]));
  out[64 + lane] = static_cast<unsigned>(__all_sync(mask, predicates[lane]));
  out[96 + lane] = __match_any_sync(mask, static_cast<unsigned>(predicates[lane]));
}

TEST(SimtWarp, VotesCountTheLanesOfTheMaskAlone) {
  std::mt19937 random(1);
  for (const unsigned mask : {0xFFFFFFFFu, 0xFFFFu, 0x1u, 0xF0F0F0F0u, 0x80000001u}) {
    for (int round = 0; round < 20; ++round) {
      int predicates[32];
      const unsigned range = round < 2 ? 1 + static_cast<unsigned>(round) : 4;
      for (int& p : predicates) p = static_cast<int>(round == 0 ? 5 : random() % range);
      unsigned out[128] = {};
      launch(votes, 1, 32, 0, {}, mask, predicates, out);
      unsigned ballot = 0;
      bool any = false, all = true;
      for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        if (predicates[lane]) ballot |= 1u << lane;
        any |= predicates[lane] != 0;
        all &= predicates[lane] != 0;
      }
      for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        unsigned equal = 0;
        for (int other = 0; other < 32; ++other)
          if ((mask >> other & 1) && predicates[other] == predicates[lane]) equal |= 1u << other;
        EXPECT_EQ(out[lane], ballot);
        EXPECT_EQ(out[32 + lane], any);
        EXPECT_EQ(out[64 + lane], all);
        EXPECT_EQ(out[96 + lane], equal);
      }
    }
  }
}

__global__ void reductions(const int* values, int* out) {
  const int x = values[lane_id()];
  const unsigned u = static_cast<unsigned>(x);
  const int results[] = {redux_add(x),
                         redux_min(x),
                         redux_max(x),
                         static_cast<int>(redux_add(u)),
                         static_cast<int>(redux_min(u)),
                         static_cast<int>(redux_max(u)),
                         static_cast<int>(redux_or(u)),
                         static_cast<int>(__reduce_and_sync(kFullMask, u)),
                         static_cast<int>(__reduce_xor_sync(kFullMask, u))};
  for (int i = 0; i < 9; ++i) out[i * 32 + lane_id()] = results[i];
}

TEST(SimtWarp, ReductionsOfWholeNumbers) {
  std::mt19937 random(2);
  for (int round = 0; round < 10; ++round) {
    int values[32], out[9 * 32];
    for (int& x : values) x = static_cast<int>(random());
    launch(reductions, 1, 32, 0, {}, values, out);
    unsigned sum = 0, low = ~0u, high = 0, any = 0, all = ~0u, odd = 0;
    int least = values[0], most = values[0];
    for (const int x : values) {
      const unsigned u = static_cast<unsigned>(x);
      sum += u, any |= u, all &= u, odd ^= u;
      low = std::min(low, u), high = std::max(high, u);
      least = std::min(least, x), most = std::max(most, x);
    }
    const int wanted[] = {static_cast<int>(sum),
                          least,
                          most,
                          static_cast<int>(sum),
                          static_cast<int>(low),
                          static_cast<int>(high),
                          static_cast<int>(any),
                          static_cast<int>(all),
                          static_cast<int>(odd)};
    for (int i = 0; i < 9; ++i)
      for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(out[i * 32 + lane], wanted[i]) << i;
  }
}

// ---- Partial warps -----------------------------------------------------------------------------
__global__ void two_halves(int* out) {
  const int lane = lane_id();
  const unsigned mask = lane < 16 ? 0xFFFFu : 0xFFFF0000u;
  int x = lane;
  for (int i = 0; i < 3; ++i) x += __shfl_xor_sync(mask, x, 1 << i);
  if (lane >= 16) x = -__shfl_sync(mask, x, 31);
  out[lane] = x;
}

TEST(SimtWarp, HalvesOfAWarpMeetIndependently) {
  under_all_schedules([] {
    int out[32];
    launch(two_halves, 1, 32, 0, {}, out);
    for (int lane = 0; lane < 32; ++lane) {
      const int first = lane / 8 * 8;  // eight neighbours were added
      const int sum = lane < 16 ? 8 * first + 28 : -(8 * 24 + 28);
      EXPECT_EQ(out[lane], sum) << lane;
    }
  });
}

__global__ void from_outside(float* out) {
  if (lane_id() < 16) out[lane_id()] = __shfl_sync(0xFFFFu, 1.0f, 20);
}
__global__ void short_warp(int* out) {
  out[threadIdx.x] = __shfl_down_sync(kFullMask, static_cast<int>(threadIdx.x), 1);
}

TEST(SimtWarp, ALaneThatDoesNotTakePartGivesAllOnes) {
  float out[32];
  launch(from_outside, 1, 32, 0, {}, out);
  for (int lane = 0; lane < 16; ++lane) EXPECT_TRUE(std::isnan(out[lane]));
  int last[40];
  launch(short_warp, 1, 40, 0, {}, last);
  EXPECT_EQ(last[38], 39);
  EXPECT_EQ(last[39], -1) << "the block ends there: all bits set";
}

// ---- Faults ------------------------------------------------------------------------------------
template <int Fault>
__global__ void faulty(int* out) {
  const int lane = lane_id();
  if (Fault == 0) out[lane] = __shfl_sync(0xFFFEu, lane, 1);
  if (Fault == 1) out[lane] = __shfl_sync(kFullMask, lane, 1, 12);
  if (Fault == 2) out[lane] = lane < 7 ? __shfl_sync(kFullMask, lane, 1) : __any_sync(kFullMask, 1);
}

TEST(SimtWarp, WrongMasksWidthsAndMixedFunctionsAreReported) {
  int out[32];
  const std::string mask = report_of([&] { launch(faulty<0>, 1, 32, 0, {}, out); });
  EXPECT_HAS(mask, "__shfl_sync at tests/tools/simt/engine/warp_test.cpp:");
  EXPECT_HAS(mask, "the mask names lanes 1..15, and the caller is lane 0");
  EXPECT_HAS(report_of([&] { launch(faulty<1>, 1, 32, 0, {}, out); }), "width is 12");
  const std::string mixed = report_of([&] { launch(faulty<2>, 1, 32, 0, {}, out); });
  EXPECT_HAS(mixed, "different functions: __any_sync at");
  EXPECT_HAS(mixed, "but __shfl_sync at");
}

}  // namespace
}  // namespace minibert
