// gradcheck_test.cpp: the verb `minibert gradcheck`, run as users run it.
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

namespace {

struct Outcome {
  std::string output;  // both streams
  int code = -1;
};

Outcome minibert(const std::string& arguments) {
  const char* binary = std::getenv("MINIBERT_BINARY");
  if (binary == nullptr) throw std::runtime_error("MINIBERT_BINARY is not set; run this by ctest");
  FILE* pipe = popen((std::string(binary) + " " + arguments + " 2>&1").c_str(), "r");
  Outcome outcome;
  char buffer[4096];
  while (size_t n = fread(buffer, 1, sizeof buffer, pipe)) outcome.output.append(buffer, n);
  outcome.code = WEXITSTATUS(pclose(pipe));
  return outcome;
}

TEST(GradcheckVerb, ChecksTheOpsNamedAndPrintsATable) {
  const Outcome outcome = minibert("gradcheck gelu layer_norm");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  for (const char* part : {"gelu", "layer_norm", "weight", "max error", "pass", "0 wrong"})
    EXPECT_NE(outcome.output.find(part), std::string::npos) << part;
  EXPECT_EQ(outcome.output.find("add_norm"), std::string::npos);
}

TEST(GradcheckVerb, PrintsOneJsonObjectALine) {
  const Outcome outcome = minibert("gradcheck linear --json --seed 3");
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

TEST(GradcheckVerb, AnUnknownOpIsAUsageErrorWithTheNearestName) {
  const Outcome outcome = minibert("gradcheck gelu feed_foward");
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.output.find("Did you mean feed_forward?"), std::string::npos) << outcome.output;
  EXPECT_EQ(outcome.output.find("pass"), std::string::npos) << "work was done before the error";
}

TEST(GradcheckVerb, BadFlagsAreUsageErrors) {
  EXPECT_EQ(minibert("gradcheck --seed x").code, 2);
  EXPECT_EQ(minibert("gradcheck --nonsense").code, 2);
}

}  // namespace
