// seven_bit_test.cpp: texts by Python's codecs iso2022_jp, iso2022_jp_2, iso2022_kr, hz and utf_7 are named; ASCII with
// the same marks in it is not.
#include "models/text/seven_bit.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

std::string encoding_of(std::initializer_list<std::string_view> lines) {
  SevenBitMarks marks;
  for (const std::string_view line : lines) marks.look(line);
  return marks.encoding();
}

TEST(SevenBit, NamesEncodings) {
  // "\u53e4\u3044\u6a4b", old bridge, by str.encode.
  EXPECT_EQ(encoding_of({"the", "\x1B$B8E$$66\x1B(B."}), "ISO-2022-JP");
  EXPECT_EQ(encoding_of({"\x1B$(AGE\x1B(B"}), "ISO-2022-JP-2");
  EXPECT_EQ(encoding_of({"\x1B$)C\x0E"
                         "4Y8.\x0F"}),
            "ISO-2022-KR");
  EXPECT_EQ(encoding_of({"~{9E@O5DGE~}"}), "HZ");
  EXPECT_EQ(encoding_of({"~{9E~} and ~{5DGE~}"}), "HZ");
  // "caf\u00e9, pr\u00e8s du ch\u00e2teau: \u201c1 + 1\u201d", "\U0001f600".
  EXPECT_EQ(encoding_of({"caf+AOk, pr+AOg-s du ch+AOI-teau: +IBw-1 +- 1+IB0-"}), "UTF-7");
  EXPECT_EQ(encoding_of({"+2D3eAA", "+2D3eAA-!", "+U+RoZQ-"}), "UTF-7");
}

TEST(SevenBit, LeavesAsciiAlone) {
  EXPECT_EQ(encoding_of({""}), "");
  EXPECT_EQ(encoding_of({"\x1B[1mbold\x1B[0m cost \x1B$5"}), "");
  EXPECT_EQ(encoding_of({"(format t \"~{~a~^, ~}\" list)", "~{ab~} ~{cd~} ~{ef~}"}), "");
  EXPECT_EQ(encoding_of({"C++ and C++", "1+1=2", "+44 20 7946"}), "");
  EXPECT_EQ(encoding_of({"CD4+positive, CD8+positive, CD3+positive"}), "");
  EXPECT_EQ(encoding_of({"/search?q=old+river+bridge", "a+-b"}), "");
  EXPECT_EQ(encoding_of({"caf+AOk- once"}), "");
}

}  // namespace
}  // namespace minibert
