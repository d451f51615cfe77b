// queued_group_test.cpp: collectives run in order beside the caller; one that fails ends the group,
// with a message that names it.
#include "dist/queued_group.h"

#include <atomic>
#include <future>

#include <gtest/gtest.h>

#include "core/error.h"

namespace minibert {
namespace {

/// Runs nothing: notes what it is asked for, waits at `gate`, fails at number `fails_at`.
class RecordingGroup : public QueuedGroup {
 public:
  explicit RecordingGroup(Blame blame = nullptr) : QueuedGroup(1, 4, std::move(blame)) {}
  ~RecordingGroup() override { stop(); }
  const char* name() const override { return "recorder"; }

  std::vector<int64_t> ran;
  std::atomic<int64_t> fails_at = 0;
  std::promise<void> gate;
  std::shared_future<void> open = gate.get_future().share();

 private:
  void execute(const Collective& collective) override {
    open.wait();
    ran.push_back(collective.sequence);
    if (collective.sequence == fails_at) throw std::runtime_error("the line is dead");
  }
};

std::string comm_error_of(Handle& handle) {
  try {
    handle.wait();
  } catch (const CommError& error) {
    EXPECT_EQ(error.exit_code(), 5);
    return error.what();
  }
  return "no CommError";
}

/// `text` with the seconds replaced, which differ from run to run.
std::string without_seconds(std::string text) {
  const size_t begin = text.find("after ") + 6, end = text.find(" s:");
  return text.replace(begin, end - begin, "N");
}

TEST(QueuedGroup, RunsInOrderBesideTheCaller) {
  RecordingGroup group;
  std::vector<Handle> handles;
  for (int i = 0; i < 5; ++i) handles.push_back(group.barrier());
  EXPECT_FALSE(handles[0].done());
  const auto running = group.running();
  ASSERT_TRUE(running);
  EXPECT_EQ(running->collective.str(), "barrier #1");
  EXPECT_GE(running->seconds, 0);
  group.gate.set_value();
  for (Handle& handle : handles) handle.wait();
  EXPECT_EQ(group.ran, (std::vector<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_FALSE(group.running());
}

TEST(QueuedGroup, FinishesWhatIsQueuedBeforeItGoes) {
  Handle handles[2];
  {
    RecordingGroup group;
    handles[0] = group.barrier();
    handles[1] = group.barrier();
    group.gate.set_value();
  }
  EXPECT_TRUE(handles[1].done());
}

TEST(QueuedGroup, AFailureNamesRankAndCollectiveAndEndsTheGroup) {
  int asked = 0;
  RecordingGroup group([&](const std::string& collective) {
    ++asked;
    EXPECT_EQ(collective, "all_reduce #2 of 3 f32");
    return "rank 3 is gone";
  });
  group.fails_at = 2;
  group.gate.set_value();
  float values[3];
  const Elements data{std::span(values)};
  Handle first = group.barrier(), second = group.all_reduce(data), third = group.barrier();
  EXPECT_NO_THROW(first.wait());
  EXPECT_EQ(without_seconds(comm_error_of(second)),
            "rank 1 of 4: all_reduce #2 of 3 f32 over recorder failed after N s: rank 3 is gone "
            "(the line is dead)");
  EXPECT_EQ(without_seconds(comm_error_of(third)),
            "rank 1 of 4: barrier #3 over recorder failed after N s: all_reduce #2 of 3 f32 failed "
            "before");
  EXPECT_EQ(group.ran, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(asked, 1);
}

TEST(QueuedGroup, RefusesMemoryOfADevice) {
  RecordingGroup group;
  group.gate.set_value();
  float value;
  Handle handle = group.all_reduce({&value, 1, ElementType::f32, Device::cuda});
  EXPECT_NE(comm_error_of(handle).find("the host's memory alone"), std::string::npos);
  EXPECT_TRUE(group.ran.empty());
}

}  // namespace
}  // namespace minibert
