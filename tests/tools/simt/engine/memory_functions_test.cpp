// memory_functions_test.cpp: atomics on whole numbers, cached loads and stores, and the packs of
// core/cuda_kernel.h.
#include <climits>
#include <vector>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

struct Counters {
  int sum = 0, least = INT_MAX, most = INT_MIN;
  unsigned any = 0, all = ~0u, odd = 0, ring = 0, down = 0;
  unsigned long long wide = 0, first = ~0ull;
  int last = -1;
};
__global__ void count(Counters* c, int* seen) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  seen[atomicAdd(&c->sum, 1)] += 1;
  atomicMin(&c->least, i - 50);
  atomicMax(&c->most, i - 50);
  atomicOr(&c->any, 1u << i % 20);
  atomicAnd(&c->all, ~(1u << i % 20));
  atomicXor(&c->odd, static_cast<unsigned>(i));
  atomicInc(&c->ring, 6);
  atomicDec(&c->down, 6);
  atomicAdd(&c->wide, 1ull << 33);
  atomicCAS(&c->first, ~0ull, static_cast<unsigned long long>(i));
  atomicExch(&c->last, i);
  atomicSub(&c->sum, 0);
}

TEST(SimtMemoryFunctions, AtomicsOfAllThreadsAddUp) {
  under_all_schedules([] {
    Counters c;
    std::vector<int> seen(300);
    launch(count, 3, 100, 0, {}, &c, seen.data());
    EXPECT_EQ(seen, std::vector<int>(300, 1)) << "each gets what was there before";
    EXPECT_EQ(c.sum, 300);
    EXPECT_EQ(c.least, -50);
    EXPECT_EQ(c.most, 249);
    EXPECT_EQ(c.any, 0xFFFFFu);
    EXPECT_EQ(c.all, 0xFFF00000u);
    unsigned odd = 0;
    for (unsigned i = 0; i < 300; ++i) odd ^= i;
    EXPECT_EQ(c.odd, odd);
    EXPECT_EQ(c.ring, 300u % 7);
    EXPECT_EQ(c.down, (7 - 300 % 7) % 7u);
    EXPECT_EQ(c.wide, 300ull << 33);
    EXPECT_LT(c.first, 300u);
    EXPECT_GE(c.last, 0);
    if (simt::options().seed == 0) {
      EXPECT_EQ(c.first, 0u);
      EXPECT_EQ(c.last, 299);
    }
  });
}

template <typename T>
__global__ void move_packs(const T* from, T* to, T* back) {
  const Pack<T, kPack<T>> whole = load_pack<kPack<T>>(from);
  store_pack(to, whole);
  const Pack<T, 2> two = load_pack_once<2>(from + 2);
  store_pack_once(back, two);
  back[2] = __ldg(from + 1);
  __stcg(back + 3, __ldcg(from));
}
template <typename T>
void expect_packs() {
  alignas(16) T from[16], to[16], back[4];
  for (int i = 0; i < 16; ++i) from[i] = from_float<T>(i + 1);
  launch(move_packs<T>, 1, 1, 0, {}, from, to, back);
  for (int i = 0; i < kPack<T>; ++i) EXPECT_EQ(to_float(to[i]), i + 1);
  EXPECT_EQ(to_float(back[0]), 3);
  EXPECT_EQ(to_float(back[1]), 4);
  EXPECT_EQ(to_float(back[2]), 2);
  EXPECT_EQ(to_float(back[3]), 1);
}

TEST(SimtMemoryFunctions, PacksKeepTheOrderOfTheirElements) {
  expect_packs<float>();
  expect_packs<__half>();
  expect_packs<__nv_bfloat16>();
  static_assert(sizeof(Pack<__half, 4>) == 8 && alignof(Pack<__half, 4>) == 8);
  float row[5];
  EXPECT_FALSE(packs(row, 20));
}

}  // namespace
}  // namespace minibert
