// whole_words.h: ids of the words that are one piece, found by hash: one load and one comparison for
// most words of a text. Called by wordpiece.cpp before it cuts a word. Built once from the
// vocabulary, then only read, so all threads share it and its size is bounded by the vocabulary's.
// Easy to break: the length is part of a key, since a word may end in zero bytes.
// Test: ctest -R text_whole_words.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace minibert {

class WholeWords {
 public:
  static constexpr size_t kLongest = 15;   // bytes; longer words are not held
  static constexpr size_t kReadable = 16;  // bytes that find() reads

  /// Pieces that begin a word, of at most kLongest bytes and `most_characters` characters.
  WholeWords(std::span<const std::pair<std::string, int32_t>> pieces, size_t most_characters);

  /// Id of a word, or -1. kReadable bytes must be readable from its beginning.
  int32_t find(std::string_view word) const {
    if (word.size() > kLongest) return -1;
    const Key key = key_of(word);
    for (size_t at = slot_of(key);; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.id < 0 || slot.key == key) return slot.id;
    }
  }

 private:
  struct Key {
    uint64_t low = 0, high = 0;  // the bytes, zeros, and the length in the last byte
    bool operator==(const Key&) const = default;
  };
  struct Slot {
    Key key;
    int32_t id = -1;  // of a free slot
  };

  static Key key_of(std::string_view word) {
    static_assert(std::endian::native == std::endian::little);
    Key key;
    std::memcpy(&key.low, word.data(), 8);
    std::memcpy(&key.high, word.data() + 8, 8);
    const uint64_t bits = word.size() * 8;
    const uint64_t mask = (uint64_t{1} << bits % 64) - 1;  // of the half in which the word ends
    key.low &= bits < 64 ? mask : ~uint64_t{0};
    key.high &= bits < 64 ? 0 : mask;
    key.high |= uint64_t{word.size()} << 56;
    return key;
  }
  size_t slot_of(const Key& key) const {
    constexpr uint64_t kFirst = 0x9E3779B97F4A7C15,
                       kSecond = 0xD6E8FEB86659FD93;  // odd, well mixed
    return (key.low ^ key.high * kFirst) * kSecond >> shift_;
  }

  std::vector<Slot> slots_;  // open addressing; a power of two, at least twice the words
  int shift_ = 0;            // 64 - log2 of the slots
};

}  // namespace minibert
