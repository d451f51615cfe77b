// memory_store.h: a Store between threads.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>

#include "core/error.h"
#include "dist/store.h"

namespace minibert::testing {

class MemoryStore : public Store {
 public:
  void set(const std::string& key, std::string_view value) override {
    const std::lock_guard lock(mutex_);
    values_[key] = value;
    changed_.notify_all();
  }
  std::string get(const std::string& key, double timeout) override {
    std::unique_lock lock(mutex_);
    MB_CHECK_AS(CommError,
                changed_.wait_for(lock, std::chrono::duration<double>(timeout),
                                  [&] { return values_.contains(key); }),
                "store: {} was not set for {:g} s", key, timeout);
    return values_[key];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
};

}  // namespace minibert::testing
