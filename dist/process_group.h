// process_group.h: the ranks of a run, and what they do together: collectives.
// Called by models/training, and by optim for sharded norms. Kinds of group: self (one rank, here),
// Gloo (gloo_group.h), the readable ring (ring_group.h), NCCL on GPUs (nccl_group.h). All work in place
// and number their collectives from 1, so that "all_reduce #17" names the same one on every rank.
// Easy to break: every rank calls the same collectives with the same sizes in the same order, from
// one thread; the memory of a collective belongs to it until its handle is done.
// Test: ctest -R dist_process_group.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/clock.h"
#include "dist/elements.h"

namespace minibert {

/// What ranks can do together.
enum class CollectiveKind : uint8_t { all_reduce, reduce_scatter, all_gather, broadcast, barrier };

/// "all_reduce", ...
const char* name_of(CollectiveKind kind);

/// One collective of one rank.
struct Collective {
  CollectiveKind kind = CollectiveKind::barrier;
  int64_t sequence = 0;  // from 1, in the order of the calls
  Elements data;
  int root = 0;  // of a broadcast

  /// "all_reduce #17 of 4096 f32", "broadcast #3 of 10 i64 from rank 0", "barrier #4"
  std::string str() const;
};

/// Who is to blame when a collective failed: a sentence for the message, or nothing. Gets the
/// collective's name.
using Blame = std::function<std::string(const std::string&)>;

/// A collective on its way: shared by its handle and by whoever runs it.
class Work {
 public:
  explicit Work(const Collective& collective) : collective_(collective) {}
  const Collective& collective() const { return collective_; }
  /// Called once, by who runs it; `error` is null if all went well. `seconds`: how long it ran.
  void finish(std::exception_ptr error = nullptr, double seconds = 0);
  /// Of a group on a device, before start() returns: makes the calling thread's stream wait for it.
  void set_follow(std::function<void()> follow) { follow_ = std::move(follow); }
  bool done() const;
  /// Whether it was done within `seconds`.
  bool wait_for(double seconds) const;
  /// Waits until it is done, or has the thread's stream wait. Rethrows its error, if known by then.
  void wait() const;
  /// Waits until it is done. Rethrows its error.
  void wait_on_host() const;
  /// How long it ran, once it is done: not counting its time in a queue.
  double seconds() const;

 private:
  const Collective collective_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool done_ = false;
  std::exception_ptr error_;
  double seconds_ = 0;
  std::function<void()> follow_;  // empty: the host waits
};

/// What the caller of a collective holds. Its destructor waits, so that the memory outlives the
/// collective even if an exception is thrown.
class [[nodiscard]] Handle {
 public:
  Handle() = default;
  explicit Handle(std::shared_ptr<const Work> work) : work_(std::move(work)) {}
  ~Handle() { settle(); }
  Handle(Handle&&) = default;
  Handle& operator=(Handle&& other);

  /// Waits until the collective is done on this rank. A group ends each one within its time-out. On a
  /// device the host waits for nothing: what the calling thread's stream is given from now on comes
  /// after the collective, and an error may come to light later (ProcessGroup::check).
  /// Errors: CommError, naming this rank, the collective, its number, and what went wrong.
  void wait();
  /// Waits at most that long; whether it is done. Throws nothing.
  bool wait_for(double seconds) const { return !work_ || work_->wait_for(seconds); }
  bool done() const { return !work_ || work_->done(); }
  const Collective& collective() const { return work_->collective(); }
  double seconds() const { return work_ ? work_->seconds() : 0; }

 private:
  void settle() noexcept;
  std::shared_ptr<const Work> work_;
};

/// Ranks 0 .. world - 1. One object a rank, each in a process of its own (in tests, a thread).
class ProcessGroup {
 public:
  ProcessGroup(int rank, int world);
  virtual ~ProcessGroup() = default;
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int world() const { return world_; }
  /// "self", "gloo", "ring", "nccl", "nccl-ring" or "counting"
  virtual const char* name() const = 0;

  /// Each element becomes its sum over ranks: the same bits on every rank.
  Handle all_reduce(const Elements& data);
  /// This rank's block of `data` (Elements::block) becomes its sum over ranks; what the other
  /// blocks then hold is not defined.
  Handle reduce_scatter(const Elements& data);
  /// Each block of `data` is copied from the rank whose block it is.
  Handle all_gather(const Elements& data);
  /// `data` is copied from rank `root`.
  Handle broadcast(const Elements& data, int root);
  /// Done when every rank has called it.
  Handle barrier();

  /// Waits on the host until all collectives so far are done, on a device too. To be called before the
  /// host relies on their results. Errors: the CommError of one that failed.
  virtual void check() {}

  /// The collective that is running now, and its seconds so far: for a watchdog, from any thread.
  struct Running {
    Collective collective;
    double seconds;
  };
  virtual std::optional<Running> running() const { return std::nullopt; }
  /// Collectives so far.
  int64_t sequence() const { return sequence_; }

 protected:
  /// Begins it. Must see to it that work->finish() is called within the group's time-out.
  virtual void start(std::shared_ptr<Work> work) = 0;
  /// "rank 1 of 4: all_reduce #17 of 4096 f32 over gloo failed after 60.0 s: ..."
  std::exception_ptr failure(const Collective& collective, double seconds,
                             const std::string& why) const;

 private:
  Handle begin(CollectiveKind kind, const Elements& data, int root = 0);

  const int rank_, world_;
  int64_t sequence_ = 0;
};

/// The group of a run with one rank: everything is done at the call, and nothing is touched.
std::unique_ptr<ProcessGroup> self_group();

}  // namespace minibert
