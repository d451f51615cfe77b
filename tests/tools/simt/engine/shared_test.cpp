// shared_test.cpp: shared memory: what a block finds in it, where arrays lie, and what is refused.
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

__global__ void first_look(int* bad, uint64_t* addresses) {
  MB_SHARED(float, a, 33);
  MB_SHARED(__half[9], b, 5);
  MB_SHARED(uint8_t, c, 1);
  float* d = dynamic_shared<float>();
  if (threadIdx.x == 0) {
    for (int i = 0; i < 33; ++i) *bad += !std::isnan(a[i]);
    for (int i = 0; i < 45; ++i) *bad += !__hisnan(b[i / 9][i % 9]);
    *bad += c[0] != 0xFF;
    for (int i = 0; i < 64; ++i) *bad += !std::isnan(d[i]);
    static_assert(sizeof(b) == 90);
    const void* arrays[] = {a, b, c, d};
    for (int i = 0; i < 4; ++i) addresses[i] = reinterpret_cast<uint64_t>(arrays[i]);
    addresses[4] = smem_u32(&a[3]) - smem_u32(a);
    addresses[5] = smem_u32(d);
  }
  __syncthreads();
  a[threadIdx.x] = b[threadIdx.x % 5][0] = 1;  // the next block must not see it
  d[threadIdx.x] = 2;
}

TEST(SimtShared, EveryBlockStartsWithAlignedArraysOfNaN) {
  int bad = 0;
  uint64_t addresses[6];
  launch(first_look, 4, 32, 256, {}, &bad, addresses);
  EXPECT_EQ(bad, 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(addresses[i] % 16, 0u) << i;
  EXPECT_EQ(addresses[3] % 1024, 0u);
  EXPECT_EQ(addresses[4], 12u);
  EXPECT_EQ(addresses[5] % 1024, 0u) << "swizzles look at the machine's address";
}

template <int Number>
__device__ int* own_array() {
  MB_SHARED(int, numbered, 4);
  return numbered;
}
__global__ void same_or_not(bool* out) {
  out[0] = own_array<0>() == own_array<0>();
  out[1] = own_array<0>() != own_array<1>();
}

TEST(SimtShared, AnArrayIsOneForTheBlockAndInstantiation) {
  bool out[2] = {};
  launch(same_or_not, 1, 1, 0, {}, out);
  EXPECT_TRUE(out[0]);
  EXPECT_TRUE(out[1]);
}

__global__ void too_much() {
  MB_SHARED(float, big, 12 * 1024);
  MB_SHARED(char, more, 1);
  big[0] = more[0];
}
__global__ void just_enough() {
  MB_SHARED(float, big, 12 * 1024);
  big[0] = 1;
}
__global__ void asks_for_dynamic() {
  dynamic_shared<int>()[0] = 1;
}

TEST(SimtShared, LimitsAreThoseOfTheDevice) {
  EXPECT_EQ(report_of([] { launch(just_enough, 1, 32, 0, {}); }), "");
  const std::string report = report_of([] { launch(too_much, 1, 32, 0, {}); });
  EXPECT_HAS(report, "MB_SHARED more at tests/tools/simt/engine/shared_test.cpp:");
  EXPECT_HAS(report, "take 49168 bytes, at most 49152");
  EXPECT_HAS(report_of([] { launch(just_enough, 1, 32, 120 * 1024, {}); }), "at most 166912");
  EXPECT_HAS(report_of([] { launch(asks_for_dynamic, 1, 32, 0, {}); }),
             "the launch gave no dynamic shared memory");
}

}  // namespace
}  // namespace minibert
