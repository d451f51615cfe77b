// exchange.cpp: the pieces of a collective, and of messages.
#include "tools/simt/nccl/exchange.h"

#include <algorithm>
#include <cstring>

#include "tools/simt/memory.h"

namespace simt {
namespace {

class Collective : public Exchange {
 public:
  Collective(std::shared_ptr<Room> room, int rank, int ranks, const CollectiveCall& call)
      : room_(std::move(room)), rank_(rank), ranks_(ranks), call_(call) {
    const bool whole = call.kind == CollectiveKind::reduce_scatter;
    shown_ = call.count * (whole ? static_cast<size_t>(ranks) : 1);
    piece_ = kWindow / size_of(call.type);
  }

  bool needs(int) const override { return true; }

  ncclResult_t advance(bool& moved, bool& over) override {
    Seat& mine = room_->seat(rank_);
    while (first_ < shown_) {
      const uint64_t number = mine.seen;  // pieces so far, of all collectives
      if (mine.shown == number) {
        if (!all([&](const Seat& seat) { return seat.seen >= number; })) return ncclSuccess;
        show();
        mine.doing = what();
        mine.shown = number + 1;
        moved = true;
      }
      if (!all([&](const Seat& seat) { return seat.shown > number; })) return ncclSuccess;
      if (!all([&](const Seat& seat) { return seat.doing == what(); })) return ncclInvalidUsage;
      take();
      first_ += size();
      mine.seen = number + 1;
      moved = true;
    }
    over = true;
    return ncclSuccess;
  }

 private:
  template <typename Condition>
  bool all(const Condition& condition) const {
    for (int rank = 0; rank < ranks_; ++rank)
      if (!condition(room_->seat(rank))) return false;
    return true;
  }

  /// A number that is the same on every rank that does the same, and never that of a seat without a
  /// collective.
  uint64_t what() const {
    uint64_t hash = 1;
    for (const uint64_t part :
         {static_cast<uint64_t>(call_.kind), static_cast<uint64_t>(call_.count),
          static_cast<uint64_t>(call_.type), static_cast<uint64_t>(call_.reduction.op),
          static_cast<uint64_t>(call_.root), static_cast<uint64_t>(first_)})
      hash = (hash ^ part) * 0x9E3779B97F4A7C15u + 1;
    return hash;
  }

  size_t size() const { return std::min(piece_, shown_ - first_); }  // elements of this piece

  std::byte* at(const void* data, size_t element) const {
    return static_cast<std::byte*>(const_cast<void*>(data)) + element * size_of(call_.type);
  }

  void show() const {
    if (call_.kind == CollectiveKind::broadcast && rank_ != call_.root) return;
    std::memcpy(room_->window(rank_), at(call_.send, first_), size() * size_of(call_.type));
    multiply(call_.reduction, call_.type, room_->window(rank_), size());
  }

  void take() const {
    switch (call_.kind) {
      case CollectiveKind::reduce:
        if (rank_ != call_.root) return;
        return sum(first_, size(), 0);
      case CollectiveKind::all_reduce:
        return sum(first_, size(), 0);
      case CollectiveKind::reduce_scatter: {  // what of the piece is in this rank's block
        const size_t begin = call_.count * static_cast<size_t>(rank_);
        const size_t from = std::max(first_, begin);
        const size_t end = std::min(first_ + size(), begin + call_.count);
        if (from < end) sum(from, end - from, begin);
        return;
      }
      case CollectiveKind::all_gather:
        for (int rank = 0; rank < ranks_; ++rank)
          copy(rank, at(call_.receive, call_.count * static_cast<size_t>(rank) + first_));
        return;
      case CollectiveKind::broadcast:
        return copy(call_.root, at(call_.receive, first_));
    }
  }

  void copy(int rank, std::byte* to) const {
    std::memcpy(to, room_->window(rank), size() * size_of(call_.type));
  }

  /// Elements from .. from + n - 1 of what the ranks show, to `receive`, which begins with `begin`.
  void sum(size_t from, size_t n, size_t begin) const {
    std::vector<const void*> data;
    for (int rank = 0; rank < ranks_; ++rank)
      data.push_back(at(room_->window(rank), from - first_));
    reduce(call_.reduction, call_.type, data, at(call_.receive, from - begin), n);
  }

  const std::shared_ptr<Room> room_;
  const int rank_, ranks_;
  const CollectiveCall call_;
  size_t shown_ = 0, piece_ = 0;  // elements that a rank shows in all, and at once
  size_t first_ = 0;              // of the piece that is under way
};

class Messages : public Exchange {
 public:
  Messages(std::shared_ptr<Room> room, int rank, std::vector<Message> messages)
      : room_(std::move(room)), rank_(rank), messages_(std::move(messages)) {
    done_.resize(messages_.size());
  }

  bool needs(int rank) const override {
    return std::ranges::any_of(messages_, [&](const Message& m) { return m.peer == rank; });
  }

  ncclResult_t advance(bool& moved, bool& over) override {
    over = true;
    for (size_t i = 0; i < messages_.size(); ++i) {
      const Message& m = messages_[i];
      if (done_[i] == m.bytes) continue;
      const bool earlier =
          std::any_of(messages_.begin(), messages_.begin() + i, [&](const auto& o) {
            return o.peer == m.peer && o.sends == m.sends && done_[&o - messages_.data()] < o.bytes;
          });
      if (!earlier) {
        const ncclResult_t error = m.sends ? send(m, done_[i], moved) : receive(m, done_[i], moved);
        if (error != ncclSuccess) return error;
      }
      if (done_[i] < m.bytes) over = false;
    }
    return ncclSuccess;
  }

 private:
  ncclResult_t send(const Message& m, size_t& done, bool& moved) const {
    Box& box = room_->box(rank_, m.peer);
    if (box.put != box.taken) return ncclSuccess;
    const size_t n = std::min(kBox, m.bytes - done);
    std::memcpy(room_->box_data(rank_, m.peer), m.data + done, n);
    box.total = m.bytes;
    ++box.put;
    done += n;
    moved = true;
    return ncclSuccess;
  }

  ncclResult_t receive(const Message& m, size_t& done, bool& moved) const {
    Box& box = room_->box(m.peer, rank_);
    if (box.put == box.taken) return ncclSuccess;
    if (box.total != m.bytes) return ncclInvalidUsage;
    const size_t n = std::min(kBox, m.bytes - done);
    std::memcpy(m.data + done, room_->box_data(m.peer, rank_), n);
    ++box.taken;
    done += n;
    moved = true;
    return ncclSuccess;
  }

  const std::shared_ptr<Room> room_;
  const int rank_;
  const std::vector<Message> messages_;
  std::vector<size_t> done_;  // bytes of each
};

}  // namespace

std::unique_ptr<Exchange> exchange_of(std::shared_ptr<Room> room, int rank, int ranks,
                                      const CollectiveCall& call) {
  return std::make_unique<Collective>(std::move(room), rank, ranks, call);
}

std::unique_ptr<Exchange> exchange_of(std::shared_ptr<Room> room, int rank,
                                      std::vector<Message> messages) {
  return std::make_unique<Messages>(std::move(room), rank, std::move(messages));
}

}  // namespace simt
