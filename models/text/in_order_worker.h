// in_order_worker.h: a thread that does one task after the other, while its owner prepares the
// next. Called by text_stage.cpp and example_stage.cpp. Easy to break: tasks run in the order in
// which they were given, and at most kWaiting of them wait, so memory stays bounded; a task's
// exception reaches the owner at its next call. Test: ctest -R in_order_worker.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace minibert {

class InOrderWorker {
 public:
  static constexpr size_t kWaiting = 1;

  InOrderWorker() : thread_([this] { work(); }) {}
  /// Drops the tasks that have not begun.
  ~InOrderWorker() {
    {
      const std::lock_guard lock(mutex_);
      tasks_.clear();
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  InOrderWorker(const InOrderWorker&) = delete;
  InOrderWorker& operator=(const InOrderWorker&) = delete;

  /// Waits until there is room. Errors: those of an earlier task.
  void give(std::function<void()> task) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tasks_.size() < kWaiting || error_; });
    rethrow();
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  /// Returns when every task is done. Errors: as give().
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return (tasks_.empty() && !busy_) || error_; });
    rethrow();
  }

 private:
  void rethrow() {
    if (error_) std::rethrow_exception(error_);
  }
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return !tasks_.empty() || ending_; });
      if (ending_) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      changed_.notify_all();  // there is room for another
      busy_ = true;
      lock.unlock();
      std::exception_ptr error;
      try {
        task();
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      busy_ = false;
      if (error && !error_) error_ = error;
      if (error_) tasks_.clear();
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::exception_ptr error_;
  bool busy_ = false, ending_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace minibert
