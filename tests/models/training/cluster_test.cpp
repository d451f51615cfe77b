// cluster_test.cpp: descriptions of clusters: those that are built in, and what is refused.
#include "models/training/cluster.h"

#include <fstream>

#include <gtest/gtest.h>

#include "models/training/phases.h"
#include "models/training/recipes.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

void expect_usage_error(const std::function<void()>& body, const std::string& part) {
  const std::string message = minibert::testing::usage_error_of(body);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

std::string replaced(const std::string& from, const std::string& to) {
  for (const Recipe& one : clusters()) {
    if (one.name != "tpu-v3") continue;
    std::string text = one.toml;
    const size_t place = text.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    return text.replace(place, from.size(), to);
  }
  return "";
}

std::string error_of(const std::string& text) {
  try {
    parse_cluster(text, "my.toml");
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Cluster, BuiltInOnesHaveTheirUnits) {
  const Cluster h100 = find_cluster("h100");
  EXPECT_EQ(h100.peak_flops, 989e12);
  EXPECT_EQ(h100.memory_bytes_per_second, 3.35e12);
  EXPECT_EQ(h100.devices_a_node, 8);
  EXPECT_DOUBLE_EQ(h100.latency_seconds, 5e-6);
  EXPECT_TRUE(h100.published.recipes.empty());
  EXPECT_NE(h100.description.find("NVIDIA H100"), std::string::npos);
}

TEST(Cluster, ThePapersRunsAreRecipesThatAddUp) {
  const Cluster tpu = find_cluster("tpu-v3");
  ASSERT_EQ(tpu.published.recipes.size(), 8u);
  for (const std::string& recipe : tpu.published.recipes) {
    SCOPED_TRACE(recipe);
    const std::vector<Phase> phases = phases_of(recipe_config(recipe));
    ASSERT_EQ(phases.size(), 2u);
    const auto sequences = [&](size_t i) { return static_cast<double>(phases[i].sequences()); };
    // 512 million sequences, the first 9/10 of them short.
    EXPECT_NEAR(sequences(0) + sequences(1), 512e6, 0.001 * 512e6);
    EXPECT_NEAR(sequences(0), 9 * sequences(1), 0.002 * 512e6);
  }
  EXPECT_EQ(total_steps(phases_of(recipe_config(tpu.published.recipes.back()))), 8599);
}

TEST(Cluster, RefusesWhatItCantRead) {
  EXPECT_NE(error_of(replaced("peak_tflops", "peak_tflop")).find("device.peak_tflops is missing"),
            std::string::npos);
  const std::string unknown = error_of(replaced("[links]", "[links]\nlatency_microsecond = 3"));
  EXPECT_NE(unknown.find("key links.latency_microsecond is unknown"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("Did you mean latency_microseconds?"), std::string::npos) << unknown;
  const std::string range = error_of(replaced("attained_share = 0.4 ", "attained_share = 40 "));
  EXPECT_NE(range.find("my.toml:"), std::string::npos) << range;
  EXPECT_NE(range.find("device.attained_share is 40, expected a number of 1e-09 to 1"),
            std::string::npos)
      << range;
  const std::string fit = error_of(replaced("lamb-512\"", "lamb-521\""));
  EXPECT_NE(fit.find("published.fit is \"bert-large-lamb-521\", expected one of"),
            std::string::npos)
      << fit;
  const std::string run = error_of(replaced("\"bert-large-lamb-8k\"", "\"bert-mini\""));
  EXPECT_NE(run.find("has \"bert-mini\", expected recipes whose time"), std::string::npos) << run;
  EXPECT_NE(error_of(replaced("gradient_bytes = 4", "gradient_bytes = \"four\""))
                .find("expected an integer"),
            std::string::npos);
  EXPECT_NE(error_of("format_version = 2").find("format_version is 2"), std::string::npos);
  EXPECT_NE(error_of("format_version = ").find("my.toml:1"), std::string::npos);
}

TEST(Cluster, FindsFilesAndNamesTheNearest) {
  const std::string path = ::testing::TempDir() + "my_cluster.toml";
  std::ofstream(path) << replaced("TPU v3 chip", "another chip");
  const Cluster own = find_cluster(path);
  EXPECT_EQ(own.device_name, "another chip");
  EXPECT_EQ(own.name, "my_cluster");
  expect_usage_error([&] { find_cluster("h10"); }, "Did you mean h100?");
  expect_usage_error([&] { find_cluster("none.toml"); }, "can't be read");
}

}  // namespace
}  // namespace minibert
