// run_settings_test.cpp: every setting is recorded and compared when a run is resumed; what a change
// does is said; checkpoints of former versions are compared through the run folder.
#include "models/training/run_settings.h"

#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/training/checkpoint.h"
#include "models/training/config.h"
#include "models/training/phases.h"
#include "models/training/run_setup.h"
#include "tests/models/training/tiny_data.h"

namespace minibert {
namespace {

using testing::has, testing::message_of, testing::TemporaryFolder, testing::write_bytes;

/// Another value than a setting has.
struct Other {
  TrainConfig& config;
  const ConfigKey& key;
  void operator()(std::string TrainConfig::*member) const {
    std::string& value = config.*member;
    if (key.choices.empty()) {
      value += "x";
    } else {
      value = value == key.choices.front() ? key.choices.back() : key.choices.front();
    }
  }
  void operator()(int64_t TrainConfig::*member) const { config.*member += 1; }
  void operator()(double TrainConfig::*member) const { config.*member += 0.25; }
  void operator()(bool TrainConfig::*member) const { config.*member = !(config.*member); }
  void operator()(std::optional<double> TrainConfig::*member) const { config.*member = 0.5; }
  void operator()(std::vector<std::string> TrainConfig::*member) const {
    (config.*member).push_back("more");
  }
};

/// Inputs of one phase that are never opened.
RunInputs inputs_of(const TrainConfig& config) {
  RunInputs inputs;
  for (size_t i = 0; i < std::max<size_t>(1, config.phases.size()); ++i)
    inputs.phases.emplace_back().fingerprint = "00ff";
  inputs.model.hidden_dropout_prob = static_cast<float>(config.hidden_dropout);
  inputs.model.attention_probs_dropout_prob = static_cast<float>(config.attention_dropout);
  return inputs;
}

RunSettings settings(const TrainConfig& config, const TaskSettings& task = {}) {
  return settings_of(config, inputs_of(config), task);
}

TrainerState at_step(int64_t step) {
  TrainerState state;
  state.data_steps = state.applied_steps = step;
  return state;
}

TEST(RunSettings, EverySettingIsComparedUnlessItSaysWhereOrIsTheModelsShape) {
  const TrainConfig before;
  int compared = 0;
  for (const auto* keys : {&config_keys(), &phase_keys()}) {
    for (const ConfigKey& key : *keys) {
      SCOPED_TRACE(key.name());
      TrainConfig after;
      std::visit(Other{after, key}, key.member);
      const auto changes = setting_changes(settings(before), settings(after), at_step(20));
      const SettingEffect effect = effect_of(key.name());
      if (key.name() == "data.evaluation_data") {  // of fine-tuning: by its name
        ASSERT_EQ(changes.size(), 1u);
        EXPECT_EQ(changes[0].name, "data.evaluation_checksum");
      } else if (effect == SettingEffect::place || effect == SettingEffect::shape) {
        EXPECT_TRUE(changes.empty());
      } else {
        ++compared;
        ASSERT_EQ(changes.size(), 1u);
        EXPECT_EQ(changes[0].name, key.name());
        EXPECT_NE(changes[0].before, changes[0].now);
        EXPECT_EQ(changes[0].first_step, 21);
        const std::string line = describe(changes)[0];
        EXPECT_TRUE(has(line, key.name() + " was " + changes[0].before)) << line;
        EXPECT_TRUE(has(line, "is " + changes[0].now + " now")) << line;
      }
    }
  }
  EXPECT_GT(compared, 60);
}

TEST(RunSettings, EqualSettingsHaveNoChanges) {
  const TrainConfig config;
  EXPECT_TRUE(setting_changes(settings(config), settings(config), at_step(3)).empty());
  EXPECT_EQ(to_json(std::vector<SettingChange>{}), "");
}

TEST(RunSettings, TaskAndDataAreCompared) {
  const TrainConfig config;
  RunInputs other = inputs_of(config);
  other.phases[0].fingerprint = "0100";
  const RunSettings before = settings(config, {{"--max-sequence-length", "384"}});
  const RunSettings after = settings_of(config, other, {{"--max-sequence-length", "128"}});
  const auto changes = setting_changes(before, after, at_step(2));
  const auto json = nlohmann::json::parse(to_json(changes));
  const auto expected = nlohmann::json::parse(
      R"({"--max-sequence-length": {"before": "384", "now": "128"},
          "data.checksum": {"before": "00ff", "now": "0100"}})");
  EXPECT_EQ(json, expected);
}

TEST(RunSettings, APhaseThatIsOverIsNotComparedAndOneToComeCountsFromItsBeginning) {
  TrainConfig before;
  for (int i = 0; i < 3; ++i)
    before.phases.push_back(
        {{{"train.max_steps", {int64_t{10}, "test"}}, {"optim.learning_rate", {1e-3, "test"}}}});
  TrainConfig after = before;
  for (PhaseSettings& phase : after.phases) phase.entries["optim.learning_rate"].value = 2e-3;
  TrainerState state = at_step(12);
  state.phase_starts = {{0, 0}, {10, 10}};
  const auto lines = describe(setting_changes(settings(before), settings(after), state));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_TRUE(has(lines[0],
                  "phase 2: optim.learning_rate was 0.001 in the checkpoint and is 0.002 "
                  "now, from step 13 on"))
      << lines[0];
  EXPECT_TRUE(has(lines[1], "phase 3: ") && has(lines[1], "from the beginning of that phase on"))
      << lines[1];
}

// linear with a warm-up of 10 of 100 steps: lr0 min(1, (t + 1)/W) (1 - t/T); t = 50 gives lr0/2.
TEST(RunSettings, SaysTheRateOfTheNextStepAndThePositionInTheData) {
  TrainConfig before;
  before.max_steps = 100, before.global_batch_size = 32;
  TrainConfig after = before;
  after.learning_rate = 5e-3, after.max_steps = 200, after.global_batch_size = 64;
  const TrainerState state = at_step(50);
  const RunSettings a = settings(before), b = settings(after);
  const auto lines = consequences(setting_changes(a, b, state), a, b, state);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_TRUE(has(lines[0],
                  "learning rate of step 51: 0.00375, by the settings of the checkpoint "
                  "0.0005"))
      << lines[0];
  EXPECT_TRUE(has(lines[1], "after sample 3200 of the phase, not after sample 1600")) << lines[1];
}

TEST(RunSettings, WhatNeverChangesIsRefusedWithTheCheckpointsValue) {
  TrainConfig before, after;
  after.nsp = false;
  const auto changes = setting_changes(settings(before), settings(after), at_step(4));
  const std::string message =
      message_of<UsageError>([&] { check_changes(changes, "run/checkpoint-4"); });
  EXPECT_TRUE(has(message, "model.nsp was true and is false")) << message;
  EXPECT_TRUE(has(message, "--init-from run/checkpoint-4")) << message;
}

TEST(RunSettings, ComeBackFromTheStateOfARun) {
  TrainerState state = at_step(7);
  TrainConfig config;
  config.trust_ratio_max = 10;
  state.settings = settings(config, {{"--doc-stride", "64"}});
  EXPECT_EQ(parse_trainer_state(to_json(state), "s.json").settings, state.settings);
}

// A state as versions before this record wrote it: the run folder has the settings.
TEST(RunSettings, OfAFormerVersionAreThoseOfTheRunFolder) {
  const TemporaryFolder run;
  TrainConfig config;
  TrainerState state = at_step(7);
  state.seed = 99, state.optimizer = "lamb", state.global_batch_size = 32;
  state.data_fingerprint = "00ff";
  write_bytes(
      run / "config.resolved.toml",
      "format_version = 1\n[optim]\nadapt = \"all\"\ntrust_ratio_max = 10\n[train]\nseed = 1\n");
  std::vector<std::string> notes;
  RunSettings saved = former_settings(run / "checkpoint-7", state, notes);
  EXPECT_TRUE(notes.empty());
  std::vector<std::string> names;
  for (const SettingChange& c : setting_changes(saved, settings(config), state))
    names.push_back(fmt::format("{} {} {}", c.name, c.before, c.now));
  EXPECT_EQ(names,
            (std::vector<std::string>{"optim.adapt all auto", "optim.trust_ratio_max 10 auto",
                                      "train.seed 99 12345"}));
  write_bytes(run / "config.resolved.toml", "[no_such_section]\nseed = 1\n");
  saved = former_settings(run / "checkpoint-7", state, notes);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_TRUE(has(notes[0], "no_such_section")) << notes[0];
  const auto changes = setting_changes(saved, settings(config), state);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].name, "train.seed");
}

}  // namespace
}  // namespace minibert
