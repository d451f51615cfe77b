// repeat_counter.h: how much of a text repeats what came before, in bounded memory. Called by
// corpus_observer.cpp. It keeps the hashes below a limit, which halves whenever they become too many:
// a sample of the distinct items with all their occurrences. Easy to break: what is kept depends on the
// items alone, never on their order or on threads. Test: ctest -R corpus_lint.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace minibert {

/// 64 bits of a text, the same on every machine.
uint64_t hash_of_text(std::string_view text);

class RepeatCounter {
 public:
  explicit RepeatCounter(size_t most_kept = size_t{1} << 19) : most_kept_(most_kept) {}

  /// Counts an item in a part (0: training text, 1: held out). Returns how often it has been seen in
  /// both; 0 if it is outside the sample. weight: the same for equal items.
  int64_t add(uint64_t hash, int64_t weight, int part);

  struct Repeats {
    /// Weight of the items that equal an earlier one of the same part, and of all, in the sample.
    int64_t repeated = 0, all = 0;
    int64_t in_both_parts = 0;  // weight of this part's items that are in the other part, too
  };
  Repeats of_part(int part) const;

 private:
  struct Entry {
    int64_t weight = 0;
    std::array<int64_t, 2> count{};
  };
  const size_t most_kept_;
  uint64_t limit_ = ~uint64_t{0};
  std::unordered_map<uint64_t, Entry> kept_;
};

}  // namespace minibert
