// phases_test.cpp: [[phase]] tables, what they may have of their own, and what is refused.
#include "models/training/phases.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "core/error.h"
#include "models/training/run_setup.h"
#include "tests/models/training/tiny_data.h"

namespace minibert {
namespace {

using testing::has, testing::message_of;

constexpr const char* kTwoPhases = R"(
[data]
data = "both"
[train]
micro_batch_size = 4
global_batch_size = 8
[optim]
learning_rate = 0.5
[checkpoint]
output_dir = "o"
[[phase]]
name = "short"
max_steps = 30
warmup = 3
[[phase]]
name = "long"
data = "b"
global_batch_size = 16
max_steps = 10
learning_rate = 0.25
restart_step_count = true
)";

ConfigBuilder builder_of(const std::string& text) {
  ConfigBuilder builder;
  builder.apply_toml(text, "run.toml");
  return builder;
}

std::string error_of(const std::string& text) {
  return message_of<UsageError>([&] {
    ConfigBuilder builder = builder_of(text);
    builder.finish();
    validate(builder.config());
  });
}

/// `text` with the first `from` replaced.
std::string with(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST(Phases, HaveTheRunsSettingsAndTheirOwn) {
  const std::vector<Phase> phases = phases_of(builder_of(kTwoPhases).config());
  ASSERT_EQ(phases.size(), 2u);
  EXPECT_EQ(phases[0].config.data, "both");
  EXPECT_EQ(phases[1].config.data, "b");
  EXPECT_EQ(phases[0].config.global_batch_size, 8);
  EXPECT_EQ(phases[1].config.global_batch_size, 16);
  EXPECT_EQ(phases[1].config.micro_batch_size, 4);
  EXPECT_EQ(phases[0].config.learning_rate, 0.5);
  EXPECT_EQ(phases[1].config.learning_rate, 0.25);
  EXPECT_EQ(phases[0].first_step, 0);
  EXPECT_EQ(phases[1].first_step, 30);
  EXPECT_EQ(phases[1].end(), 40);
  EXPECT_EQ(total_steps(phases), 40);
  EXPECT_EQ(phases[1].sequences(), 160);
  EXPECT_EQ(phases[1].label(), "phase 2 (long)");
  for (const int64_t step : {0, 29}) EXPECT_EQ(phase_at(phases, step), 0u) << step;
  for (const int64_t step : {30, 39, 40}) EXPECT_EQ(phase_at(phases, step), 1u) << step;
}

TEST(Phases, ARunWithoutTablesIsOne) {
  TrainConfig config;
  config.max_steps = 7;
  const std::vector<Phase> phases = phases_of(config);
  ASSERT_EQ(phases.size(), 1u);
  EXPECT_EQ(phases[0].steps, 7);
  EXPECT_EQ(phases[0].label(), "the run");
  EXPECT_EQ(phase_prefix(phases[0].config), "");
  EXPECT_EQ(flag_text(phases[0].config, "global_batch_size", "8"), "--global-batch-size 8");
}

// linear, min(1, (t+1)/W) lr0 (1 - t/T), from each phase's own first step.
TEST(Phases, SchedulesBeginAnewAndBiasCorrectionByChoice) {
  const RunSchedule run = run_schedule(phases_of(builder_of(kTwoPhases).config()));
  EXPECT_EQ(run.total_steps(), 40);
  for (int64_t t = 0; t < 30; ++t) {
    const double ramp = std::min(1.0, static_cast<double>(t + 1) / 3);
    EXPECT_FLOAT_EQ(run.learning_rate(t), 0.5 * ramp * (1 - static_cast<double>(t) / 30)) << t;
    EXPECT_EQ(run.moment_step(t), t + 1);
  }
  for (int64_t t = 0; t < 10; ++t) {  // warm-up 0.1 of 10 steps: the default
    EXPECT_FLOAT_EQ(run.learning_rate(30 + t), 0.25 * (1 - static_cast<double>(t) / 10)) << t;
    EXPECT_EQ(run.moment_step(30 + t), t + 1);
  }
  EXPECT_EQ(run.learning_rate(40), 0.0f);
  const RunSchedule carried = run_schedule(
      phases_of(builder_of(with(kTwoPhases, "restart_step_count = true", "")).config()));
  EXPECT_EQ(carried.moment_step(30), 31);
}

TEST(Phases, FlagsNameThemByNumberAndByName) {
  ConfigBuilder builder = builder_of(kTwoPhases);
  builder.apply_phase_text("1.data=a=1/x", "--phase");
  builder.apply_phase_text("long.evaluation_data=held=b/held,c", "--phase");
  const std::vector<Phase> phases = phases_of(builder.config());
  EXPECT_EQ(phases[0].config.data, "a=1/x");
  EXPECT_EQ(phases[1].config.evaluation_data, (std::vector<std::string>{"held=b/held", "c"}));
  EXPECT_EQ(builder.origin(0, "data.data"), "--phase");
  const auto refused = [&](const std::string& text) {
    return message_of<UsageError>([&] { builder.apply_phase_text(text, "--phase"); });
  };
  EXPECT_TRUE(has(refused("3.data=x"),
                  "--phase: phase \"3\" does not exist, expected 1 to 2, or one "
                  "of: short, long"));
  EXPECT_TRUE(has(refused("2.dat=x"), "Did you mean data?"));
  EXPECT_TRUE(has(refused("2.beta1=0.5"), "is the same in all phases"));
  EXPECT_TRUE(
      has(refused("2.max_steps=x"), "--phase: train.max_steps is \"x\", expected an integer"));
  EXPECT_TRUE(has(refused("data=x"), "expected PHASE.KEY=VALUE, such as 2.data=DIR"));
  ConfigBuilder none;
  EXPECT_TRUE(has(message_of<UsageError>([&] { none.apply_phase_text("1.data=x", "--phase"); }),
                  "the run has no [[phase]] tables"));
}

TEST(Phases, TheEnvironmentSetsThemToo) {
  ConfigBuilder builder = builder_of(kTwoPhases);
  const char* const environment[] = {"MINIBERT_PHASE=1.data=a,2.warmup=4", nullptr};
  builder.apply_environment(environment);
  EXPECT_EQ(phases_of(builder.config())[0].config.data, "a");
  EXPECT_EQ(phases_of(builder.config())[1].config.warmup, 4);
}

TEST(Phases, ThePrintedSettingsReadBackEqual) {
  ConfigBuilder builder = builder_of(kTwoPhases);
  builder.finish();
  const std::string text = builder.to_toml();
  EXPECT_TRUE(has(text, "# run.toml:")) << text;
  ConfigBuilder again;
  again.apply_toml(text, "config.resolved.toml");
  again.finish();
  const std::vector<Phase> a = phases_of(builder.config()), b = phases_of(again.config());
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    for (const auto* keys : {&config_keys(), &phase_keys()})
      for (const ConfigKey& key : *keys)
        EXPECT_EQ(toml_text(key, a[i].config), toml_text(key, b[i].config)) << key.name();
}

TEST(Phases, FaultsAreNamedWithTheirFix) {
  EXPECT_EQ(error_of(kTwoPhases), "");
  EXPECT_TRUE(
      has(error_of(with(kTwoPhases, "warmup = 3", "warmup = 31")),
          "phase 1 (short): optim.warmup is 31 steps, expected at most train.max_steps = 30. "
          "Use fewer, or a share such as --phase 1.warmup=0.1."));
  EXPECT_TRUE(has(error_of(with(kTwoPhases, "max_steps = 10", "")),
                  "phase 2 (long): max_steps is missing"));
  EXPECT_TRUE(has(error_of(with(kTwoPhases, "data = \"b\"", "first_step = 31")),
                  "phase 2 (long): first_step is 31, expected 30"));
  EXPECT_TRUE(has(error_of(with(kTwoPhases, "global_batch_size = 16", "global_batch_size = 18")),
                  "Use --phase 2.global_batch_size=20 or another"));
  EXPECT_TRUE(has(error_of(with(kTwoPhases, "\"long\"", "\"short\"")), "the name is given twice"));
  EXPECT_TRUE(
      has(error_of(with(kTwoPhases, "data = \"both\"", "")),
          "phase 1 (short): data.data is empty, expected a folder of training shards. Make one "
          "with `minibert data build` and give it with --phase 1.data=DIR."));
  EXPECT_TRUE(has(error_of("[phase]\nmax_steps = 3\n"), "Write it in two brackets"));
  EXPECT_TRUE(
      has(error_of("[[phase]]\nmax_step = 3\n"), "run.toml:2: key phase.max_step is unknown"));
  EXPECT_TRUE(has(error_of("[[phase]]\nseed = 3\n"), "is the same in all phases"));
  EXPECT_TRUE(has(error_of(with(kTwoPhases, "name = \"long\"", "sequence_length = 1024")),
                  "data.sequence_length is 1024, expected at most 512"));
}

TEST(Phases, AllFaultsAreSaidAtOnce) {
  const std::string error = error_of(with(with(kTwoPhases, "warmup = 3", "warmup = 31"),
                                          "global_batch_size = 16", "global_batch_size = 18"));
  EXPECT_TRUE(has(error, "phase 1 (short): optim.warmup")) << error;
  EXPECT_TRUE(has(error, "phase 2 (long): train.global_batch_size")) << error;
}

TEST(Phases, AFlagThatNoPhaseWouldReadIsRefused) {
  ConfigBuilder builder = builder_of(kTwoPhases);
  builder.apply_text(config_key("train.max_steps"), "5", "--max-steps");
  EXPECT_TRUE(
      has(message_of<UsageError>([&] { builder.finish(); }),
          "--max-steps: sets train.max_steps, but each phase has its own. Set that of a phase: "
          "--phase 1.max_steps=VALUE."));
  ConfigBuilder shared = builder_of(kTwoPhases);  // the second phase alone has its own
  shared.apply_text(config_key("optim.learning_rate"), "0.125", "--learning-rate");
  shared.finish();
  EXPECT_EQ(phases_of(shared.config())[0].config.learning_rate, 0.125);
  EXPECT_EQ(phases_of(shared.config())[1].config.learning_rate, 0.25);
}

TEST(Phases, DataThatDoNotFitTheFirstPhasesAreRefused) {
  testing::TemporaryFolder scratch;
  const auto first = testing::build_tiny_data(scratch / "first");
  const auto other = testing::build_tiny_data(scratch / "other", 1, true, testing::kTinyWords + 1);
  const auto config_with = [&](const std::string& second) {
    ConfigBuilder builder = builder_of(with(kTwoPhases, "data = \"b\"", second));
    TrainConfig config = builder.config();
    config.data = first.string();
    config.output_dir = (scratch / "run").string();
    config.num_hidden_layers = 1, config.hidden_size = 32, config.num_attention_heads = 2;
    return config;
  };
  const auto error = [&](const TrainConfig& config) {
    return message_of<UsageError>([&] { open_inputs(config); });
  };
  EXPECT_EQ(error(config_with("")), "");
  const std::string vocabulary = error(config_with("data = \"" + other.string() + "\""));
  EXPECT_TRUE(
      has(vocabulary, "phase 2 (long): " + other.string() + ": was built with another vocabulary"))
      << vocabulary;
  EXPECT_TRUE(has(vocabulary, "`minibert data build --vocab " + (first / "vocab.txt").string()));
  const std::string length = error(config_with("sequence_length = 128"));
  EXPECT_TRUE(has(length, "phase 2 (long): " + first.string() +
                              ": was built for sequences of 24 tokens, expected 128"))
      << length;
  EXPECT_TRUE(has(length, "use --phase 2.sequence_length=24"));
  TrainConfig positions = config_with("");
  positions.max_position_embeddings = 16;
  EXPECT_TRUE(has(error(positions), "Use --max-position-embeddings 24"));
  // What the messages advise.
  positions.max_position_embeddings = 24;
  EXPECT_EQ(error(positions), "");
  EXPECT_EQ(error(config_with("sequence_length = 24")), "");
  const auto mended = testing::build_tiny_data(scratch / "mended", 2);  // of the first's vocabulary
  EXPECT_EQ(error(config_with("data = \"" + mended.string() + "\"")), "");
}

// Data steps 0 .. 29 of 8 samples, then 16 samples a step.
TEST(Phases, AStreamGoesOnInTheSameDataAndBeginsAnewInOthers) {
  testing::TemporaryFolder scratch;
  const auto first = testing::build_tiny_data(scratch / "first");
  const auto other = testing::build_tiny_data(scratch / "other", 2);
  for (const auto& [second, sample] : {std::pair(first, 240), std::pair(other, 0)}) {
    TrainConfig config = builder_of(kTwoPhases).config();
    config.data = first.string();
    config.phases[1].entries["data.data"] = {second.string(), "test"};
    config.output_dir = (scratch / "run").string();
    const RunInputs inputs = open_inputs(config);
    EXPECT_EQ(inputs.phases[0].loader->plan(1).first_sample, 8);
    EXPECT_EQ(inputs.phases[1].loader->plan(30).first_sample, sample);
    EXPECT_EQ(inputs.phases[1].loader->plan(31).first_sample, sample + 16);
    // Two steps were skipped: the first phase has 32 data steps.
    EXPECT_EQ(first_sample_of(phases_of(config), inputs, 1, {0, 32}), sample > 0 ? 256 : 0);
  }
}

}  // namespace
}  // namespace minibert
