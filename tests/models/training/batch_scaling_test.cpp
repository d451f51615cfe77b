// batch_scaling_test.cpp: the rule against the paper's formulas, and which settings it leaves alone.
#include "models/training/batch_scaling.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "models/training/phases.h"
#include "models/training/recipes.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has, testing::message_of;

constexpr const char* kReference =
    "[optim]\nbatch_scaling = \"sqrt\"\nreference_batch_size = 100\nreference_learning_rate = "
    "0.01\n"
    "reference_warmup = 0.1\nreference_steps = 1000\n";

TrainConfig finished(ConfigBuilder builder) {
  builder.finish();
  return builder.config();
}

ConfigBuilder at_batch(const std::string& text, int64_t batch) {
  ConfigBuilder builder;
  builder.apply_toml(text, "run.toml");
  builder.apply_text(config_key("train.global_batch_size"), std::to_string(batch),
                     "--global-batch-size");
  return builder;
}

TEST(BatchScaling, RateByTheRootWarmUpAndStepsByTheBatch) {
  for (const int64_t batch : {25, 50, 100, 400, 1000}) {
    const TrainConfig config = finished(at_batch(kReference, batch));
    const double factor = static_cast<double>(batch) / 100;
    EXPECT_DOUBLE_EQ(config.learning_rate, 0.01 * std::sqrt(factor)) << batch;
    EXPECT_EQ(config.max_steps, std::llround(1000 / factor)) << batch;
    const double steps =
        config.warmup < 1 ? config.warmup * static_cast<double>(config.max_steps) : config.warmup;
    EXPECT_NEAR(steps, 0.1 * 1000, 1e-9) << batch << ": as many steps at every batch";
  }
}

TEST(BatchScaling, WhatIsGivenWins) {
  ConfigBuilder builder = at_batch(kReference, 400);
  builder.apply_text(config_key("train.max_steps"), "77", "--max-steps");
  const TrainConfig config = finished(builder);
  EXPECT_EQ(config.max_steps, 77);
  EXPECT_DOUBLE_EQ(config.learning_rate, 0.02);
  EXPECT_TRUE(
      has(describe_scaling(config),
          "to batch 400: learning rate 0.02, warm-up 0.4, 250 steps; given instead: steps 77"))
      << describe_scaling(config);
}

TEST(BatchScaling, ARecipeIsTheReferenceIfNobodyNamesAnother) {
  ConfigBuilder builder;
  builder.apply_recipe("austen");  // batch 64, 1e-2, 100 of 3,200 steps
  builder.apply_text(config_key("optim.batch_scaling"), "sqrt", "--batch-scaling");
  builder.apply_text(config_key("train.global_batch_size"), "256", "--global-batch-size");
  const TrainConfig config = finished(builder);
  EXPECT_DOUBLE_EQ(config.learning_rate, 2e-2);
  EXPECT_EQ(config.max_steps, 800);
  EXPECT_DOUBLE_EQ(config.warmup, 100.0 / 3200 * 4);
  EXPECT_EQ(config.reference_batch_size, 64);
}

TEST(BatchScaling, ThePrintedSettingsReadBackEqual) {
  ConfigBuilder builder;
  builder.apply_recipe("bert-large-lamb-1k");
  builder.finish();
  ConfigBuilder again;
  again.apply_toml(builder.to_toml(), "config.resolved.toml");
  again.finish();
  EXPECT_EQ(again.config().phases.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const TrainConfig a = phase_config(builder.config(), i), b = phase_config(again.config(), i);
    EXPECT_EQ(a.learning_rate, b.learning_rate);
    EXPECT_EQ(a.warmup, b.warmup);
    EXPECT_EQ(a.max_steps, b.max_steps);
  }
}

TEST(BatchScaling, RefusesWhatHasNoReference) {
  const auto error = [](const std::string& text) {
    return message_of<UsageError>([&] { finished(at_batch(text, 400)); });
  };
  EXPECT_TRUE(has(error("[optim]\nbatch_scaling = \"sqrt\"\n"),
                  "there is no reference point: optim.reference_batch_size is 0"));
  EXPECT_TRUE(
      has(message_of<UsageError>([] { finished(at_batch(kReference, 2000)); }),
          "the warm-up of batch scaling is 2 of the steps at batch 2000 (0.1 at 100), expected "
          "at most 1"));
  ConfigBuilder given = at_batch(kReference, 2000);  // the message's fix
  given.apply_text(config_key("optim.warmup"), "0.5", "--warmup");
  EXPECT_EQ(finished(given).warmup, 0.5);
  ConfigBuilder lonely;
  lonely.apply_text(config_key("optim.reference_steps"), "5", "--reference-steps");
  EXPECT_TRUE(has(message_of<UsageError>([&] { lonely.finish(); }), "Add --batch-scaling sqrt"));
}

// The LAMB paper's table of BERT-large: steps in thousands, and the same samples in each row.
TEST(BatchScaling, ThePapersRecipesHaveItsSteps) {
  const std::pair<const char*, int64_t> rows[] = {{"512", 1000000}, {"1k", 500000}, {"2k", 250000},
                                                  {"4k", 125000},   {"8k", 62500},  {"16k", 31250},
                                                  {"32k", 15625}};
  int64_t batch = 512;
  for (const auto& [name, steps] : rows) {
    const TrainConfig config = recipe_config(std::string("bert-large-lamb-") + name);
    const std::vector<Phase> phases = phases_of(config);
    EXPECT_EQ(total_steps(phases), steps) << name;
    EXPECT_EQ(phases[0].config.global_batch_size, batch) << name;
    EXPECT_EQ(phases[0].sequences() + phases[1].sequences(), 512000000) << name;
    EXPECT_NEAR(static_cast<double>(phases[0].sequences()) / 512000000, 0.9, 1e-3) << name;
    for (const Phase& phase : phases) {
      EXPECT_DOUBLE_EQ(phase.config.learning_rate,
                       5e-3 / std::sqrt(32768.0 / static_cast<double>(batch)))
          << name;
      EXPECT_DOUBLE_EQ(phase.config.warmup, static_cast<double>(batch) / 32768 / 5) << name;
    }
    EXPECT_EQ(phases[0].config.sequence_length, 128);
    EXPECT_EQ(phases[1].config.sequence_length, 512);
    batch *= 2;
  }
  const std::vector<Phase> mixed = phases_of(recipe_config("bert-large-lamb-64k"));
  EXPECT_EQ(total_steps(mixed), 8599);
  EXPECT_EQ(mixed[0].steps, 7037);
  EXPECT_EQ(mixed[0].config.global_batch_size, 65536);
  EXPECT_EQ(mixed[1].config.global_batch_size, 32768);
}

}  // namespace
}  // namespace minibert
