// repeat_counter.cpp: the sample and its sums. See repeat_counter.h.
#include "models/text/repeat_counter.h"

#include <algorithm>
#include <cstring>

namespace minibert {

uint64_t hash_of_text(std::string_view text) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15ull;  // 2^64 / golden ratio
  const auto mix = [](uint64_t x) {                 // splitmix64's finaliser: a permutation
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
  };
  uint64_t hash = text.size() * kOdd;
  for (size_t at = 0; at < text.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + at, std::min<size_t>(8, text.size() - at));
    hash = mix(hash ^ word) + kOdd;
  }
  return mix(hash);
}

int64_t RepeatCounter::add(uint64_t hash, int64_t weight, int part) {
  if (hash > limit_) return 0;
  Entry& entry = kept_[hash];
  entry.weight = weight;
  ++entry.count[static_cast<size_t>(part)];
  const int64_t seen = entry.count[0] + entry.count[1];
  while (kept_.size() > most_kept_) {
    limit_ /= 2;
    std::erase_if(kept_, [&](const auto& item) { return item.first > limit_; });
  }
  return hash <= limit_ ? seen : 0;
}

RepeatCounter::Repeats RepeatCounter::of_part(int part) const {
  const auto at = static_cast<size_t>(part);
  Repeats repeats;
  for (const auto& [hash, entry] : kept_) {
    const int64_t here = entry.count[at];
    repeats.all += here * entry.weight;
    if (here > 1) repeats.repeated += (here - 1) * entry.weight;
    if (here > 0 && entry.count[1 - at] > 0) repeats.in_both_parts += here * entry.weight;
  }
  return repeats;
}

}  // namespace minibert
