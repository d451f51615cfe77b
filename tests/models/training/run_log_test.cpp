// run_log_test.cpp: the form of the lines that people and scripts read.
#include "models/training/run_log.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has;

StepRecord record() {
  StepRecord r;
  r.step = 120;
  r.mlm_loss = 6.8711, r.nsp_loss = 0.5619, r.mlm_accuracy = 0.1213;
  r.learning_rate = 1.1e-3, r.grad_norm = 1.9249;
  return r;
}

TEST(RunLog, LineHasTheContractsForm) {
  const Progress progress{.max_steps = 7038,
                          .sequences_per_second = 18432,
                          .share_of_peak = 0.611,
                          .memory = int64_t{213} << 30 >> 3 << 3,
                          .memory_limit = int64_t{800} << 30,
                          .seconds_left = 3 * 3600 + 12 * 60 + 5};
  EXPECT_EQ(log_line(record(), progress),
            "step 120/7038 | mlm 6.871 nsp 0.562 acc 12.1% | lr 1.1e-03 | gnorm 1.92 | 18.4k seq/s "
            "61% of peak | mem 213.0/800G | eta 3h12m");
}

TEST(RunLog, PhasesAreCountedFromOne) {
  StepRecord r = record();
  r.phase = 1;
  EXPECT_TRUE(
      has(log_line(r, {.max_steps = 8599, .phases = 2}), "step 120/8599 | phase 2/2 | mlm "));
}

TEST(RunLog, ScaleAndSkipsAreShownWhereTheLossIsScaled) {
  StepRecord r = record();
  r.loss_scale = 65536, r.skipped_steps = 2;
  EXPECT_FALSE(has(log_line(r, {}), "scale")) << log_line(r, {});
  EXPECT_TRUE(has(log_line(r, {.scaled = true}), "gnorm 1.92 | scale 2^16 skip 2 | "));
  r.loss_scale = 0x1p-3;
  EXPECT_TRUE(has(log_line(r, {.scaled = true}), "scale 2^-3 skip 2"));
  r.loss_scale = 1000;
  EXPECT_TRUE(has(log_line(r, {.scaled = true}), "scale 1000 skip 2"));
}

TEST(RunLog, NaNIsShown) {
  StepRecord r = record();
  r.mlm_loss = NAN, r.grad_norm = INFINITY, r.nsp_loss.reset();
  const std::string line = log_line(r, {.max_steps = 200, .sequences_per_second = 61.25});
  EXPECT_TRUE(has(line, "mlm nan acc 12.1%")) << line;
  EXPECT_TRUE(has(line, "gnorm inf | 61.2 seq/s | mem")) << line;
}

TEST(RunLog, AStepWithoutMaskedTokensHasNoLossInsteadOfTheBestOne) {
  StepRecord r = record();
  r.mlm_loss = r.mlm_accuracy = 0;
  EXPECT_TRUE(has(log_line(r, {}), " | mlm - (no masked tokens) nsp 0.562 acc 0.0% |"))
      << log_line(r, {});
  r.fine_tuning = true;
  EXPECT_TRUE(has(log_line(r, {}), " | loss 0.000 ")) << log_line(r, {});
}

TEST(RunLog, EvaluationSaysHowFarBelowUnigram) {
  const EvaluationResult result{3.512, 0.361, 6.222, 0.601, 0.68, 4096};
  EXPECT_EQ(
      log_line(30, "chapters", result),
      "step 30 | eval chapters | mlm 3.512 (2.71 below unigram 6.222) acc 36.1% nsp 0.601 acc "
      "68.0% | 4096 masked tokens");
}

TEST(RunLog, DurationsUseTwoUnits) {
  EXPECT_EQ(format_duration(0.4), "0s");
  EXPECT_EQ(format_duration(59.9), "59s");
  EXPECT_EQ(format_duration(60), "1m");
  EXPECT_EQ(format_duration(3599), "59m");
  EXPECT_EQ(format_duration(3600), "1h00m");
  EXPECT_EQ(format_duration(100 * 3600), "4d04h");
  EXPECT_EQ(format_duration(INFINITY), "?");
}

TEST(RunLog, FileHasLevelAndText) {
  testing::TemporaryFolder scratch;
  {
    RunLog log(scratch / "logs/rank-0.log", /* json= */ true);
    log.info("started {not a format}");
    log.warn("little space");
    log.error("no space");
  }
  const std::string text = testing::read_bytes(scratch / "logs/rank-0.log");
  EXPECT_TRUE(has(text, " info started {not a format}\n")) << text;
  EXPECT_TRUE(has(text, " warning warning: little space\n")) << text;
  EXPECT_TRUE(has(text, " error error: no space\n")) << text;
}

TEST(RunLog, LastWordsStandInTheFile) {
  testing::TemporaryFolder scratch;
  RunLog(scratch / "logs/rank-0.log", /* json= */ true).last_words("data is damaged");
  EXPECT_TRUE(has(testing::read_bytes(scratch / "logs/rank-0.log"), " error: data is damaged\n"));
}

TEST(RunLog, FileThatCantBeOpenedIsTheUsersFault) {
  testing::TemporaryFolder scratch;
  testing::write_bytes(scratch / "logs", "a file");
  const std::string message = testing::message_of<UsageError>(
      [&] { RunLog log(scratch / "logs/rank-0.log", /* json= */ true); });
  EXPECT_TRUE(has(message, "logs/rank-0.log: can't be opened for writing")) << message;
}

}  // namespace
}  // namespace minibert
