// queued_group.h: a process group whose collectives block: one thread of its own runs them in order.
// Base of GlooGroup and RingGroup; the group over NCCL, which queues on a stream, derives from
// ProcessGroup itself. After a collective has failed all later ones fail at once: the ranks no
// longer agree on what comes next. Easy to break: a derived class calls stop() in its destructor,
// before its own members go. Test: ctest -R dist_queued_group.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "dist/process_group.h"

namespace minibert {

class QueuedGroup : public ProcessGroup {
 public:
  QueuedGroup(int rank, int world, Blame blame);
  ~QueuedGroup() override { stop(); }
  std::optional<Running> running() const override;

 protected:
  /// Runs a collective to its end. Errors: any std::exception, within the group's time-out.
  virtual void execute(const Collective& collective) = 0;
  /// Runs what is queued, then ends the thread.
  void stop() noexcept;

 private:
  void start(std::shared_ptr<Work> work) override;
  void serve();
  std::exception_ptr run(const Collective& collective);

  const Blame blame_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Work>> queue_;  // the front is running
  double front_since_ = 0;
  bool stopping_ = false;
  std::string failed_;  // the first collective that failed; read and written by the thread alone
  std::thread thread_;
};

}  // namespace minibert
