// dry_run_test.cpp: what a dry run counts is what the same code takes, it takes nothing of the process,
// and reading its tensors is a fault.
#include "core/dry_run.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "core/kernels/attention.h"
#include "core/kernels/cast.h"
#include "core/kernels/reduce.h"
#include "core/parallel.h"

namespace minibert {
namespace {

constexpr int64_t kTebibyte = int64_t{1} << 40;

TEST(DryRun, CountsMoreThanTheMachineHasAndTakesNothing) {
  const MemoryUsage before = Allocator::instance().total();
  DryRun run;
  {
    const Tensor large = Tensor::zeros({3 * kTebibyte / 4}, DType::f32, MemoryCategory::weights);
    const Tensor on_device =
        Tensor::empty({kTebibyte}, DType::u8, MemoryCategory::gradients, Device::cuda);
    EXPECT_TRUE(DryRun::on());
    EXPECT_EQ(run.allocator().usage(MemoryCategory::weights).bytes, 3 * kTebibyte);
    EXPECT_EQ(run.allocator().total(Device::cuda).bytes, kTebibyte);
  }
  EXPECT_EQ(run.allocator().total().bytes, 0);
  EXPECT_EQ(run.allocator().total().peak_bytes, 4 * kTebibyte);
  EXPECT_EQ(run.allocator().peak_reserved_bytes(Device::cuda), kTebibyte);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 4 << 20);  // KiB
  Allocator::use(nullptr);
  EXPECT_EQ(Allocator::instance().total().peak_bytes, before.peak_bytes);
  Allocator::use(&run.allocator());
}

TEST(DryRun, TensorsGoBackToWhereTheyCameFrom) {
  const int64_t before = Allocator::instance().total().bytes;
  Tensor made_before = Tensor::empty({1000});
  {
    const DryRun run;
    made_before = {};
  }
  EXPECT_FALSE(DryRun::on());
  EXPECT_EQ(Allocator::instance().total().bytes, before);
}

TEST(DryRun, NestedRunsCountApart) {
  DryRun outer;
  const Tensor a = Tensor::empty({100}, DType::u8);
  {
    DryRun inner;
    const Tensor b = Tensor::empty({7}, DType::u8);
    EXPECT_EQ(inner.allocator().total().bytes, 7);
  }
  EXPECT_TRUE(DryRun::on());
  const Tensor c = Tensor::empty({10}, DType::u8);
  EXPECT_EQ(outer.allocator().total().bytes, 110);
}

TEST(DryRun, SkipsKernelsAndCountsTheirWorkspace) {
  // column_sum adds blocks of 64 rows in double: ceil(1000 / 64) * 32 * 8 bytes.
  constexpr int64_t kT = 1000, kH = 32, kExpected = 16 * kH * 8;
  const auto call = [] {
    const Tensor x = Tensor::zeros({kT, kH}), y = Tensor::zeros({kH});
    column_sum(x, y, /* accumulate= */ false);
  };
  {
    DryRun run;
    call();
    EXPECT_EQ(run.allocator().usage(MemoryCategory::workspace).peak_bytes, kExpected);
  }
  Allocator::instance().reset_peak();
  const int64_t before = Allocator::instance().usage(MemoryCategory::workspace).bytes;
  call();
  EXPECT_EQ(Allocator::instance().usage(MemoryCategory::workspace).peak_bytes - before, kExpected);
}

TEST(DryRun, KeepsThreadScratchOfEachThread) {
  DryRun run(/* threads= */ 3);
  DryRun::kernel({.workspaces = {}, .thread_scratch = 100}, Device::cpu);
  DryRun::kernel({.workspaces = {}, .thread_scratch = 40}, Device::cpu);
  EXPECT_EQ(run.allocator().usage(MemoryCategory::workspace).bytes, 300);
}

// Lengths are not known: each sequence counts as long as the mean, rounded up. Keys are padded to S, a
// multiple of 8; then k and v, probabilities of 32 queries, and these as rows and columns are 2 S D + 32 S + 64 D floats.
TEST(DryRun, TakesSequencesForAsLongAsTheirMean) {
  const auto scratch = [](int64_t tokens, int64_t sequences) {
    constexpr int64_t kHeads = 2, kSize = 64;
    DryRun run(/* threads= */ 1);
    const Tensor qkv = Tensor::empty({tokens, 3, kHeads, kSize}),
                 out = Tensor::empty({tokens, kHeads, kSize}),
                 lse = Tensor::empty({tokens, kHeads}),
                 starts = Tensor::empty({sequences + 1}, DType::i32),
                 sample = Tensor::empty({sequences}, DType::i32);
    attention_forward({qkv, out, lse, starts, sample, 0.125f, {}});
    return run.allocator().usage(MemoryCategory::workspace).bytes;
  };
  const auto expected = [](int64_t S) { return 4 * (2 * S * 64 + 32 * S + 64 * 64); };
  EXPECT_EQ(scratch(48, 3), expected(16));
  EXPECT_EQ(scratch(49, 3), expected(24));
  EXPECT_EQ(scratch(17, 1), expected(24));
  EXPECT_EQ(scratch(0, 0), 0);
}

using DryRunDeathTest = ::testing::Test;
TEST(DryRunDeathTest, ReadingATensorFaults) {
  const auto read = [] {
    const DryRun run;
    const Tensor x = Tensor::empty({1});
    std::exit(x.item() == 0 ? 0 : 1);
  };
  EXPECT_EXIT(read(), ::testing::KilledBySignal(SIGSEGV), "");
}

}  // namespace
}  // namespace minibert
