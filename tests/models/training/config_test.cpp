// config_test.cpp: the table of settings, its five sources and their order, and what is refused.
#include "models/training/config.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <tuple>

#include <gtest/gtest.h>

#include "core/error.h"
#include "models/training/recipes.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has;

/// Message of the UsageError that `body` throws; "" if it throws none.
template <typename Body>
std::string usage_error(Body body) {
  return testing::message_of<UsageError>(body);
}

std::string toml_error(const std::string& text) {
  return usage_error([&] { ConfigBuilder().apply_toml(text, "run.toml"); });
}

TrainConfig runnable() {
  TrainConfig config;
  config.data = "data/train";
  config.output_dir = "runs/one";
  return config;
}

TEST(Config, TableHasOneNameFlagAndVariableForEachSetting) {
  std::set<std::string> names, flags, variables;
  for (const ConfigKey& key : config_keys()) {
    EXPECT_TRUE(names.insert(key.name()).second) << key.name();
    EXPECT_TRUE(flags.insert(key.flag()).second) << key.flag();
    EXPECT_TRUE(variables.insert(key.environment()).second) << key.environment();
    EXPECT_FALSE(key.help.empty()) << key.name();
  }
  for (const char* flag :
       {"--micro-batch-size", "--global-batch-size", "--max-steps", "--stop-after", "--warmup",
        "--precision", "--resume", "--save-every", "--keep-last", "--device", "--threads",
        "--init-from", "--overfit-batch", "--deterministic", "--output-dir", "--grace"})
    EXPECT_TRUE(flags.count(flag)) << flag;
  EXPECT_TRUE(variables.count("MINIBERT_MICRO_BATCH_SIZE"));
}

TEST(Config, LaterSourcesOverrideEarlierOnesAndSayWhereFrom) {
  ConfigBuilder builder;
  const char* const environment[] = {"HOME=/root", "MINIBERT_SEED=3", "MINIBERT_NSP=false",
                                     nullptr};
  builder.apply_toml("[train]\nmax_steps = 7\nseed = 1\nthreads = 1\n", "recipe r");
  builder.apply_toml("[train]\nseed = 2\nthreads = 2\n", "run.toml");
  builder.apply_environment(environment);
  for (const ConfigKey& key : config_keys())
    if (key.key == "threads") builder.apply_text(key, "4", "--threads");
  EXPECT_EQ(builder.config().max_steps, 7);
  EXPECT_EQ(builder.config().seed, 3);
  EXPECT_EQ(builder.config().threads, 4);
  EXPECT_FALSE(builder.config().nsp);
  EXPECT_EQ(builder.origin("train.max_steps"), "recipe r:2");
  EXPECT_EQ(builder.origin("train.seed"), "MINIBERT_SEED");
  EXPECT_EQ(builder.origin("train.threads"), "--threads");
  EXPECT_EQ(builder.origin("optim.warmup"), "default");
}

TEST(Config, UnknownKeyNamesLineAndNearest) {
  const std::string message = toml_error("[train]\nmax_steps = 5\nmicro_batchsize = 4\n");
  EXPECT_TRUE(has(message, "run.toml:3")) << message;
  EXPECT_TRUE(has(message, "Did you mean train.micro_batch_size?")) << message;
  const std::string moved = toml_error("[train]\nlearning_rate = 1e-3\n");
  EXPECT_TRUE(has(moved, "Did you mean optim.learning_rate?")) << moved;
  EXPECT_TRUE(has(toml_error("[trian]\nmax_steps = 5\n"), "Did you mean train.max_steps?"));
}

TEST(Config, DuplicateKeyAndBrokenSyntaxNameTheLine) {
  EXPECT_TRUE(has(toml_error("[train]\nseed = 1\nseed = 2\n"), "run.toml:3"));
  EXPECT_TRUE(has(toml_error("[train]\nseed = \n"), "run.toml:2"));
  // toml++ asserts what follows "[".
  for (const char* header :
       {"[!train]", "[=]", "[,]", "[[!]]", "[\n]", "[\x0e", "\xD1\x98", "\xC3\xA4 = 1"}) {
    for (const int lines : {0, 1, 2, 6, 7}) {
      std::string text = "[train]\nseed = 1\n";
      for (int i = 0; i < lines; ++i) text += "# more\n";
      const std::string message = toml_error(text + header + "\n[log]\nlog_every = 1\n");
      EXPECT_TRUE(has(message, "run.toml:" + std::to_string(lines + 3) + ": ")) << message;
    }
  }
  EXPECT_TRUE(has(toml_error("seed = 1\n"), "Did you mean train.seed?"));
}

TEST(Config, ValueOutOfRangeNamesKeyFoundAndAllowed) {
  const std::string message = toml_error("[train]\nmicro_batch_size = 0\n");
  EXPECT_TRUE(has(message, "train.micro_batch_size is 0, expected 1 to")) << message;
  EXPECT_TRUE(has(toml_error("[optim]\nlearning_rate = -1\n"), "optim.learning_rate is -1"));
  EXPECT_TRUE(has(toml_error("[optim]\nlearning_rate = nan\n"), "optim.learning_rate is nan"));
  EXPECT_TRUE(has(toml_error("[optim]\nschedule_power = 0\n"), "is 0, expected 0.001 to 10"));
  EXPECT_TRUE(has(toml_error("[optim]\nmax_grad_norm = inf\n"), "optim.max_grad_norm is inf"));
  EXPECT_TRUE(has(toml_error("[optim]\noptimizer = \"lambs\"\n"), "Did you mean lamb?"));
}

TEST(Config, EveryOptimizerAndScheduleCanBeChosen) {
  const auto choices_of = [](const std::string& name) {
    for (const ConfigKey& key : config_keys())
      if (key.name() == name) return key.choices;
    return std::vector<std::string>{};
  };
  std::vector<std::string> optimizers, schedules;
  for (const OptimizerVariant& variant : optimizer_variants()) optimizers.push_back(variant.name);
  for (const ScheduleName& schedule : schedule_names()) schedules.push_back(schedule.name);
  EXPECT_EQ(choices_of("optim.optimizer"), optimizers);
  EXPECT_EQ(choices_of("optim.schedule"), schedules);
  EXPECT_EQ(toml_error("[optim]\noptimizer = \"adamw-google\"\nschedule = \"constant\"\n"), "");
}

TEST(Config, WrongTypeIsRefused) {
  EXPECT_TRUE(has(toml_error("[train]\nmax_steps = \"many\"\n"), "expected an integer"));
  EXPECT_TRUE(has(toml_error("[train]\nmax_steps = 1.5\n"), "expected an integer"));
  EXPECT_TRUE(has(toml_error("[model]\nnsp = 1\n"), "expected true or false"));
  EXPECT_TRUE(has(toml_error("[data]\nevaluation_data = \"x\"\n"), "expected a list"));
  EXPECT_TRUE(has(toml_error("train = 3\n"), "unknown"));
  EXPECT_EQ(toml_error("[optim]\nwarmup = 100\n"), "") << "an integer is a number too";
  EXPECT_TRUE(has(toml_error("[optim]\nwarmup = 9007199254740993\n"),
                  "run.toml:2: optim.warmup is an integer beyond 2^53"));
}

TEST(Config, EnvironmentTyposAreErrorsAndForeignVariablesAreNot) {
  const auto apply = [](const char* entry) {
    return usage_error([&] {
      const char* const environment[] = {entry, nullptr};
      ConfigBuilder().apply_environment(environment);
    });
  };
  EXPECT_TRUE(has(apply("MINIBERT_MAXSTEPS=3"), "Did you mean MINIBERT_MAX_STEPS?"));
  EXPECT_TRUE(has(apply("MINIBERT_MAX_STEPS=3x"), "MINIBERT_MAX_STEPS: train.max_steps is \"3x\""));
  EXPECT_TRUE(has(apply("MINIBERT_NO_NSP=1"), "Did you mean MINIBERT_NSP=false?"));
  for (const char* unknown : {"MINIBERT_RECIPE=austen", "MINIBERT_FOOBARBAZ=1", "MINIBERT_=1"})
    EXPECT_TRUE(has(apply(unknown), "is unknown, expected a setting's name")) << unknown;
  for (const char* foreign : {"MINIBERT_SIMD=v3", "MINIBERT_PYTHON=/usr/bin/python",
                              "MINIBERT_TEST_CHECKPOINT_DELAY_MS=5", "MAX_STEP=1"})
    EXPECT_EQ(apply(foreign), "");
}

TEST(Config, ResolvedFileRoundTrips) {
  ConfigBuilder builder;
  builder.apply_toml(
      "[data]\ndata = \"a \\\"b\\\" \\\\c\"\nevaluation_data = [\"x=1\", \"y\"]\n"
      "[optim]\nlearning_rate = 0.1\nwarmup = 1e-3\n[model]\nnsp = false\n",
      "run.toml");
  const std::string text = builder.to_toml();
  ConfigBuilder again;
  again.apply_toml(text, "config.resolved.toml");
  EXPECT_EQ(again.config().data, "a \"b\" \\c");
  EXPECT_EQ(again.config().evaluation_data, (std::vector<std::string>{"x=1", "y"}));
  EXPECT_EQ(again.config().learning_rate, 0.1);
  EXPECT_EQ(again.config().warmup, 1e-3);
  EXPECT_FALSE(again.config().nsp);
  ConfigBuilder third;
  third.apply_toml(again.to_toml(), "config.resolved.toml");
  EXPECT_EQ(third.to_toml(), again.to_toml());
  for (const ConfigKey& key : config_keys()) EXPECT_TRUE(has(text, key.key + " = ")) << key.name();
}

TEST(Config, NewerFormatIsRefusedAndOlderFilesLoad) {
  EXPECT_TRUE(has(toml_error("format_version = 2\n"), "Use a newer minibert"));
  EXPECT_EQ(toml_error("format_version = 1\n"), "");
  EXPECT_EQ(toml_error("[train]\nseed = 1\n"), "") << "no version is the first";
}

TEST(Config, BatchMustDivide) {
  TrainConfig config = runnable();
  config.micro_batch_size = 12, config.global_batch_size = 32;
  const std::string message = usage_error([&] { validate(config); });
  EXPECT_TRUE(has(message, "train.global_batch_size is 32")) << message;
  EXPECT_TRUE(has(message, "--global-batch-size 36")) << message;
  config.global_batch_size = 36;
  EXPECT_EQ(usage_error([&] { validate(config); }), "");
  EXPECT_EQ(accumulation_steps(config), 3);
}

TEST(Config, WarmupIsStepsOrAShare) {
  TrainConfig config = runnable();
  config.max_steps = 200;
  config.warmup = 0.1;
  EXPECT_EQ(usage_error([&] { validate(config); }), "");
  config.warmup = 200;
  EXPECT_EQ(usage_error([&] { validate(config); }), "");
  config.warmup = 201;
  EXPECT_TRUE(has(usage_error([&] { validate(config); }), "optim.warmup is 201"));
  config.warmup = 1.5;
  EXPECT_TRUE(has(usage_error([&] { validate(config); }), "whole steps"));
}

TEST(Config, Tf32OnACpuIsRefused) {
  TrainConfig config = runnable();
  config.precision = "tf32";
  EXPECT_TRUE(has(usage_error([&] { validate(config); }), "Use --precision fp32"));
  config.precision = "fp32";
  EXPECT_EQ(usage_error([&] { validate(config); }), "");
}

TEST(Config, TheLossIsScaledForFp16AndOnRequestForBf16) {
  TrainConfig config = runnable();
  for (const auto& [precision, scaling, scaled] :
       {std::tuple("fp32", "auto", false), std::tuple("bf16", "auto", false),
        std::tuple("fp16", "auto", true), std::tuple("fp16", "off", false),
        std::tuple("bf16", "on", true)}) {
    config.precision = precision;
    config.loss_scaling = scaling;
    EXPECT_EQ(scales_loss(config), scaled) << precision << " " << scaling;
    EXPECT_EQ(usage_error([&] { validate(config); }), "") << precision << " " << scaling;
  }
}

TEST(Config, AScaleWithoutAScaledPrecisionIsRefusedWithTheFix) {
  TrainConfig config = runnable();
  config.loss_scaling = "on";
  EXPECT_TRUE(has(usage_error([&] { validate(config); }), "scale.loss_scaling is on, but"));
  config.loss_scaling = "auto";
  config.loss_scale_growth = 4;
  const std::string message = usage_error([&] { validate(config); });
  EXPECT_TRUE(has(message, "scale.loss_scale_growth is set")) << message;
  EXPECT_TRUE(has(message, "Leave --loss-scale-growth out, or use --precision fp16")) << message;
  config.precision = "fp16";  // the second advice
  EXPECT_EQ(usage_error([&] { validate(config); }), "");
  config.loss_scale = 0.5;
  EXPECT_TRUE(has(usage_error([&] { validate(config); }), "at least scale.loss_scale_floor = 1"));
}

TEST(Config, EvaluationSetsHaveNames) {
  TrainConfig config;
  config.evaluation_data = {"data/chapters/", "novel=/x/y"};
  const auto sets = evaluation_sets(config);
  ASSERT_EQ(sets.size(), 2u);
  EXPECT_EQ(sets[0], (std::pair<std::string, std::string>("chapters", "data/chapters")));
  EXPECT_EQ(sets[1], (std::pair<std::string, std::string>("novel", "/x/y")));
  config.evaluation_data.push_back("b/novel");
  EXPECT_TRUE(has(usage_error([&] { evaluation_sets(config); }), "given twice"));
  // Each would damage metrics.jsonl, the log line or a tag of TensorBoard (RFC 8259, section 7).
  for (const char* name : {"a\nb", "a\tb", "\x1b[31mred", "a\x7f", "caf\xe9", "a\"b", "a\\b"}) {
    config.evaluation_data = {std::string("data/") + name + "/"};
    const std::string message = usage_error([&] { evaluation_sets(config); });
    EXPECT_TRUE(has(message, "no usable name")) << name;
    EXPECT_TRUE(std::ranges::none_of(message, [](unsigned char c) { return c < 0x20; })) << message;
    config.evaluation_data = {std::string("NAME=data/") + name};
    EXPECT_EQ(evaluation_sets(config)[0].first, "NAME");
  }
}

TEST(Config, MissingFileIsAnError) {
  EXPECT_TRUE(has(usage_error([] { ConfigBuilder().apply_file("/no/such.toml"); }),
                  "/no/such.toml: the configuration file can't be read"));
}

TEST(Recipes, AllParseValidateAndDescribeThemselves) {
  ASSERT_GE(recipes().size(), 2u);
  for (const Recipe& recipe : recipes()) {
    ConfigBuilder builder;
    builder.apply_recipe(recipe.name);
    builder.finish();
    TrainConfig config = builder.config();
    config.data = "d", config.output_dir = "o";
    EXPECT_EQ(usage_error([&] { validate(config); }), "") << recipe.name;
    EXPECT_GT(describe(recipe).size(), 20u) << recipe.name;
  }
  EXPECT_TRUE(has(usage_error([] { find_recipe("austin"); }), "Did you mean austen?"));
}

TEST(Recipes, EmbeddedTextIsTheFilesText) {
  const char* source = std::getenv("MINIBERT_SOURCE_DIR");
  ASSERT_TRUE(source) << "run it through ctest";
  size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(source) / "recipes")) {
    std::ifstream file(entry.path());
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(find_recipe(entry.path().stem().string()).toml, text) << entry.path();
    ++files;
  }
  EXPECT_EQ(files, recipes().size());
}

TEST(Config, ANumberThatTheOptimizerDecidesIsAWordOrANumber) {
  ConfigBuilder builder;
  EXPECT_FALSE(builder.config().trust_ratio_max);
  builder.apply_toml("[optim]\ntrust_ratio_max = 0.3\nweight_norm_max = 10\n", "a.toml");
  EXPECT_EQ(builder.config().trust_ratio_max, 0.3);
  EXPECT_EQ(builder.config().weight_norm_max, 10);
  ConfigBuilder again;
  again.apply_toml(builder.to_toml(), "printed");
  EXPECT_EQ(again.config().trust_ratio_max, 0.3);
  EXPECT_FALSE(again.config().trust_ratio_min) << "\"auto\" as it was printed";
  builder.apply_toml("[optim]\ntrust_ratio_max = \"auto\"\n", "b.toml");
  EXPECT_FALSE(builder.config().trust_ratio_max);
  const char* const environment[] = {"MINIBERT_TRUST_RATIO_MAX=2", nullptr};
  builder.apply_environment(environment);
  EXPECT_EQ(builder.config().trust_ratio_max, 2);
  EXPECT_TRUE(has(toml_error("[optim]\ntrust_ratio_max = \"none\""),
                  "run.toml:2: optim.trust_ratio_max has another type, expected a number or "
                  "\"auto\""));
  EXPECT_TRUE(has(toml_error("[optim]\ntrust_ratio_max = -1"), "is -1, expected 0 to"));
  EXPECT_TRUE(has(toml_error("[optim]\nadapt = \"al\""), "Did you mean all?"));
}

TEST(Config, ANumberMayHaveItsPlus) {
  ConfigBuilder builder;
  const char* const environment[] = {"MINIBERT_TRUST_RATIO_MAX=+2e-1", "MINIBERT_MAX_STEPS=+7",
                                     nullptr};
  builder.apply_environment(environment);
  EXPECT_EQ(builder.config().trust_ratio_max, 0.2);
  EXPECT_EQ(builder.config().max_steps, 7);
  for (const char* text :
       {"MINIBERT_MAX_STEPS=+", "MINIBERT_MAX_STEPS=+-7", "MINIBERT_MAX_STEPS=++7"}) {
    const char* const wrong[] = {text, nullptr};
    EXPECT_TRUE(has(usage_error([&] { builder.apply_environment(wrong); }), "expected an integer"));
  }
}

TEST(Config, KnobsOfTheOptimizerAreCheckedBeforeAnythingIsRead) {
  TrainConfig config = runnable();
  config.optimizer = "adamw", config.adapt = "all";
  EXPECT_TRUE(has(usage_error([&] { validate(config); }), "adamw has no trust ratio"));
  config.optimizer = "adamw-google";  // as the message advises
  EXPECT_EQ(usage_error([&] { validate(config); }), "");
}

}  // namespace
}  // namespace minibert
