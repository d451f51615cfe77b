// unicode.cpp: UTF-8 decoding by the table of well-formed sequences, and the two-level property
// table. Easy to break: equal pages are shared, so the table has about 60 KiB and stays in the
// cache. Test: ctest -R text_unicode.
#include "models/text/unicode.h"

#include <algorithm>
#include <map>
#include <span>

#include "models/text/unicode_tables.h"

namespace minibert {
namespace {

constexpr uint32_t kCodePoints = 0x110000;
constexpr uint32_t kPage = 256;
constexpr uint32_t kHangulFirst = 0xAC00, kHangulLast = 0xD7A3;

/// What may follow a lead byte: length of the sequence and the range of the second byte (Unicode
/// table 3-7).
struct Lead {
  uint32_t length;
  uint8_t second_low, second_high;
};

Lead classify_lead(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};  // a continuation byte, an overlong form or beyond U+10FFFF
}

void mark_ranges(std::vector<uint16_t>& bits,
                 std::span<const unicode_tables::CodePointRange> ranges, uint16_t flag) {
  for (const auto& range : ranges) {
    for (uint32_t c = range.first; c <= range.last; ++c) bits[c] |= flag;
  }
}

const unicode_tables::Mapping* find_mapping(std::span<const unicode_tables::Mapping> table,
                                            uint32_t code_point) {
  const auto found = std::lower_bound(
      table.begin(), table.end(), code_point,
      [](const unicode_tables::Mapping& entry, uint32_t c) { return entry.from < c; });
  return found != table.end() && found->from == code_point ? &*found : nullptr;
}

std::array<uint32_t, 4> map_or_same(std::span<const unicode_tables::Mapping> table,
                                    uint32_t code_point) {
  const auto* entry = find_mapping(table, code_point);
  if (entry == nullptr) return {code_point, 0, 0, 0};
  return {entry->to[0], entry->to[1], entry->to[2], entry->to[3]};
}

}  // namespace

DecodedCharacter decode_utf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(at);
  if (first < 0x80) return {first, 1, true};
  const Lead lead = classify_lead(first);
  uint32_t code_point = first & (0x7Fu >> lead.length);
  for (uint32_t i = 1; i < lead.length; ++i) {
    if (at + i >= text.size()) return {kReplacementCharacter, i, false};
    const uint8_t next = byte(at + i);
    const uint8_t low = i == 1 ? lead.second_low : 0x80, high = i == 1 ? lead.second_high : 0xBF;
    if (next < low || next > high) return {kReplacementCharacter, i, false};
    code_point = code_point << 6 | (next & 0x3Fu);
  }
  if (lead.length == 0) return {kReplacementCharacter, 1, false};
  return {code_point, lead.length, true};
}

void append_utf8(uint32_t c, std::string& out) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

size_t count_invalid_utf8(std::string_view text) {
  size_t invalid = 0;
  for (size_t i = 0; i < text.size();) {
    if (static_cast<uint8_t>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const DecodedCharacter c = decode_utf8(text, i);
    invalid += c.valid ? 0 : 1;
    i += c.length;
  }
  return invalid;
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_white_space(uint32_t c) {
  return c == 0x0B || c == 0x0C || c == 0x85 ||
         CharacterTable::instance()[c].any(CharacterProperties::kSpace);
}

const CharacterTable& CharacterTable::instance() {
  static const CharacterTable table;
  return table;
}

CharacterTable::CharacterTable() {
  using P = CharacterProperties;
  std::vector<uint16_t> bits(kCodePoints, 0);
  mark_ranges(bits, unicode_tables::kDrop, P::kDrop);
  mark_ranges(bits, unicode_tables::kSpace, P::kSpace);
  mark_ranges(bits, unicode_tables::kCjk, P::kCjk);
  mark_ranges(bits, unicode_tables::kPunctuation, P::kPunctuation);
  mark_ranges(bits, unicode_tables::kMark, P::kMark);
  mark_ranges(bits, unicode_tables::kWord, P::kWord);
  for (const auto& range : unicode_tables::kCombiningClass) {
    const auto shifted = static_cast<uint16_t>(range.combining_class << 8);
    for (uint32_t c = range.first; c <= range.last; ++c) bits[c] |= shifted;
  }
  for (const auto& entry : unicode_tables::kDecomposition) bits[entry.from] |= P::kDecomposes;
  for (uint32_t c = kHangulFirst; c <= kHangulLast; ++c) bits[c] |= P::kDecomposes;
  for (const auto& entry : unicode_tables::kLower) bits[entry.from] |= P::kHasLower;

  std::map<std::vector<uint16_t>, uint16_t> known;
  for (uint32_t first = 0; first < kCodePoints; first += kPage) {
    std::vector<uint16_t> page(bits.begin() + first, bits.begin() + first + kPage);
    const auto [place, is_new] = known.try_emplace(page, static_cast<uint16_t>(known.size()));
    if (is_new) pages_.insert(pages_.end(), page.begin(), page.end());
    page_of_.push_back(place->second);
  }
}

std::array<uint32_t, 4> CharacterTable::decomposition(uint32_t c) const {
  if (c < kHangulFirst || c > kHangulLast) {
    return map_or_same(unicode_tables::kDecomposition, c);
  }
  const uint32_t syllable = c - kHangulFirst;  // Unicode section 3.12
  const uint32_t tail = syllable % 28;
  return {0x1100 + syllable / 588, 0x1161 + syllable % 588 / 28, tail == 0 ? 0 : 0x11A7 + tail, 0};
}

std::array<uint32_t, 4> CharacterTable::lower(uint32_t c) const {
  return map_or_same(unicode_tables::kLower, c);
}

}  // namespace minibert
