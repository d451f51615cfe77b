// scripts.h: the script of a letter, coarsely: what tells text in Cyrillic from text in Latin.
// Called by corpus_observer.cpp. Easy to break: blanks, digits, marks, accents of their own and
// emoji are of no script. Ranges: Unicode 15, Blocks.txt, one row a block or a few neighbours.
// Test: ctest -R corpus_lint.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace minibert {

enum class Script : uint8_t {
  none,
  latin,
  greek,
  cyrillic,
  armenian,
  hebrew,
  arabic,
  devanagari,
  bengali,
  gujarati,
  tamil,
  telugu,
  kannada,
  malayalam,
  sinhala,
  thai,
  tibetan,
  burmese,
  georgian,
  ethiopic,
  khmer,
  hangul,
  kana,
  han,
  other
};
inline constexpr size_t kScripts = static_cast<size_t>(Script::other) + 1;

/// "latin", "cyrillic", ...
const char* name_of(Script script);
Script script_of(uint32_t code_point);
/// Whether a character is often a word of its own, so a vocabulary of single characters is usual.
bool is_ideographic(Script script);

}  // namespace minibert
