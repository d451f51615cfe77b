// async_copy_test.cpp: cp.async: what arrives, when, and what is refused.
#include <cstring>
#include <vector>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

alignas(16) uint8_t source[64];

__global__ void copy_bytes(int bytes, uint8_t* out) {
  MB_SHARED(uint8_t, tile, 16);
  cp_async16(tile, source, bytes);
  cp_async_commit();
  cp_async_wait<0>();
  std::memcpy(out, tile, 16);
}

TEST(SimtAsyncCopy, TheRestOfSixteenBytesIsZeros) {
  for (int i = 0; i < 64; ++i) source[i] = static_cast<uint8_t>(i + 1);
  for (const simt::Async async : {simt::Async::late, simt::Async::early}) {
    const simt::OptionsScope options({.async = async});
    for (int bytes = 0; bytes <= 16; ++bytes) {
      uint8_t out[16];
      launch(copy_bytes, 1, 1, 0, {}, bytes, out);
      for (int i = 0; i < 16; ++i) EXPECT_EQ(out[i], i < bytes ? i + 1 : 0) << bytes;
    }
  }
}

/// Bit g of out[k] says whether group g had arrived after a wait for all but k groups.
__global__ void groups(int* out) {
  MB_SHARED(uint8_t[16], tile, 4);
  for (int g = 0; g < 4; ++g) {
    cp_async16(tile[g], source);
    cp_async_commit();
  }
  const auto arrived = [&] {
    int bits = 0;
    for (int g = 0; g < 4; ++g) bits |= (tile[g][0] == source[0]) << g;
    return bits;
  };
  out[4] = arrived();
  cp_async_wait<3>();
  out[3] = arrived();
  cp_async_wait<2>();
  out[2] = arrived();
  cp_async_wait<0>();
  out[0] = arrived();
}

TEST(SimtAsyncCopy, AWaitCompletesTheOldestGroupsAndNoMore) {
  source[0] = 42;
  int out[5];
  const simt::OptionsScope late({.async = simt::Async::late});
  launch(groups, 1, 1, 0, {}, out);
  EXPECT_EQ(out[4], 0b0000);
  EXPECT_EQ(out[3], 0b0001);
  EXPECT_EQ(out[2], 0b0011);
  EXPECT_EQ(out[0], 0b1111);
  const simt::OptionsScope early({.async = simt::Async::early});
  launch(groups, 1, 1, 0, {}, out);
  EXPECT_EQ(out[4], 0b1111);
}

/// A copy that was not committed belongs to the group that the next commit ends.
__global__ void uncommitted(int* out) {
  MB_SHARED(uint8_t, tile, 16);
  cp_async16(tile, source);
  cp_async_wait<0>();
  out[0] = tile[0] == source[0];
  cp_async_commit();
  cp_async_wait<0>();
  out[1] = tile[0] == source[0];
}

TEST(SimtAsyncCopy, ACopyWithoutCommitIsNotWaitedFor) {
  source[0] = 42;
  int out[2];
  launch(uncommitted, 1, 1, 0, {}, out);
  EXPECT_EQ(out[0], 0);
  EXPECT_EQ(out[1], 1);
}

TEST(SimtAsyncCopy, RandomArrivalIsSometimesEarlyAndSometimesLate) {
  source[0] = 42;
  bool some_early = false, some_late = false;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const simt::OptionsScope options({.seed = seed, .async = simt::Async::random});
    int out[5];
    launch(groups, 1, 1, 0, {}, out);
    some_early |= out[4] != 0;
    some_late |= out[4] != 15;
    EXPECT_EQ(out[0], 15);
  }
  EXPECT_TRUE(some_early);
  EXPECT_TRUE(some_late);
}

__global__ void wrong_copy(int fault) {
  MB_SHARED(uint8_t, tile, 48);
  alignas(16) uint8_t local[32] = {};
  if (fault == 0) cp_async16(tile + 8, source);
  if (fault == 1) cp_async16(tile, source + 4);
  if (fault == 2) cp_async16(tile, source, 17);
  if (fault == 3) cp_async16(local, source);
  if (fault == 4) cp_async16(tile + 48, source);
}

TEST(SimtAsyncCopy, WrongAddressesAndSizesAreReported) {
  const auto report = [](int fault) {
    return report_of([&] { launch(wrong_copy, 1, 1, 0, {}, fault); });
  };
  EXPECT_HAS(report(0), "cp_async16 at tests/tools/simt/engine/async_copy_test.cpp:");
  EXPECT_HAS(report(0), "both addresses must be multiples of 16 bytes");
  EXPECT_HAS(report(1), "both addresses must be multiples of 16 bytes");
  EXPECT_HAS(report(2), "source_bytes is 17, expected 0..16");
  EXPECT_HAS(report(3), "not in shared memory");
  EXPECT_HAS(report(4), "bytes 48..63 are not in tile, which has 48");
}

}  // namespace
}  // namespace minibert
