// byte_size_test.cpp: units of 1,000 and of 1,024, what a bare number is, and what is refused.
// Expected values are powers, from SI and IEC 80000-13.
#include "core/byte_size.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace minibert {
namespace {

int64_t bytes(const std::string& text) {
  return parse_byte_size(text, "--memory", BareSize::refused);
}

TEST(ByteSize, UnitsWithBAreOfThousandsAndWithIbOf1024) {
  EXPECT_EQ(bytes("64B"), 64);
  EXPECT_EQ(bytes("1KB"), 1000);
  EXPECT_EQ(bytes("256MB"), 256000000);
  EXPECT_EQ(bytes("80GB"), 80000000000);
  EXPECT_EQ(bytes("2TB"), 2000000000000);
  EXPECT_EQ(bytes("1KiB"), 1 << 10);
  EXPECT_EQ(bytes("256MiB"), 256 << 20);
  EXPECT_EQ(bytes("16GiB"), int64_t{16} << 30);
  EXPECT_EQ(bytes("1TiB"), int64_t{1} << 40);
}

TEST(ByteSize, LettersAloneAreThoseOfDd) {
  EXPECT_EQ(bytes("64K"), 64 << 10);
  EXPECT_EQ(bytes("25M"), 25 << 20);
  EXPECT_EQ(bytes("4G"), int64_t{4} << 30);
  EXPECT_EQ(bytes("1T"), int64_t{1} << 40);
}

TEST(ByteSize, TakesFractionsBlanksAndSmallLetters) {
  EXPECT_EQ(bytes("1.5 GB"), 1500000000);
  EXPECT_EQ(bytes("0.5kib"), 512);
  EXPECT_EQ(bytes("16gib"), int64_t{16} << 30);
  EXPECT_EQ(bytes("3mB"), 3000000);
  EXPECT_EQ(bytes("0B"), 0);
}

TEST(ByteSize, BareNumbersAreBytesOrRefused) {
  EXPECT_EQ(parse_byte_size("1024", "--sizes", BareSize::bytes), 1024);
  EXPECT_EQ(parse_byte_size("0", "--sizes", BareSize::bytes), 0);
  EXPECT_THROW(bytes("1024"), UsageError);
}

TEST(ByteSize, NamesTheFlagOfWhatIsNone) {
  for (const char* bad : {"", "GB", "-1GB", "1XB", "1e40TB", "nanGB", "5GB ", "12 ", "1KBB", "1iB",
                          "1 G B", "5000000TiB"}) {
    for (const BareSize bare : {BareSize::bytes, BareSize::refused}) {
      try {
        parse_byte_size(bad, "--memory", bare);
        ADD_FAILURE() << '"' << bad << "\" was taken";
      } catch (const UsageError& error) {
        EXPECT_EQ(std::string(error.what()).find("--memory is \"" + std::string(bad) + "\""), 0u)
            << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace minibert
