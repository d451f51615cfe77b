// metrics_test.cpp: the lines of metrics.jsonl, and cutting them back to a step.
#include "models/training/metrics.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has, testing::message_of, testing::TemporaryFolder, testing::read_bytes,
    testing::write_bytes;

StepRecord record(int64_t step) {
  StepRecord r;
  r.step = step;
  r.loss = 7.5, r.mlm_loss = 6.871234567890123, r.mlm_accuracy = 1.0 / 3, r.nsp_loss = 0.562;
  r.learning_rate = 1.1e-3, r.grad_norm = 1.92, r.sequences = 256, r.tokens = 30001;
  r.step_seconds = 0.25;
  return r;
}

TEST(Metrics, LineHasTheContractsFieldsInOrder) {
  const auto line = nlohmann::ordered_json::parse(to_json(record(120)));
  std::vector<std::string> names;
  for (const auto& [name, value] : line.items()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "step", "phase", "loss", "mlm_loss", "mlm_accuracy", "nsp_loss",
                       "nsp_accuracy", "learning_rate", "grad_norm", "loss_scale", "skipped_steps",
                       "sequences", "tokens", "step_seconds", "data_seconds",
                       "communication_seconds", "exposed_communication_seconds"}));
  EXPECT_EQ(line["step"], 120);
  EXPECT_EQ(line["mlm_loss"].get<double>(), 6.871234567890123) << "reads back bit for bit";
  EXPECT_EQ(line["mlm_accuracy"].get<double>(), 1.0 / 3);
}

TEST(Metrics, EvaluationStandsUnderEval) {
  StepRecord r = record(10);
  r.evaluations = {{"chapters", {3.5, 0.36, 6.2, 0.6, 0.7, 1234}},
                   {"novel", {3.6, 0.34, 6.3, 0.65, 0.6, 99}}};
  const auto line = nlohmann::ordered_json::parse(to_json(r));
  EXPECT_EQ(line["eval"].dump(),
            R"({"mlm_loss":3.5,"mlm_accuracy":0.36,"unigram_cross_entropy":6.2,"nsp_loss":0.6,)"
            R"("nsp_accuracy":0.7,"masked_tokens":1234})");
  EXPECT_EQ(line["eval_by_name"]["novel"]["masked_tokens"], 99);
  r.evaluations.pop_back();
  EXPECT_FALSE(nlohmann::json::parse(to_json(r)).contains("eval_by_name"));
}

TEST(Metrics, NaNAndInfinityAreWrittenAsPythonDoes) {
  StepRecord r = record(3);
  r.loss = std::nan(""), r.grad_norm = INFINITY, r.nsp_loss = -INFINITY;
  const std::string line = to_json(r);
  EXPECT_TRUE(has(line, "\"loss\": NaN, ")) << line;
  EXPECT_TRUE(has(line, "\"grad_norm\": Infinity, ")) << line;
  EXPECT_TRUE(has(line, "\"nsp_loss\": -Infinity, ")) << line;
  const StepRecord back = parse_step_record(line);
  EXPECT_TRUE(std::isnan(back.loss));
  EXPECT_EQ(back.grad_norm, INFINITY);
  EXPECT_EQ(back.nsp_loss, -INFINITY);
}

TEST(Metrics, WithoutNspItsFieldsAreNull) {
  const auto line = nlohmann::json::parse(to_json(record(1)));
  EXPECT_TRUE(line["nsp_accuracy"].is_null());
  EXPECT_FALSE(parse_step_record(to_json(record(1))).nsp_accuracy);
  EXPECT_TRUE(nlohmann::json::parse(to_json(EvaluationResult{}))["nsp_loss"].is_null());
}

TEST(Metrics, RecordRoundTripsThroughItsLine) {
  EXPECT_EQ(to_json(parse_step_record(to_json(record(77)))), to_json(record(77)));
  EXPECT_TRUE(has(message_of<DataError>([] { parse_step_record("{\"step\": 3}"); }),
                  "field \"phase\" is missing"));
  // A conversion to int64_t of what it cannot hold has no defined result.
  for (const char* number : {"1e300", "-1e300", "NaN", "Infinity"}) {
    std::string line = to_json(record(77));
    line.replace(line.find("77"), 2, number);
    EXPECT_TRUE(
        has(message_of<DataError>([&] { parse_step_record(line); }), "field \"step\" is no count"));
  }
}

TEST(Metrics, NamesOfEvaluationSetsAreNotTakenForFields) {
  StepRecord r = record(10);
  r.evaluations = {{"accuracy", {.mlm_loss = 3.5, .masked_tokens = 12}},
                   {"{a}, }", {.mlm_loss = 3.6, .masked_tokens = 34}}};
  const std::string line = to_json(r);
  const StepRecord back = parse_step_record(line);
  EXPECT_FALSE(back.fine_tuning);
  EXPECT_EQ(back.mlm_loss, r.mlm_loss);
  const auto evaluations = parse_evaluations(line, "");
  ASSERT_EQ(evaluations.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(evaluations[i].first, r.evaluations[i].first);
    EXPECT_EQ(evaluations[i].second.mlm_loss, r.evaluations[i].second.mlm_loss);
    EXPECT_EQ(evaluations[i].second.masked_tokens, r.evaluations[i].second.masked_tokens);
  }
}

TEST(Metrics, ScoresAndChangedSettingsDoNotReachIntoEachOther) {
  StepRecord r{.step = 3, .fine_tuning = true};
  r.changed_settings = R"({"a": 1, "eval": {"b": 2}})";
  EXPECT_EQ(parse_step_record(to_json(r)).scores, "");
  EXPECT_EQ(parse_step_record(to_json(r)).changed_settings, r.changed_settings);
  for (const char* scores : {R"({"f1": 2})", R"({"f1": 2, "changed_settings": 3})"}) {
    r.scores = scores;
    EXPECT_EQ(parse_step_record(to_json(r)).scores, r.scores);
    EXPECT_EQ(parse_step_record(to_json(r)).changed_settings, r.changed_settings);
  }
}

TEST(Metrics, CuttingBackDropsLaterAndBrokenLines) {
  TemporaryFolder scratch;
  const auto path = scratch / "metrics.jsonl";
  std::string first_two;
  {
    LineWriter writer(path);
    for (int64_t step = 1; step <= 4; ++step) {
      writer.write(to_json(record(step)));
      if (step == 2) writer.sync(), first_two = read_bytes(path);
    }
  }
  const std::string all = read_bytes(path);
  EXPECT_EQ(truncate_metrics(path, 9).kept, 4);
  EXPECT_EQ(read_bytes(path), all);
  write_bytes(path, all + "{\"step\": 5, \"phase\": 0");  // a power cut in the middle of a line
  EXPECT_EQ(truncate_metrics(path, 9).kept, 4);
  EXPECT_EQ(read_bytes(path), all);
  EXPECT_EQ(truncate_metrics(path, 2).kept, 2);
  EXPECT_EQ(read_bytes(path), first_two);
  LineWriter(path).write(to_json(record(3)));
  EXPECT_EQ(read_bytes(path), first_two + to_json(record(3)) + "\n") << "goes on at the cut";
  EXPECT_EQ(truncate_metrics(path, 0).kept, 0);
  EXPECT_EQ(read_bytes(path), "");
  EXPECT_EQ(truncate_metrics(scratch / "none.jsonl", 4).kept, 0);
}

TEST(Metrics, CuttingBackKeepsWholeLinesBehindDamagedOnesAndTellsOfThem) {
  TemporaryFolder scratch;
  const auto path = scratch / "metrics.jsonl";
  const auto line = [](int64_t step) { return to_json(record(step)) + "\n"; };
  const std::string torn = "{\"step\": 3, \"phase\": 0, \"lo";
  write_bytes(path, line(1) + "\n" + line(2) + torn + line(4) + line(5) + line(6) + torn);
  const MetricsCut cut = truncate_metrics(path, 5);
  EXPECT_EQ(read_bytes(path), line(1) + line(2) + line(5)) << "the torn one took the next with it";
  EXPECT_EQ(cut.kept, 3);
  EXPECT_EQ(cut.damaged, 2);
  EXPECT_EQ(cut.first_damaged, 2);
  write_bytes(path, line(1) + line(7) + line(2) + "\n");
  EXPECT_EQ(truncate_metrics(path, 5).first_damaged, 4);
  EXPECT_EQ(read_bytes(path), line(1) + line(2));
}

TEST(Metrics, UnwritableFileIsAnError) {
  EXPECT_TRUE(has(message_of<UsageError>([] { LineWriter writer("/no/such/metrics.jsonl"); }),
                  "/no/such/metrics.jsonl: can't be opened"));
}

}  // namespace
}  // namespace minibert
