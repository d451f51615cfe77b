// siphash_test.cpp: the paper's test vectors.
#include "dist/siphash.h"

#include <string>

#include <gtest/gtest.h>

namespace minibert {
namespace {

// Key 00 01 .. 0f, message 00 01 .. of n bytes: appendix A of the paper (15 bytes), and the first
// and the last of the list in the authors' reference code (0 and 63 bytes).
TEST(SipHash, EqualsThePublishedVectors) {
  const SipKey key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  std::string message;
  for (int i = 0; i < 63; ++i) message += static_cast<char>(i);
  EXPECT_EQ(siphash(key, message.substr(0, 15)), 0xa129ca6149be45e5);
  EXPECT_EQ(siphash(key, ""), 0x726fdb47dd0e0e31);
  EXPECT_EQ(siphash(key, message), 0x958a324ceb064572);
}

TEST(SipHash, SecretsGiveDifferentKeys) {
  const std::string text = "challenge";
  EXPECT_NE(siphash(sip_key("a"), text), siphash(sip_key("b"), text));
  EXPECT_NE(siphash(sip_key(""), text), siphash(sip_key("a"), text));
  EXPECT_NE(sip_key("a").low, sip_key("a").high);
}

TEST(SipHash, RandomTextsDiffer) {
  const std::string text = random_text();
  EXPECT_EQ(text.size(), 32u);
  EXPECT_EQ(text.find_first_not_of("0123456789abcdef"), std::string::npos) << text;
  EXPECT_NE(text, random_text());
}

}  // namespace
}  // namespace minibert
