// gradient_buckets_test.cpp: which collectives begin when; and their sums.
#include "models/training/gradient_buckets.h"

#include <mutex>

#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "tests/dist/ranks.h"

namespace minibert {
namespace {

constexpr double kTimeout = 30;

/// Notes which elements each all-reduce is of; `data` is where they begin.
class RecordingGroup : public ProcessGroup {
 public:
  explicit RecordingGroup(const Tensor& data) : ProcessGroup(0, 2), data_(data) {}
  const char* name() const override { return "recorder"; }
  std::vector<std::pair<int64_t, int64_t>> begun;  // offset, count

 private:
  void start(std::shared_ptr<Work> work) override {
    const Elements& e = work->collective().data;
    EXPECT_EQ(work->collective().kind, CollectiveKind::all_reduce);
    begun.emplace_back(reinterpret_cast<float*>(e.data) - data_.data<float>(), e.count);
    work->finish();
  }
  Tensor data_;
};

using Begun = std::vector<std::pair<int64_t, int64_t>>;

// 100 elements in buckets of 32: 0..31, 32..63, 64..95, 96..99. Parameters 0..19, 24..59 and 60..99;
// 20..23 is padding.
class GradientBucketsTest : public ::testing::Test {
 protected:
  const Tensor gradients_ = Tensor::zeros({100}, DType::f32);
  const ElementRange first_{0, 20}, second_{24, 36}, third_{60, 40};
  RecordingGroup group_{gradients_};
  GradientBuckets buckets_{group_, gradients_, {first_, second_, third_}, 32};
};

TEST_F(GradientBucketsTest, BeginOnceTheirGradientsAreFinal) {
  EXPECT_EQ(buckets_.buckets(), 4);
  for (int step = 0; step < 2; ++step) {
    group_.begun.clear();
    buckets_.start();
    buckets_.final(third_);
    EXPECT_EQ(group_.begun, (Begun{{96, 4}, {64, 32}}));  // 32..63 waits for `second_`
    buckets_.final(second_);
    EXPECT_EQ(group_.begun, (Begun{{96, 4}, {64, 32}, {32, 32}}));
    buckets_.final(first_);
    EXPECT_EQ(group_.begun, (Begun{{96, 4}, {64, 32}, {32, 32}, {0, 32}}));
    EXPECT_GE(buckets_.finish().read().exposed_seconds, 0);
    EXPECT_EQ(group_.begun.size(), 4u);
  }
}

// Whatever a rank's tape does, all begin in the same order.
TEST_F(GradientBucketsTest, BeginInOrder) {
  buckets_.start();
  buckets_.final(first_);
  buckets_.final(second_);
  EXPECT_TRUE(group_.begun.empty());
  buckets_.final(third_);
  EXPECT_EQ(group_.begun, (Begun{{96, 4}, {64, 32}, {32, 32}, {0, 32}}));
  buckets_.finish();
}

TEST_F(GradientBucketsTest, ARankWithoutAMicroBatchBeginsThemAll) {
  buckets_.start();
  buckets_.finish();
  EXPECT_EQ(group_.begun, (Begun{{96, 4}, {64, 32}, {32, 32}, {0, 32}}));
}

TEST(GradientBuckets, AreSumsOverRanks) {
  constexpr int kWorld = 3;
  auto transports = memory_transports(kWorld, kTimeout);
  const auto errors = testing::run_ranks(kWorld, [&](int rank) {
    RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
    const Tensor gradients = Tensor::zeros({1000}, DType::f32);
    GradientBuckets buckets(group, gradients, {{0, 500}, {500, 500}}, 128);
    for (int step = 0; step < 3; ++step) {
      for (int64_t i = 0; i < 1000; ++i) gradients.data<float>()[i] = static_cast<float>(i + rank);
      buckets.start();
      if (rank != 1) {
        buckets.final({500, 500});
        buckets.final({0, 500});
      }
      buckets.finish();
      for (int64_t i = 0; i < 1000; ++i)
        ASSERT_EQ(gradients.data<float>()[i], static_cast<float>(3 * i + 3)) << i;
    }
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

// 16 bits on the way: each rank's part is rounded, and the sum. 40,000 from each of three ranks is more
// than f16 holds; a quarter of it is not.
TEST(GradientBuckets, TravelIn16Bits) {
  constexpr int kWorld = 3;
  for (const DType wire : {DType::bf16, DType::f16}) {
    auto transports = memory_transports(kWorld, kTimeout);
    const auto errors = testing::run_ranks(kWorld, [&](int rank) {
      RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
      const Tensor gradients = Tensor::zeros({1000}, DType::f32);
      GradientBuckets buckets(group, gradients, {{0, 1000}}, 128, {}, wire);
      float* values = gradients.data<float>();
      for (int64_t i = 0; i < 1000; ++i) values[i] = 0.001f * static_cast<float>(i * (rank + 1));
      values[7] = 40'000;
      buckets.start();
      buckets.final({0, 1000});
      buckets.finish();
      const double rounding = wire == DType::bf16 ? 0x1p-8 : 0x1p-11;  // of one conversion
      for (int64_t i = 0; i < 1000; ++i) {
        const double expected = i == 7 ? 120'000 : 0.006 * static_cast<double>(i);
        ASSERT_NEAR(values[i], expected, 4 * rounding * expected + 1e-6)
            << name_of(wire) << " " << i;
      }
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
  }
}

}  // namespace
}  // namespace minibert
