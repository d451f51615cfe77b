// ascii_block.h: 64 bytes of a text at once: which are letters, which are punctuation, and their lower
// case; then the words among them, a bit operation each. Called by basic_tokenizer.h, which reads all
// else byte by byte. Easy to break: a word that has a character beyond ASCII, or that the block's end
// cuts, is not in for_each_word(), nor is anything after it. Test: ctest -R text_ascii_block.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/simd.h"

namespace minibert {

struct AsciiBlock {
  static constexpr size_t kBytes = 64;
  static constexpr size_t kReadable = 16;  // bytes that may be read from a word's beginning

  // Bit i: byte i is a letter or digit; is punctuation; is none of these, and no blank either.
  uint64_t letters, punctuation, other;
  alignas(kBytes) char text[kBytes + kReadable];

  /// Calls `on_word(std::string_view)` for each word up to the first that is not whole. Returns the
  /// bytes before that one, or kBytes.
  template <typename OnWord>
  size_t for_each_word(const OnWord& on_word) const {
    const uint64_t joined = letters | other;
    const uint64_t starts = (joined & ~(joined << 1)) | punctuation;
    const uint64_t borders = starts | (joined << 1 & ~joined) | punctuation << 1;
    const size_t end = whole_words_end(starts);
    for (uint64_t left = starts & below(end); left != 0; left &= left - 1) {
      const int begin = std::countr_zero(left);
      const int word_end = std::countr_zero(borders & (~uint64_t{1} << begin));
      on_word(std::string_view(text + begin, static_cast<size_t>(word_end - begin)));
    }
    return end;
  }

 private:
  static uint64_t below(size_t bit) {
    return bit < kBytes ? (uint64_t{1} << bit) - 1 : ~uint64_t{0};
  }

  /// Where the word begins that has the first other character or the block's last letter.
  size_t whole_words_end(uint64_t starts) const {
    const bool is_cut = letters >> (kBytes - 1) != 0;
    if (other == 0 && !is_cut) return kBytes;
    const size_t inside = other != 0 ? static_cast<size_t>(std::countr_zero(other)) : kBytes - 1;
    return kBytes - 1 - static_cast<size_t>(std::countl_zero(starts & below(inside + 1)));
  }
};

/// Reads the first `size` <= kBytes bytes; those after them are blanks.
MB_SIMD_DECLARE(void, read_ascii_block,
                (const char* text, size_t size, bool lowercase, AsciiBlock& block))

}  // namespace minibert
