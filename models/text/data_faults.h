// data_faults.h: all faults of a data file in one message: how many, and the first ten by name.
// Called by squad.cpp and labelled_text.cpp. Easy to break: a file of a million faults must give ten
// lines, and their number must be right. Test: ctest -R models_text_squad_test.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"

namespace minibert {

class DataFaults {
 public:
  static constexpr size_t kShown = 10;

  void add(std::string fault) {
    ++count_;
    if (shown_.size() < kShown) shown_.push_back(std::move(fault));
  }
  int64_t count() const { return count_; }
  /// "FILE: 12 WHAT. FIX\n  fault\n  ...\n  and 2 more"
  std::string text(const std::string& file, const char* what, const std::string& fix) const {
    std::string text = fmt::format("{}: {} {}. {}", file, count_, what, fix);
    for (const std::string& fault : shown_) text += "\n  " + fault;
    const auto more = count_ - static_cast<int64_t>(shown_.size());
    if (more > 0) text += fmt::format("\n  and {} more", more);
    return text;
  }
  /// Errors: DataError with text(), if there are any.
  void check(const std::string& file, const char* what, const std::string& fix) const {
    if (count_ > 0) fail<DataError>("{}", text(file, what, fix));
  }

 private:
  int64_t count_ = 0;
  std::vector<std::string> shown_;
};

}  // namespace minibert
