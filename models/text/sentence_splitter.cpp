// sentence_splitter.cpp: one pass over the text that applies the header's rules at each terminator.
#include "models/text/sentence_splitter.h"

#include <algorithm>
#include <array>
#include <string>

#include "models/text/unicode.h"

namespace minibert {
namespace {

struct Letter {
  char32_t code = 0;
  size_t bytes = 1;
};

/// The code point at text[at]; code 0 after the end.
Letter letter_at(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const DecodedCharacter character = decode_utf8(text, at);
  return {character.code_point, character.length};
}

bool one_of(char32_t code, std::u32string_view set) {
  return set.find(code) != std::u32string_view::npos;
}
bool is_blank(char32_t c) {
  return one_of(c, U" \t\r\n\f\v\u00A0\u3000");
}
bool is_terminator(char32_t c) {
  return one_of(c, U".!?\u2026");
}
bool is_ideographic_stop(char32_t c) {
  return one_of(c, U"\u3002\uFF01\uFF1F\uFF61");
}
bool is_closing(char32_t c) {
  return one_of(c, U"\"')]}_*\u201D\u2019\u00BB\u300D\u300F\uFF09");
}
bool is_opening(char32_t c) {
  return one_of(c, U"\"'([{_*\u201C\u2018\u201E\u00AB\u300C\u300E\uFF08");
}
bool is_ascii_upper(char32_t c) {
  return c >= 'A' && c <= 'Z';
}
bool is_ascii_letter(char32_t c) {
  return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}
bool is_digit(char32_t c) {
  return c >= '0' && c <= '9';
}
bool is_word(char32_t c) {
  if (c < 0x80) return is_ascii_letter(c) || is_digit(c);
  return c >= 0xAA && !one_of(c, U"\u00AB\u00BB\u00D7\u00F7") && !(c >= 0x2010 && c <= 0x206F) &&
         !(c >= 0x3000 && c <= 0x3020);
}

/// Lower-case letters of the common scripts that have case; everything else may start a sentence.
bool is_lower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  if (c < 0x100) return c >= 0xDF && c != 0xF7;
  if (c < 0x180) return c % 2 == 1;  // Latin Extended-A: the cases alternate, almost everywhere
  return (c >= 0x3AC && c <= 0x3CE) || (c >= 0x430 && c <= 0x45F);
}

bool may_start_sentence(char32_t c) {
  return is_word(c) && !is_lower(c);
}

template <typename Property>
size_t skip_while(std::string_view text, size_t at, Property property) {
  while (at < text.size()) {
    const Letter letter = letter_at(text, at);
    if (!property(letter.code)) break;
    at += letter.bytes;
  }
  return at;
}

// Lower case, without the last full stop. The first list never ends a sentence; the second
// abbreviates only before a number ("No. 97", but "No. He went.").
constexpr std::array<std::string_view, 37> kAbbreviations = {
    "adm", "brig", "bros", "capt",   "cf",  "cmdr", "col", "corp", "dr", "e.g",
    "ed",  "eds",  "esq",  "gen",    "gov", "hon",  "i.e", "inc",  "jr", "lieut",
    "lt",  "ltd",  "maj",  "messrs", "mme", "mr",   "mrs", "ms",   "mt", "prof",
    "rev", "sen",  "sgt",  "sr",     "st",  "viz",  "vs"};
constexpr std::array<std::string_view, 21> kNumberAbbreviations = {
    "apr", "art", "aug", "ch", "chap", "dec", "feb", "fig", "jan",  "mar", "no",
    "nos", "nov", "oct", "op", "p",    "pp",  "sec", "sep", "sept", "vol"};

/// Whether the full stop at text[stop] belongs to an abbreviation or an initial.
bool abbreviates(std::string_view text, size_t stop) {
  size_t start = stop;
  while (start > 0 &&
         (is_ascii_letter(static_cast<unsigned char>(text[start - 1])) || text[start - 1] == '.'))
    --start;
  std::string word(text.substr(start, stop - start));
  if (word.size() == 1)
    return is_ascii_upper(static_cast<unsigned char>(word[0])) && word[0] != 'I';
  // The A.B. of "A.B. Smith", "e.g."
  const bool initials = word.size() >= 3 && word[word.size() - 2] == '.';
  if (initials && is_ascii_upper(static_cast<unsigned char>(word.back()))) return true;
  for (char& c : word)
    c = static_cast<char>(is_ascii_upper(static_cast<unsigned char>(c)) ? c | 0x20 : c);
  const std::string_view lower = word;
  if (std::find(kAbbreviations.begin(), kAbbreviations.end(), lower) != kAbbreviations.end())
    return true;
  const size_t after = skip_while(text, stop + 1, is_blank);
  return is_digit(letter_at(text, after).code) &&
         std::find(kNumberAbbreviations.begin(), kNumberAbbreviations.end(), lower) !=
             kNumberAbbreviations.end();
}

/// Length of the dash at text[at]: two or more hyphens, or em dashes; 0 if there is none.
size_t dash_at(std::string_view text, size_t at) {
  const size_t hyphens = skip_while(text, at, [](char32_t c) { return c == '-'; }) - at;
  if (hyphens >= 2) return hyphens;
  return skip_while(text, at, [](char32_t c) { return c == 0x2014; }) - at;
}

/// The end of the sentence if the terminators at `at` end one, else 0. Sets `next` to where the
/// search continues.
size_t sentence_end(std::string_view text, size_t at, size_t& next) {
  const size_t after_marks =
      skip_while(text, at, [](char32_t c) { return is_terminator(c) || is_ideographic_stop(c); });
  const bool ideographic = is_ideographic_stop(letter_at(text, at).code);
  size_t end = skip_while(text, after_marks, is_closing);
  next = after_marks;
  if (ideographic) return end;
  if (text[at] == '.' && after_marks == at + 1 && abbreviates(text, at)) return 0;
  const size_t dash = dash_at(text, end);
  end += dash;
  const size_t after_blanks = skip_while(text, end, is_blank);
  if (after_blanks == end && dash == 0) return 0;
  const size_t word = skip_while(text, after_blanks, is_opening);
  return may_start_sentence(letter_at(text, word).code) ? end : 0;
}

bool has_word(std::string_view text) {
  return skip_while(text, 0, [](char32_t c) { return !is_word(c); }) < text.size();
}

std::string_view trim(std::string_view text) {
  text.remove_prefix(skip_while(text, 0, is_blank));
  while (!text.empty()) {
    size_t last = text.size() - 1;  // where the last character begins
    while (last > 0 && (text[last] & 0xC0) == 0x80) --last;
    if (!is_blank(letter_at(text, last).code)) break;
    text = text.substr(0, last);
  }
  return text;
}

}  // namespace

std::vector<std::string_view> split_sentences(std::string_view paragraph) {
  std::vector<std::string_view> sentences;
  size_t begin = 0;
  const auto cut = [&](size_t end) {
    const std::string_view sentence = trim(paragraph.substr(begin, end - begin));
    if (has_word(sentence)) {
      sentences.push_back(sentence);
    } else if (sentences.empty()) {
      return;                        // only marks: part of the first sentence, still to come
    } else if (!sentence.empty()) {  // part of the sentence before
      const char* start = sentences.back().data();
      sentences.back() = {start, static_cast<size_t>(sentence.data() + sentence.size() - start)};
    }
    begin = end;
  };
  for (size_t at = 0; at < paragraph.size();) {
    const Letter letter = letter_at(paragraph, at);
    if (!is_terminator(letter.code) && !is_ideographic_stop(letter.code)) {
      at += letter.bytes;
      continue;
    }
    size_t next = at;
    const size_t end = sentence_end(paragraph, at, next);
    if (end > 0) cut(end);
    at = std::max(next, end);
  }
  cut(paragraph.size());
  return sentences;
}

}  // namespace minibert
