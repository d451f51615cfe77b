// bucket_probe_test.cpp: the choice from planted timings, and over real ranks.
#include "models/training/bucket_probe.h"

#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "tests/dist/ranks.h"

namespace minibert {
namespace {

/// Timings of sums that take `start` seconds and a second a `rate` MB.
std::vector<BucketTiming> network(double start, double rate) {
  std::vector<BucketTiming> timings;
  for (int64_t size = 1; size <= 32; size *= 2)
    timings.push_back({size, start + static_cast<double>(size) / rate});
  return timings;
}

TEST(BucketProbe, TakesTheSmallestSizeNearTheFullRate) {
  // The rate of n MB is n / (start + n / rate).
  EXPECT_EQ(bucket_of(network(0, 100)), 1);     // no time to start: any size has the full rate
  EXPECT_EQ(bucket_of(network(0.01, 100)), 4);  // MB/s of 32: 97.0, of 4: 80.0, of 2: 66.7
  EXPECT_EQ(bucket_of(network(0.1, 100)), 16);  // MB/s of 32: 76.2, of 16: 61.5, of 8: 44.4
  EXPECT_EQ(bucket_of({{1, 5.0}}), 1);          // a small model, or a network so slow
}

TEST(BucketProbe, KeepsASetting) {
  const auto group = self_group();
  const BucketSize size = choose_bucket(7, {4, 1}, 1 << 24, Device::cpu, *group, *group);
  EXPECT_EQ(size.megabytes, 7);
  EXPECT_EQ(size.bucket.megabytes, 0);
}

TEST(BucketProbe, AllRanksTakeTheSameAndKeepIt) {
  constexpr int kWorld = 3;
  auto transports = memory_transports(kWorld, /* timeout= */ 30);
  std::vector<BucketSize> chosen(kWorld);
  const auto errors = testing::run_ranks(kWorld, [&](int rank) {
    RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
    BucketSize& size = chosen[static_cast<size_t>(rank)];
    size = choose_bucket(0, {8, kWorld + 1}, 5 << 20, Device::cpu, group, group);  // of other ranks
    const BucketSize again = choose_bucket(0, size.bucket, 5 << 20, Device::cpu, group, group);
    EXPECT_EQ(again.megabytes, size.megabytes);
    EXPECT_EQ(again.bucket.ranks, kWorld);
    EXPECT_EQ(again.reason, " (by the probe of the run's start)");
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
  for (const BucketSize& size : chosen) {
    EXPECT_TRUE(size.megabytes == 1 || size.megabytes == 2 || size.megabytes == 4);  // of 5 MB
    EXPECT_EQ(size.megabytes, chosen[0].megabytes);
    EXPECT_EQ(size.bucket.ranks, kWorld);
    EXPECT_NE(size.reason.find("1 MiB in "), std::string::npos) << size.reason;
    EXPECT_EQ(size.reason, chosen[0].reason);
  }
}

}  // namespace
}  // namespace minibert
