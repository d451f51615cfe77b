// data_faults.h: all faults of a data file in one message: how many, and the first ten by name; and the
// first of a list of names.
// Called by squad.cpp and labelled_text.cpp. Easy to break: a file of a million faults must give ten
// lines, and their number must be right. Test: ctest -R models_text_squad_test.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <fmt/ranges.h>

#include "core/error.h"

namespace minibert {

/// "a, b, c and 74 more": at most the first `most` names.
inline std::string first_of(const std::vector<std::string>& names, size_t most) {
  const auto shown = static_cast<ptrdiff_t>(std::min(names.size(), most));
  std::string text = fmt::format("{}", fmt::join(names.begin(), names.begin() + shown, ", "));
  if (names.size() > most) text += fmt::format(" and {} more", names.size() - most);
  return text;
}

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
