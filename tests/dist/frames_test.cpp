// frames_test.cpp: frames survive any way of cutting them, and junk is found at its first wrong byte.
#include "dist/frames.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace minibert {
namespace {

constexpr size_t kLimit = 1000;

std::string refusal_of(std::string bytes) {
  try {
    return take_frame(bytes, kLimit) ? "a frame" : "wait";
  } catch (const CommError& error) {
    return error.what();
  }
}

TEST(Frames, ComeBackHoweverTheyAreCut) {
  const Fields fields = {"set", "", std::string("\0\xff key", 6), std::string(300, 'x')};
  const std::string frame = to_frame(fields);
  for (size_t cut = 0; cut < frame.size(); ++cut) {
    std::string bytes = frame.substr(0, cut);
    ASSERT_FALSE(take_frame(bytes, kLimit)) << cut;
    bytes += frame.substr(cut) + "MBr1";  // the next one begins behind it
    ASSERT_EQ(take_frame(bytes, kLimit), fields) << cut;
    ASSERT_EQ(bytes, "MBr1");
  }
  std::string empty = to_frame({});
  EXPECT_EQ(take_frame(empty, kLimit), Fields());
}

TEST(Frames, JunkIsRefusedAtOnce) {
  EXPECT_EQ(refusal_of("G"), "it is not a message of minibert");
  EXPECT_EQ(refusal_of("MBr2"), "it is not a message of minibert");
  EXPECT_EQ(refusal_of(""), "wait");
  EXPECT_EQ(refusal_of("MBr1"), "wait");
  EXPECT_EQ(refusal_of(std::string("MBr1\xe9\3\0\0", 8)),
            "its message has 1001 bytes, expected at most 1000");
  EXPECT_EQ(refusal_of(std::string("MBr1\xe8\3\0\0", 8)), "wait");
  EXPECT_EQ(refusal_of("MBr1\xff\xff\xff\xff"),
            "its message has 4294967295 bytes, expected at most 1000");
  EXPECT_EQ(refusal_of(std::string("MBr1\5\0\0\0\2\0\0\0x", 13)),
            "a field is longer than its message");
  EXPECT_EQ(refusal_of(std::string("MBr1\3\0\0\0\0\0\0", 11)),
            "a field is longer than its message");
}

TEST(Frames, NumbersAreDigitsAlone) {
  EXPECT_EQ(number_of("-17"), -17);
  for (const char* text : {"", "1x", " 1", "99999999999"})
    EXPECT_THROW(number_of(text), CommError) << text;
}

}  // namespace
}  // namespace minibert
