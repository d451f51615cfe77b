// unicode_tables.h: how BERT's tokenizer sees each code point, as sorted ranges and maps (generated
// data). Read once by unicode.cpp, which turns them into one word of properties a code point. The
// data stands in unicode_tables.cpp, made by tools/unicode_tables/generate.py from the pinned
// `tokenizers`, whose Unicode data is a mixture of versions: no library's tables would give the
// same ids. Easy to break: kMark is what the library strips, not Unicode's Mn of today.
// Test: ctest -R text_unicode.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace minibert::unicode_tables {

/// Code points first..last, both included.
struct CodePointRange {
  uint32_t first, last;
};

struct ClassRange {
  uint32_t first, last;
  uint8_t combining_class;  // 1..254; all others have class 0
};

struct Mapping {
  uint32_t from;
  uint32_t to[4];  // ends with 0 where shorter
};

extern const std::string_view kSource;                      // library and version
extern const std::span<const CodePointRange> kDrop;         // removed by clean_text
extern const std::span<const CodePointRange> kSpace;        // clean_text makes them U+0020
extern const std::span<const CodePointRange> kCjk;          // a word of its own
extern const std::span<const CodePointRange> kPunctuation;  // a word of its own
extern const std::span<const CodePointRange> kMark;         // removed by strip_accents, after NFD
extern const std::span<const ClassRange> kCombiningClass;   // order of marks in NFD
extern const std::span<const Mapping> kDecomposition;       // NFD, without Hangul syllables
extern const std::span<const Mapping> kLower;               // lower case, one or two code points

}  // namespace minibert::unicode_tables
