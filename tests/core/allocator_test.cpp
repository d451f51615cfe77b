// allocator_test.cpp: counting by category, reuse of freed blocks, direct mode, limits.
#include "core/allocator.h"

#include <cstring>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/tensor.h"

namespace minibert {
namespace {

class AllocatorTest : public ::testing::Test {
 protected:
  void SetUp() override { allocator_.set_direct(false); }
  void TearDown() override {
    allocator_.set_limit(0);
    allocator_.set_direct(false);
  }
  Allocator& allocator_ = Allocator::instance();
};

TEST_F(AllocatorTest, CountsBytesByCategoryAndPeak) {
  const MemoryUsage before = allocator_.usage(MemoryCategory::workspace);
  allocator_.reset_peak();
  {
    const Tensor a = Tensor::empty({1000}, DType::f32, MemoryCategory::workspace);
    const Tensor b = Tensor::empty({500}, DType::f32, MemoryCategory::workspace);
    EXPECT_EQ(allocator_.usage(MemoryCategory::workspace).bytes, before.bytes + 6000);
  }
  EXPECT_EQ(allocator_.usage(MemoryCategory::workspace).bytes, before.bytes);
  EXPECT_EQ(allocator_.usage(MemoryCategory::workspace).peak_bytes, before.bytes + 6000);
}

TEST_F(AllocatorTest, HandsFreedBlocksOutAgain) {
  void* first = nullptr;
  {
    const Tensor t = Tensor::empty({12345});
    first = t.raw();
  }
  const int64_t reserved = allocator_.reserved_bytes();
  const Tensor again = Tensor::empty({12340});  // same size class
  EXPECT_EQ(again.raw(), first);
  EXPECT_EQ(allocator_.reserved_bytes(), reserved);
}

TEST_F(AllocatorTest, ReleasesItsCache) {
  { const Tensor t = Tensor::empty({1 << 20}); }
  const int64_t before = allocator_.reserved_bytes();
  allocator_.release_cache();
  EXPECT_LE(allocator_.reserved_bytes(), before - (4 << 20));
}

TEST_F(AllocatorTest, SizeClassesLoseAtMostAnEighth) {
  for (int64_t bytes : {5000, 8191, 8192, 8193, 100001, 1 << 22}) {
    allocator_.release_cache();
    const int64_t before = allocator_.reserved_bytes();
    const Tensor t = Tensor::empty({bytes}, DType::u8);
    EXPECT_GE(allocator_.reserved_bytes() - before, bytes);
    EXPECT_LE(allocator_.reserved_bytes() - before, bytes + bytes / 8 + 64) << bytes;
    std::memset(t.raw(), 1,
                static_cast<size_t>(bytes));  // a block that is too small shows under ASan
  }
}

TEST_F(AllocatorTest, DirectModeKeepsNothing) {
  allocator_.set_direct(true);
  const int64_t before = allocator_.reserved_bytes();
  { const Tensor t = Tensor::empty({100000}); }
  EXPECT_EQ(allocator_.reserved_bytes(), before);
}

TEST_F(AllocatorTest, OutOfMemoryPrintsTheTableAndFixes) {
  allocator_.set_limit(allocator_.total().bytes + 1000);
  try {
    Tensor::empty({1000}, DType::f32, MemoryCategory::activations);
    FAIL() << "the limit was passed";
  } catch (const OutOfMemory& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.exit_code(), 6);
    EXPECT_NE(text.find("optimizer state"), std::string::npos) << text;
    EXPECT_NE(text.find("--micro-batch-size"), std::string::npos) << text;
  }
  EXPECT_NO_THROW(Tensor::empty({10}));
}

// A block made in direct mode has no class size: it must never serve a larger request of its class.
TEST(Allocator, ADirectBlockIsNotKept) {
  Allocator& allocator = Allocator::instance();
  allocator.set_direct(true);
  void* direct = allocator.allocate(5000, MemoryCategory::workspace, Device::cpu);
  allocator.set_direct(false);
  const int64_t before = allocator.system_allocations();
  allocator.free(direct, 5000, MemoryCategory::workspace, Device::cpu);
  void* larger = allocator.allocate(5100, MemoryCategory::workspace, Device::cpu);
  EXPECT_EQ(allocator.system_allocations(), before + 1);
  std::memset(larger, 1, 5100);
  allocator.free(larger, 5100, MemoryCategory::workspace, Device::cpu);
}

TEST(Allocator, ASecondRoundAsksTheSystemForNothing) {
  Allocator& allocator = Allocator::instance();
  const auto round = [] {
    const Tensor a = Tensor::empty({1000}), b = Tensor::empty({77, 13}, DType::bf16);
    const Tensor c = Tensor::empty({1000}, DType::i32, MemoryCategory::data);
  };
  round();
  const int64_t after_first = allocator.system_allocations();
  round();
  EXPECT_EQ(allocator.system_allocations(), after_first);
}

}  // namespace
}  // namespace minibert
