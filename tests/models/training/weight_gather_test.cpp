// weight_gather_test.cpp: which collectives begin in which order, and who waits for how many of them.
#include "models/training/weight_gather.h"

#include <atomic>
#include <deque>
#include <optional>
#include <thread>

#include "core/kernels/optimizer.h"
#include "tests/dist/ranks.h"

namespace minibert {
namespace {

constexpr int64_t kChunk = kOptimizerChunk;
constexpr int kWorld = 2;

/// Rank 0 of 2, whose collectives end when the test says so.
class HeldGroup : public ProcessGroup {
 public:
  HeldGroup() : ProcessGroup(0, kWorld) {}
  const char* name() const override { return "held"; }
  /// The next `count` of them end.
  void end(int count, std::exception_ptr error = nullptr) {
    for (; count > 0; --count) {
      held.front()->finish(error, /* seconds= */ 2);
      held.pop_front();
    }
  }
  std::deque<std::shared_ptr<Work>> held;
  std::atomic<int> waits = 0;  // begun, ended or not

 private:
  void start(std::shared_ptr<Work> work) override {
    work->set_follow([this, &work = *work] {
      ++waits;
      work.wait_on_host();
    });
    held.push_back(std::move(work));
  }
};

/// Five chunks in buckets of two and a rest of one: "a" in the first bucket, "norm" (a master that
/// layers read) across the first two, "b" in all that is left.
ParameterTable table() {
  ParameterTable table;
  table.add("a", {2 * kChunk - 128});
  table.add("norm", {256}, {256}, /* adjacent= */ false, /* master= */ true);
  table.add("b", {3 * kChunk - 128});
  return table;
}

class WeightGatherTest : public ::testing::Test {
 protected:
  void begin(DType compute = DType::f32) {
    arena_.emplace(table(), compute);
    shards_ = shard_ranges(arena_->table().size(), 2 * kChunk, kWorld);
    gather_.emplace(group_, *arena_, shards_, 2 * kChunk);
    gather_->outdate();
    gather_->start();
  }
  /// "all_gather #1 of 32768 f32 at 0"
  std::vector<std::string> begun() const {
    std::vector<std::string> lines;
    for (const auto& work : group_.held) {
      const Collective& c = work->collective();
      const std::byte* working = Elements(arena_->working()).data;
      const bool of_masters = c.data.type == ElementType::f32;
      const std::byte* from = of_masters ? Elements(arena_->masters()).data : working;
      const int64_t at = (c.data.data - from) / static_cast<int64_t>(size_of(c.data.type));
      lines.push_back(fmt::format("{} at {}", c.str(), at));
    }
    return lines;
  }

  HeldGroup group_;
  std::optional<Arena> arena_;
  std::vector<std::vector<ElementRange>> shards_;
  std::optional<WeightGather> gather_;
};

TEST_F(WeightGatherTest, BeginsWhereForwardDoes) {
  begin();
  EXPECT_EQ(begun(), (std::vector<std::string>{"all_gather #1 of 32768 f32 at 0",
                                               "all_gather #2 of 32768 f32 at 32768",
                                               "broadcast #3 of 16384 f32 from rank 0 at 65536"}));
  group_.end(3);
}

// Cut where the ranks' shares end, each right after the bucket that it is in.
TEST_F(WeightGatherTest, BringsTheMastersThatLayersRead) {
  begin(DType::bf16);
  EXPECT_EQ(begun(), (std::vector<std::string>{"all_gather #1 of 32768 bf16 at 0",
                                               "broadcast #2 of 128 f32 from rank 1 at 32640",
                                               "all_gather #3 of 32768 bf16 at 32768",
                                               "broadcast #4 of 128 f32 from rank 0 at 32768",
                                               "broadcast #5 of 16384 bf16 from rank 0 at 65536"}));
  group_.end(5);
}

// The collectives after a reader's bucket never end, so waiting for them would take for ever.
TEST_F(WeightGatherTest, AReaderWaitsForItsBucketAndThoseBefore) {
  begin();
  group_.end(1);
  gather_->wait_for({0, 2 * kChunk});
  std::atomic<bool> there = false;
  std::thread reader([&] {
    gather_->wait_for({2 * kChunk - 1, 2});
    there = true;
  });
  while (group_.waits < 2) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(there);
  group_.end(1);
  reader.join();
  std::thread last([&] { group_.end(1); });
  gather_->finish();
  last.join();
  const Communication took = gather_->take_clock().read();
  EXPECT_EQ(took.seconds, 3 * 2);
  EXPECT_GE(took.exposed_seconds, 0.04);
  EXPECT_EQ(gather_->take_clock().read().seconds, 0) << "counted twice";
}

TEST_F(WeightGatherTest, WeightsThatWereNotSharedAreNotRead) {
  begin();
  group_.end(3);
  gather_->outdate();
  EXPECT_THROW(gather_->wait_for({0, 1}), InternalError);
  EXPECT_THROW(gather_->finish(), InternalError);
  gather_->start();
  group_.end(3);
  gather_->finish();
}

TEST_F(WeightGatherTest, EveryReaderHearsOfAnError) {
  begin();
  group_.end(1);
  group_.end(2, std::make_exception_ptr(CommError("rank 1 is gone")));
  gather_->wait_for({0, 1});
  for (int i = 0; i < 2; ++i) EXPECT_THROW(gather_->wait_for({2 * kChunk, 1}), CommError);
  EXPECT_THROW(gather_->finish(), CommError);
  EXPECT_THROW(gather_->outdate(), CommError);
}

}  // namespace
}  // namespace minibert
