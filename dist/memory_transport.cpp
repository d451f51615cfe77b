// memory_transport.cpp: mailboxes under one lock.
#include "dist/memory_transport.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>

#include "core/error.h"

namespace minibert {
namespace {

struct Message {
  std::vector<std::byte> bytes;
  uint64_t tag;
};

/// What all ranks share.
struct Mailboxes {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::deque<Message>> by_pair;  // from, to
  std::vector<bool> gone;                                      // [R]
};

class MemoryTransport : public Transport {
 public:
  MemoryTransport(int rank, int world, double timeout, std::shared_ptr<Mailboxes> boxes)
      : rank_(rank), world_(world), timeout_(timeout), boxes_(std::move(boxes)) {}

  ~MemoryTransport() override {
    const std::lock_guard lock(boxes_->mutex);
    boxes_->gone[static_cast<size_t>(rank_)] = true;
    boxes_->changed.notify_all();
  }

  int rank() const override { return rank_; }
  int world() const override { return world_; }

  void send(int to, std::span<const std::byte> bytes, uint64_t tag) override {
    const std::lock_guard lock(boxes_->mutex);
    boxes_->by_pair[{rank_, to}].push_back({{bytes.begin(), bytes.end()}, tag});
    boxes_->changed.notify_all();
  }

  void receive(int from, std::span<std::byte> bytes, uint64_t tag) override {
    expected_.push_back({from, bytes, tag});
  }

  void finish() override {
    for (const Expected& expected : std::exchange(expected_, {})) take(expected);
  }

 private:
  struct Expected {
    int from;
    std::span<std::byte> bytes;
    uint64_t tag;
  };

  void take(const Expected& expected) {
    std::unique_lock lock(boxes_->mutex);
    std::deque<Message>& box = boxes_->by_pair[{expected.from, rank_}];
    const auto gone = [&] { return boxes_->gone[static_cast<size_t>(expected.from)]; };
    const bool moved = boxes_->changed.wait_for(lock, std::chrono::duration<double>(timeout_),
                                                [&] { return !box.empty() || gone(); });
    MB_CHECK_AS(CommError, moved, "nothing came from rank {} for {:g} s", expected.from, timeout_);
    MB_CHECK_AS(CommError, !box.empty(), "rank {} is gone", expected.from);
    const Message message = std::move(box.front());
    box.pop_front();
    MB_CHECK_AS(
        CommError, message.tag == expected.tag && message.bytes.size() == expected.bytes.size(),
        "rank {} sent {} bytes of collective #{}, expected {} of #{}: the ranks compute "
        "different things",
        expected.from, message.bytes.size(), message.tag, expected.bytes.size(), expected.tag);
    std::ranges::copy(message.bytes, expected.bytes.begin());
  }

  const int rank_, world_;
  const double timeout_;
  const std::shared_ptr<Mailboxes> boxes_;
  std::vector<Expected> expected_;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> memory_transports(int world, double timeout) {
  const auto boxes = std::make_shared<Mailboxes>();
  boxes->gone.resize(static_cast<size_t>(world));
  std::vector<std::unique_ptr<Transport>> all;
  for (int rank = 0; rank < world; ++rank)
    all.push_back(std::make_unique<MemoryTransport>(rank, world, timeout, boxes));
  return all;
}

}  // namespace minibert
