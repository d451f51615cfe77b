// checksum_test.cpp: published check values of CRC-32 (ISO-HDLC), whole and in pieces.
#include "models/text/checksum.h"

#include <string>

#include <gtest/gtest.h>

namespace minibert {
namespace {

TEST(Checksum, EqualsThePublishedCheckValue) {
  const std::string digits = "123456789";  // the catalogue's check string: CBF43926
  EXPECT_EQ(crc32_of(digits.data(), digits.size()), 0xCBF43926u);
  EXPECT_EQ(crc32_of(nullptr, 0), 0u);
}

TEST(Checksum, IsWrittenWithEightDigits) {
  EXPECT_EQ(to_hex(0xCBF43926u), "cbf43926");
  EXPECT_EQ(to_hex(0x1Au), "0000001a");
}

TEST(Checksum, PiecesEqualTheWhole) {
  const std::string digits = "123456789";
  for (size_t cut = 0; cut <= digits.size(); ++cut) {
    FileSum sum;
    sum.add(digits.data(), cut);
    sum.add(digits.data() + cut, digits.size() - cut);
    EXPECT_EQ(sum, (FileSum{9, 0xCBF43926u})) << cut;
  }
}

}  // namespace
}  // namespace minibert
