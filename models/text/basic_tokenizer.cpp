// basic_tokenizer.cpp: non-ASCII characters: dropped, space, ideograph, or letters after NFD and
// lower case. Most ASCII is read by ascii_block.h. Easy to break: a mark that strip_accents
// removes still ends a run of pending marks if its combining class is 0.
// Test: ctest -R text_basic_tokenizer.
#include "models/text/basic_tokenizer.h"

#include <algorithm>

namespace minibert {

using Properties = CharacterProperties;

BasicTokenizer::BasicTokenizer(const TokenizerOptions& options)
    : options_(options),
      table_(CharacterTable::instance()),
      read_block_(MB_SIMD(read_ascii_block)) {
  kind_.fill(AsciiKind::beyond);
  for (uint32_t c = 0; c < 128; ++c) {
    const Properties properties = properties_of(c);
    kind_[c] = properties.any(Properties::kDrop)          ? AsciiKind::drop
               : properties.any(Properties::kSpace)       ? AsciiKind::space
               : properties.any(Properties::kPunctuation) ? AsciiKind::punctuation
                                                          : AsciiKind::letter;
    ascii_[c] = static_cast<char>(options_.lowercase ? table_.lower(c)[0] : c);
  }
}

CharacterProperties BasicTokenizer::properties_of(uint32_t c) const {
  Properties properties = table_[c];
  if (options_.clean_text || !properties.any(Properties::kDrop)) return properties;
  properties.bits &= static_cast<uint16_t>(~Properties::kDrop);
  if (is_white_space(c)) properties.bits |= Properties::kSpace;
  return properties;
}

std::vector<std::string> BasicTokenizer::split(std::string_view text) const {
  std::vector<std::string> words;
  split(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

template <typename Put>
void BasicTokenizer::put_lower(uint32_t c, const Put& put) const {
  if (!options_.lowercase || !table_[c].any(Properties::kHasLower)) return put(c);
  for (const uint32_t lowered : table_.lower(c)) {
    if (lowered != 0) put(lowered);
  }
}

template <typename Put>
void BasicTokenizer::flush(std::vector<PendingMark>& pending, const Put& put) const {
  if (pending.empty()) return;
  std::stable_sort(pending.begin(), pending.end(), [](const PendingMark& a, const PendingMark& b) {
    return a.combining_class < b.combining_class;
  });
  for (const PendingMark& mark : pending) put_lower(mark.code_point, put);
  pending.clear();
}

template <typename Put>
void BasicTokenizer::take(uint32_t c, std::vector<PendingMark>& pending, const Put& put) const {
  if (!options_.strip_accents) return put_lower(c, put);
  const auto take_part = [&](uint32_t part) {
    const Properties properties = table_[part];
    const uint8_t combining_class = properties.combining_class();
    if (combining_class == 0) flush(pending, put);
    if (properties.any(Properties::kMark)) return;
    if (combining_class == 0) return put_lower(part, put);
    pending.push_back({part, combining_class});
  };
  if (!table_[c].any(Properties::kDecomposes)) return take_part(c);
  for (const uint32_t part : table_.decomposition(c)) {
    if (part != 0) take_part(part);
  }
}

size_t BasicTokenizer::take_any(std::string_view text, size_t at, State& state) const {
  while (at < text.size()) {
    const auto byte = static_cast<uint8_t>(text[at]);
    const AsciiKind kind = kind_[byte];
    if (kind == AsciiKind::punctuation) break;
    if (kind == AsciiKind::space) {
      ++at;  // without clean_text, it may be one that a block calls `other`
      break;
    }
    if (kind == AsciiKind::beyond) {
      at = take_non_ascii(text, at, state);
      continue;
    }
    if (kind == AsciiKind::letter) state.bytes.push_back(ascii_[byte]);
    ++at;
  }
  finish_word(state);
  state.bytes.append(kReadable, '\0');
  return at;
}

size_t BasicTokenizer::take_non_ascii(std::string_view text, size_t at, State& state) const {
  const auto put = [&](uint32_t c) { append_final(c, state); };
  const auto end_word = [&] {
    flush(state.pending, put);
    finish_word(state);
  };
  while (at < text.size()) {
    const DecodedCharacter character = decode_utf8(text, at);
    const uint32_t c = character.code_point;
    const Properties properties = properties_of(c);
    if (c < 128 && !properties.any(Properties::kDrop)) break;
    at += character.length;
    if (properties.any(Properties::kDrop)) continue;
    const bool is_space = properties.any(Properties::kSpace);
    const bool is_own_word = options_.split_chinese && properties.any(Properties::kCjk);
    if (is_space || is_own_word) end_word();
    if (!is_space) take(c, state.pending, put);
    if (is_own_word) end_word();
  }
  flush(state.pending, put);
  return at;
}

std::string BasicTokenizer::normalize(std::string_view text) const {
  std::string result;
  std::vector<PendingMark> pending;
  const auto put = [&](uint32_t c) { append_utf8(c, result); };
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter character = decode_utf8(text, at);
    at += character.length;
    const uint32_t c = character.code_point;
    const Properties properties = properties_of(c);
    if (properties.any(Properties::kDrop)) continue;
    const bool is_space = options_.clean_text && properties.any(Properties::kSpace);
    const bool is_own_word = options_.split_chinese && properties.any(Properties::kCjk);
    if (is_own_word) take(' ', pending, put);
    take(is_space ? ' ' : c, pending, put);
    if (is_own_word) take(' ', pending, put);
  }
  flush(pending, put);
  return result;
}

void BasicTokenizer::append_final(uint32_t code_point, State& state) const {
  const bool is_punctuation = table_[code_point].any(Properties::kPunctuation);
  if (is_punctuation) finish_word(state);
  append_utf8(code_point, state.bytes);
  if (is_punctuation) finish_word(state);
}

void BasicTokenizer::finish_word(State& state) {
  const size_t begin = state.ends.empty() ? 0 : state.ends.back();
  if (state.bytes.size() > begin) state.ends.push_back(state.bytes.size());
}

}  // namespace minibert
