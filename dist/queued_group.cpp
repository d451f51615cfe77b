// queued_group.cpp: the thread that runs collectives, and what it says when one fails.
#include "dist/queued_group.h"

#include "core/error.h"

namespace minibert {

QueuedGroup::QueuedGroup(int rank, int world, Blame blame)
    : ProcessGroup(rank, world), blame_(std::move(blame)) {}

void QueuedGroup::start(std::shared_ptr<Work> work) {
  const std::lock_guard lock(mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
  if (queue_.empty()) front_since_ = seconds_now();
  queue_.push_back(std::move(work));
  changed_.notify_all();
}

std::optional<ProcessGroup::Running> QueuedGroup::running() const {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) return std::nullopt;
  return Running{queue_.front()->collective(), seconds_now() - front_since_};
}

void QueuedGroup::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void QueuedGroup::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::shared_ptr<Work> work = queue_.front();
    lock.unlock();
    const double start = seconds_now();
    std::exception_ptr error = run(work->collective());
    lock.lock();
    queue_.pop_front();
    front_since_ = seconds_now();
    work->finish(std::move(error), seconds_now() - start);
  }
}

std::exception_ptr QueuedGroup::run(const Collective& collective) {
  const double start = seconds_now();
  std::string why;
  try {
    if (!failed_.empty()) fail<CommError>("{} failed before", failed_);
    MB_CHECK_AS(CommError, collective.data.device == Device::cpu,
                "{} works in the host's memory alone", name());
    execute(collective);
    return nullptr;
  } catch (const std::exception& error) {
    why = error.what();
  }
  const double seconds = seconds_now() - start;
  if (failed_.empty()) {
    failed_ = collective.str();
    const std::string blamed = blame_ ? blame_(failed_) : "";
    if (!blamed.empty()) why = blamed + " (" + why + ")";
  }
  return failure(collective, seconds, why);
}

}  // namespace minibert
