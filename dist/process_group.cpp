// process_group.cpp: numbers and names of collectives, their handles, and the group of one rank.
#include "dist/process_group.h"

#include "core/error.h"

namespace minibert {

const char* name_of(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::all_reduce:
      return "all_reduce";
    case CollectiveKind::reduce_scatter:
      return "reduce_scatter";
    case CollectiveKind::all_gather:
      return "all_gather";
    case CollectiveKind::broadcast:
      return "broadcast";
    case CollectiveKind::barrier:
      return "barrier";
  }
  return "?";
}

std::string Collective::str() const {
  std::string text = fmt::format("{} #{}", name_of(kind), sequence);
  if (kind != CollectiveKind::barrier) text += " of " + data.str();
  if (kind == CollectiveKind::broadcast) text += fmt::format(" from rank {}", root);
  return text;
}

// ---- Work and its handle -----------------------------------------------------------------------

void Work::finish(std::exception_ptr error, double seconds) {
  const std::lock_guard lock(mutex_);
  error_ = std::move(error);
  seconds_ = seconds;
  done_ = true;
  changed_.notify_all();
}

bool Work::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

bool Work::wait_for(double seconds) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return done_; });
}

void Work::wait() const {
  if (!follow_) return wait_on_host();
  {
    const std::lock_guard lock(mutex_);
    if (error_) std::rethrow_exception(error_);
  }
  follow_();
}

void Work::wait_on_host() const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_; });
  if (error_) std::rethrow_exception(error_);
}

double Work::seconds() const {
  const std::lock_guard lock(mutex_);
  return seconds_;
}

Handle& Handle::operator=(Handle&& other) {
  if (this != &other) {
    settle();
    work_ = std::move(other.work_);
  }
  return *this;
}

void Handle::wait() {
  if (work_) work_->wait();
}

void Handle::settle() noexcept {
  try {
    wait();
  } catch (const std::exception&) {  // whoever wants to know of errors calls wait()
  }
}

// ---- Groups ------------------------------------------------------------------------------------

ProcessGroup::ProcessGroup(int rank, int world) : rank_(rank), world_(world) {
  MB_CHECK(world >= 1 && rank >= 0 && rank < world,
           "process group: rank is {} of {}, expected 0 to world size - 1", rank, world);
}

Handle ProcessGroup::begin(CollectiveKind kind, const Elements& data, int root) {
  MB_CHECK(root >= 0 && root < world_, "broadcast: root is {}, expected 0 to {}", root, world_ - 1);
  const auto work = std::make_shared<Work>(Collective{kind, ++sequence_, data, root});
  start(work);
  return Handle(work);
}

std::exception_ptr ProcessGroup::failure(const Collective& collective, double seconds,
                                         const std::string& why) const {
  return std::make_exception_ptr(
      CommError(fmt::format("rank {} of {}: {} over {} failed after {:.1f} s: {}", rank(), world(),
                            collective.str(), name(), seconds, why)));
}

Handle ProcessGroup::all_reduce(const Elements& data) {
  return begin(CollectiveKind::all_reduce, data);
}

Handle ProcessGroup::reduce_scatter(const Elements& data) {
  return begin(CollectiveKind::reduce_scatter, data);
}

Handle ProcessGroup::all_gather(const Elements& data) {
  return begin(CollectiveKind::all_gather, data);
}

Handle ProcessGroup::broadcast(const Elements& data, int root) {
  return begin(CollectiveKind::broadcast, data, root);
}

Handle ProcessGroup::barrier() {
  return begin(CollectiveKind::barrier, {});
}

namespace {

class SelfGroup : public ProcessGroup {
 public:
  SelfGroup() : ProcessGroup(0, 1) {}
  const char* name() const override { return "self"; }

 private:
  void start(std::shared_ptr<Work> work) override { work->finish(); }
};

}  // namespace

std::unique_ptr<ProcessGroup> self_group() {
  return std::make_unique<SelfGroup>();
}

}  // namespace minibert
