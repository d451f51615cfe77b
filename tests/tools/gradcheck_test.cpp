// gradcheck_test.cpp: the verb `minibert gradcheck`, run as users run it.
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/run_minibert.h"

namespace minibert::testing {
namespace {

TEST(GradcheckVerb, ChecksTheOpsNamedAndPrintsATable) {
  const Outcome outcome = run_minibert("gradcheck gelu layer_norm");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  for (const char* part : {"gelu", "layer_norm", "weight", "max error", "pass", "0 wrong"})
    EXPECT_NE(outcome.output.find(part), std::string::npos) << part;
  EXPECT_EQ(outcome.output.find("add_norm"), std::string::npos);
}

TEST(GradcheckVerb, PrintsOneJsonObjectALine) {
  const Outcome outcome = run_minibert("gradcheck linear --json --seed 3");
  EXPECT_EQ(outcome.code, 0);
  std::istringstream lines(outcome.output);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto row = nlohmann::json::parse(line);
    EXPECT_EQ(row["op"], "linear");
    EXPECT_TRUE(row["passed"].get<bool>()) << line;
    EXPECT_LE(row["max_error"].get<double>(), row["tolerance"].get<double>());
  }
  EXPECT_GE(count, 10);
}

TEST(GradcheckVerb, ChecksIn16Bits) {
  for (const char* precision : {"bf16", "fp16"}) {
    const Outcome outcome =
        run_minibert(std::string("gradcheck add_norm --json --precision ") + precision);
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    const auto row = nlohmann::json::parse(outcome.output.substr(0, outcome.output.find('\n')));
    EXPECT_EQ(row["precision"], precision);
  }
  EXPECT_EQ(run_minibert("gradcheck gelu --precision int8").code, 2);
}

TEST(GradcheckVerb, AnUnknownOpIsAUsageErrorWithTheNearestName) {
  const Outcome outcome = run_minibert("gradcheck gelu linear_gleu");
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.output.find("Did you mean linear_gelu?"), std::string::npos) << outcome.output;
  EXPECT_EQ(outcome.output.find("pass"), std::string::npos) << "work was done before the error";
}

TEST(GradcheckVerb, BadFlagsAreUsageErrors) {
  EXPECT_EQ(run_minibert("gradcheck --seed x").code, 2);
  EXPECT_EQ(run_minibert("gradcheck --nonsense").code, 2);
}

}  // namespace
}  // namespace minibert::testing
