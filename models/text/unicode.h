// unicode.h: UTF-8 in and out, and the properties that BERT's tokenizer needs of a code point.
// Called by basic_tokenizer.cpp, vocab.cpp and wordpiece.cpp; data from unicode_tables.h.
// Easy to break: a malformed byte sequence decodes to U+FFFD and never reads past the end of the
// text. Test: ctest -R text_unicode. Source: Unicode 15 section 3.9, table 3-7 (well-formed UTF-8,
// maximal subparts).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace minibert {

inline constexpr uint32_t kReplacementCharacter = 0xFFFD;

struct DecodedCharacter {
  uint32_t code_point;  // U+FFFD if the bytes are malformed
  uint32_t length;      // bytes taken, at least 1
  bool valid;
};

/// Decodes the character that begins at `text[at]`; at < text.size().
/// A malformed sequence takes its maximal subpart, as Python's decode(errors="replace") does.
DecodedCharacter decode_utf8(std::string_view text, size_t at);

/// Appends the UTF-8 form of a code point.
void append_utf8(uint32_t code_point, std::string& out);

/// Number of malformed sequences in a text, each of which decodes to one U+FFFD.
size_t count_invalid_utf8(std::string_view text);

/// Number of characters of a valid UTF-8 text.
size_t count_characters(std::string_view text);

/// Whether Unicode calls it White_Space (`char::is_whitespace` of Rust). Cleaning drops three of them.
bool is_white_space(uint32_t code_point);

/// Properties of a code point as BERT's tokenizer sees them: flags and the canonical combining
/// class.
struct CharacterProperties {
  static constexpr uint16_t kDrop = 1;         // removed by cleaning
  static constexpr uint16_t kSpace = 2;        // separates words
  static constexpr uint16_t kCjk = 4;          // a word of its own
  static constexpr uint16_t kPunctuation = 8;  // a word of its own
  static constexpr uint16_t kMark = 16;        // an accent that strip_accents removes
  static constexpr uint16_t kDecomposes = 32;  // NFD changes it
  static constexpr uint16_t kHasLower = 64;    // lower case changes it
  static constexpr uint16_t kWord = 128;       // part of a word, to an added token's single_word

  uint16_t bits;

  bool any(uint16_t flags) const { return (bits & flags) != 0; }
  uint8_t combining_class() const { return static_cast<uint8_t>(bits >> 8); }
};

/// Two-level table over all code points, built once from unicode_tables.h.
class CharacterTable {
 public:
  static const CharacterTable& instance();

  CharacterProperties operator[](uint32_t code_point) const {
    return {pages_[page_of_[code_point >> 8] * 256 + (code_point & 255)]};
  }

  /// NFD of one code point: 1 to 4 code points, then zeros.
  std::array<uint32_t, 4> decomposition(uint32_t code_point) const;

  /// Lower case of one code point: 1 or 2 code points, then zeros.
  std::array<uint32_t, 4> lower(uint32_t code_point) const;

 private:
  CharacterTable();
  std::vector<uint16_t> page_of_;  // [0x1100]
  std::vector<uint16_t> pages_;    // [distinct pages * 256]
};

}  // namespace minibert
