// run_plan_test.cpp: the plan of recipes without their data, in figures computed here.
#include "models/training/run_plan.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "models/training/published.h"
#include "models/training/recipes.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has;

// F = 6 S L (4H^2 + 2HI) + 12 L H S^2 + 6 M (H^2 + HV) + 6 H^2: forward and backward of a sequence of S
// tokens with M masked rows, but for the last layer, of which the heads' rows alone are computed behind
// attention's keys and values: 6 (S - M - 1) (H^2 + 2HI) less.
double training_flops(double S, double M) {
  constexpr double L = 24, H = 1024, I = 4096, V = 30522;
  return 6 * S * L * (4 * H * H + 2 * H * I) + 12 * L * H * S * S + 6 * M * (H * H + H * V) +
         6 * H * H - 6 * (S - M - 1) * (H * H + 2 * H * I);
}

TEST(RunPlan, MixedBatchInFigures) {
  const TrainConfig config = recipe_config("bert-large-lamb-64k");
  EXPECT_TRUE(is_described(config));
  const std::vector<PhasePlan> plan = plan_run(config, nullptr);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].sequences, 7037LL * 65536);
  EXPECT_EQ(plan[0].tokens, 7037.0 * 65536 * 128);
  EXPECT_EQ(plan[1].tokens, 1562.0 * 32768 * 512);
  EXPECT_NEAR(plan[0].flops / (7037.0 * 65536 * training_flops(128, 20)), 1, 1e-6);
  EXPECT_NEAR(plan[1].flops / (1562.0 * 32768 * training_flops(512, 77)), 1, 1e-6);
  EXPECT_DOUBLE_EQ(*plan[0].passes, 7037.0 * 65536 / 31161000);
  const std::string text =
      fmt::format("{}", fmt::join(describe_run(config, plan, "bert-large-lamb-64k"), "\n"));
  EXPECT_TRUE(has(text,
                  "published: 8599 steps at batch 64k/32k, 1.27 h on 1024 TPUv3; SQuAD F1 "
                  "90.584 (arXiv 1904.00962"))
      << text;
}

TEST(RunPlan, JsonHasEachPhasesRates) {
  const TrainConfig config = recipe_config("bert-large-nvidia");
  const auto json =
      nlohmann::json::parse(run_json(config, plan_run(config, nullptr), "bert-large-nvidia"));
  EXPECT_EQ(json["steps"], 8601);
  EXPECT_EQ(json["published"]["steps"], 8601);
  const auto& rates = json["phases"][0]["rates"];
  EXPECT_EQ(rates.size(), 400u);
  EXPECT_EQ(rates[0][0], 0);
  EXPECT_EQ(rates.back()[0], 7037);
  EXPECT_FLOAT_EQ(rates[0][1], 6e-3 / 7038 / 0.2843);
}

TEST(RunPlan, EveryRecipeIsPlannedAndEveryPublishedRunIsARecipes) {
  for (const Recipe& recipe : recipes()) {
    const TrainConfig config = recipe_config(recipe.name);
    EXPECT_FALSE(run_json(config, plan_run(config, nullptr), recipe.name).empty()) << recipe.name;
  }
  for (const PublishedRun& run : published_runs())
    EXPECT_EQ(find_recipe(run.recipe).name, run.recipe);
}

TEST(RunPlan, TheTableHasOursBesideThePublished) {
  const std::vector<std::string> lines = recipe_table();
  const std::string text = fmt::format("{}", fmt::join(lines, "\n"));
  EXPECT_EQ(lines.size(), published_runs().size() + 2);
  EXPECT_TRUE(has(text, "14063+1562      15625")) << text;
  EXPECT_TRUE(has(text, "0.000625 (0.000625*)")) << text;
  EXPECT_TRUE(has(text, "65536/32768          7037+1562       8599")) << text;
}

}  // namespace
}  // namespace minibert
