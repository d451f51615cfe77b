// error_test.cpp: an error's class is its exit code; checks throw the class asked for, with their
// text, and format nothing where the condition holds.
#include "core/error.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

TEST(Error, CategoriesAreTheDocumentedExitCodes) {
  EXPECT_EQ(InternalError("").exit_code(), 1);
  EXPECT_EQ(UsageError("").exit_code(), 2);
  EXPECT_EQ(DataError("").exit_code(), 3);
  EXPECT_EQ(NumericError("").exit_code(), 4);
  EXPECT_EQ(CommError("").exit_code(), 5);
  EXPECT_EQ(OutOfMemory("").exit_code(), 6);
  EXPECT_EQ(CheckpointError("").exit_code(), 7);
}

TEST(Error, FailThrowsTheClassWithTheFormattedText) {
  try {
    fail<DataError>("{}: line {} is empty", "vocab.txt", 7);
  } catch (const Error& error) {
    EXPECT_NE(dynamic_cast<const DataError*>(&error), nullptr);
    EXPECT_EQ(error.category(), ErrorCategory::data);
    EXPECT_STREQ(error.what(), "vocab.txt: line 7 is empty");
  }
}

TEST(Error, ChecksThrowWhereTheirConditionFails) {
  const int rank = 3;
  try {
    MB_CHECK(rank == 2, "gemm: a has rank {}, expected 2", rank);
    FAIL() << "a false condition passed";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "gemm: a has rank 3, expected 2");
  }
  EXPECT_THROW(MB_CHECK_AS(CheckpointError, rank == 2, "no"), CheckpointError);
  EXPECT_NO_THROW(MB_CHECK(rank == 3, "no"));
  EXPECT_NO_THROW(MB_CHECK_AS(CheckpointError, rank == 3, "no"));
}

// Checks stand in hot paths, and their arguments may be costly: str() of a shape.
TEST(Error, ArgumentsOfAMessageAreEvaluatedOnFailureAlone) {
  int evaluated = 0;
  const auto text = [&] { return ++evaluated; };
  MB_CHECK(true, "{}", text());
  MB_CHECK_AS(DataError, true, "{}", text());
  MB_ASSERT(true, "{}", text());
  EXPECT_EQ(evaluated, 0);
  EXPECT_THROW(MB_CHECK(false, "{}", text()), UsageError);
  EXPECT_EQ(evaluated, 1);
}

TEST(Error, AssertionsNameConditionAndPlaceAndAskForAReport) {
  const int line = __LINE__ + 2;
  try {
    MB_ASSERT(1 + 1 == 3, "sums are {}", "odd");
    FAIL() << "a false assertion passed";
  } catch (const InternalError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("sums are odd"), std::string::npos) << text;
    EXPECT_NE(text.find("1 + 1 == 3"), std::string::npos) << text;
    EXPECT_NE(text.find("error_test.cpp:" + std::to_string(line)), std::string::npos) << text;
    EXPECT_NE(text.find("report"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace minibert
