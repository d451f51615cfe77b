// json_numbers_test.cpp: the borders of each type, fractions, and what is no number.
#include "models/text/json_numbers.h"

#include <limits>

#include <gtest/gtest.h>

namespace minibert {
namespace {

template <typename T>
std::optional<T> parsed(const char* text) {
  return whole_number<T>(nlohmann::json::parse(text));
}

TEST(JsonNumbers, BordersAreHeldAndWhatIsBeyondIsNot) {
  EXPECT_EQ(parsed<int32_t>("2147483647"), 2147483647);
  EXPECT_EQ(parsed<int32_t>("2147483648"), std::nullopt);
  EXPECT_EQ(parsed<int32_t>("-2147483648"), std::numeric_limits<int32_t>::min());
  EXPECT_EQ(parsed<int32_t>("-2147483649"), std::nullopt);
  EXPECT_EQ(parsed<int32_t>("4294967312"), std::nullopt) << "its low 32 bits are 16";
  EXPECT_EQ(parsed<int64_t>("9223372036854775807"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(parsed<int64_t>("9223372036854775808"), std::nullopt);
  EXPECT_EQ(parsed<int32_t>("18446744073709551615"), std::nullopt) << "its low 32 bits are -1";
  EXPECT_EQ(parsed<uint64_t>("18446744073709551615"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(parsed<uint64_t>("-1"), std::nullopt);
}

TEST(JsonNumbers, FractionsAndOtherTypesAreNone) {
  for (const char* text :
       {"1.5", "1.0", "1e3", "5555555555555555555555555", "\"1\"", "true", "null", "[1]", "{}"})
    EXPECT_EQ(parsed<int64_t>(text), std::nullopt) << text;
}

}  // namespace
}  // namespace minibert
