// scripts.cpp: one table of blocks. See scripts.h.
#include "models/text/scripts.h"

#include <algorithm>
#include <iterator>

namespace minibert {
namespace {

struct Block {
  uint32_t first, last;
  Script script;
};

// Sorted. What lies between two rows is of no script.
constexpr Block kBlocks[] = {
    {'A', 'Z', Script::latin},
    {'a', 'z', Script::latin},
    {0xAA, 0xAA, Script::latin},
    {0xB5, 0xB5, Script::none},
    {0xBA, 0xBA, Script::latin},
    {0xC0, 0xD6, Script::latin},
    {0xD8, 0xF6, Script::latin},
    {0xF8, 0x2AF, Script::latin},
    {0x2B0, 0x36F, Script::none},  // modifiers, accents
    {0x370, 0x3FF, Script::greek},
    {0x400, 0x52F, Script::cyrillic},
    {0x530, 0x58F, Script::armenian},
    {0x590, 0x5FF, Script::hebrew},
    {0x600, 0x6FF, Script::arabic},
    {0x700, 0x74F, Script::other},
    {0x750, 0x77F, Script::arabic},
    {0x780, 0x8FF, Script::other},
    {0x900, 0x97F, Script::devanagari},
    {0x980, 0x9FF, Script::bengali},
    {0xA00, 0xA7F, Script::other},
    {0xA80, 0xAFF, Script::gujarati},
    {0xB00, 0xB7F, Script::other},
    {0xB80, 0xBFF, Script::tamil},
    {0xC00, 0xC7F, Script::telugu},
    {0xC80, 0xCFF, Script::kannada},
    {0xD00, 0xD7F, Script::malayalam},
    {0xD80, 0xDFF, Script::sinhala},
    {0xE00, 0xE7F, Script::thai},
    {0xE80, 0xEFF, Script::other},
    {0xF00, 0xFFF, Script::tibetan},
    {0x1000, 0x109F, Script::burmese},
    {0x10A0, 0x10FF, Script::georgian},
    {0x1100, 0x11FF, Script::hangul},
    {0x1200, 0x139F, Script::ethiopic},
    {0x13A0, 0x177F, Script::other},
    {0x1780, 0x17FF, Script::khmer},
    {0x1800, 0x1C7F, Script::other},
    {0x1C80, 0x1C8F, Script::cyrillic},
    {0x1C90, 0x1CBF, Script::georgian},
    {0x1CC0, 0x1DFF, Script::none},
    {0x1E00, 0x1EFF, Script::latin},
    {0x1F00, 0x1FFF, Script::greek},
    {0x2000, 0x2BFF, Script::none},  // punctuation, symbols, arrows, box drawing
    {0x2C00, 0x2DFF, Script::other},
    {0x2E00, 0x3004, Script::none},
    {0x3005, 0x3007, Script::han},
    {0x3008, 0x303F, Script::none},
    {0x3040, 0x30FF, Script::kana},
    {0x3100, 0x312F, Script::other},
    {0x3130, 0x318F, Script::hangul},
    {0x3190, 0x33FF, Script::none},
    {0x3400, 0x4DBF, Script::han},
    {0x4DC0, 0x4DFF, Script::none},
    {0x4E00, 0x9FFF, Script::han},
    {0xA000, 0xA71F, Script::other},
    {0xA720, 0xA7FF, Script::latin},
    {0xA800, 0xABFF, Script::other},
    {0xAC00, 0xD7FF, Script::hangul},
    {0xF900, 0xFAFF, Script::han},
    {0xFB00, 0xFB06, Script::latin},
    {0xFB1D, 0xFB4F, Script::hebrew},
    {0xFB50, 0xFDFF, Script::arabic},
    {0xFE70, 0xFEFE, Script::arabic},
    {0xFF21, 0xFF3A, Script::latin},
    {0xFF41, 0xFF5A, Script::latin},
    {0xFF66, 0xFF9F, Script::kana},
    {0x10000, 0x1AFFF, Script::other},
    {0x1B000, 0x1B16F, Script::kana},
    {0x20000, 0x3FFFF, Script::han},
};

constexpr std::array<const char*, kScripts> kNames = {
    "none",       "latin",   "greek",    "cyrillic", "armenian", "hebrew",   "arabic",
    "devanagari", "bengali", "gujarati", "tamil",    "telugu",   "kannada",  "malayalam",
    "sinhala",    "thai",    "tibetan",  "burmese",  "georgian", "ethiopic", "khmer",
    "hangul",     "kana",    "han",      "other"};

}  // namespace

const char* name_of(Script script) {
  return kNames[static_cast<size_t>(script)];
}

Script script_of(uint32_t code_point) {
  const auto* after =
      std::upper_bound(std::begin(kBlocks), std::end(kBlocks), code_point,
                       [](uint32_t code, const Block& block) { return code < block.first; });
  if (after == std::begin(kBlocks)) return Script::none;
  const Block& block = *(after - 1);
  return code_point <= block.last ? block.script : Script::none;
}

bool is_ideographic(Script script) {
  return script == Script::han || script == Script::kana || script == Script::thai ||
         script == Script::khmer || script == Script::burmese || script == Script::tibetan;
}

}  // namespace minibert
