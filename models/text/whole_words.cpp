// whole_words.cpp: see whole_words.h.
#include "models/text/whole_words.h"

#include <algorithm>
#include <array>

#include "models/text/unicode.h"

namespace minibert {

WholeWords::WholeWords(std::span<const std::pair<std::string, int32_t>> pieces,
                       size_t most_characters) {
  const auto is_held = [&](const std::string& token) {
    return !token.empty() && token.size() <= kLongest && !token.starts_with("##") &&
           count_characters(token) <= most_characters;
  };
  const auto held = std::ranges::count_if(pieces, is_held, &std::pair<std::string, int32_t>::first);
  slots_.resize(std::bit_ceil(2 * static_cast<size_t>(held) + 2));
  shift_ = 64 - std::countr_zero(slots_.size());
  for (const auto& [token, id] : pieces) {
    if (!is_held(token)) continue;
    std::array<char, kReadable> padded = {};
    std::ranges::copy(token, padded.begin());
    const Key key = key_of({padded.data(), token.size()});
    size_t at = slot_of(key);
    while (slots_[at].id >= 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {key, id};
  }
}

}  // namespace minibert
