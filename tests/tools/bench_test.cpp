// bench_test.cpp: the verb `minibert bench`, run as users run it: fields, limits that are measured,
// errors. Times themselves are not tested.
#include <cmath>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/run_minibert.h"

namespace minibert::testing {
namespace {

std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::vector<nlohmann::json> result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) result.push_back(nlohmann::json::parse(line));
  return result;
}

std::vector<std::string> keys_of(const nlohmann::ordered_json& object, size_t count) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items())
    if (keys.size() < count) keys.push_back(key);
  return keys;
}

constexpr const char* kTiny =
    "bench step --model bert-tiny --vocab 1000 --batch 3 --seq 16 --steps 3 --warmup 0 --json";

TEST(Bench, OpsHaveTimesRatesAndAShareOfTheProbedLimit) {
  const Outcome outcome = run_minibert("bench add_norm linear --seconds 0.01 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const auto rows = json_lines(outcome.output);
  ASSERT_EQ(rows.size(), 4u) << "forward and backward of two ops";
  for (const auto& row : rows) {
    const auto& seconds = row["seconds"];
    EXPECT_GT(seconds["min"], 0.0);
    EXPECT_LE(seconds["min"], seconds["median"]);
    EXPECT_LE(seconds["median"], seconds["max"]);
    for (const char* rate :
         {"gflops_per_s", "gb_per_s", "share_of_limit", "probed_gflops_per_s", "probed_gb_per_s"})
      EXPECT_GT(row[rate], 0.0) << rate;
  }
  EXPECT_EQ(rows[0]["sizes"], "T=1024 H=768 p=0.1") << "BERT-base's shapes";
  // Linear: y [T, N] = x [T, K] weight^T + bias, then dx, dweight and dbias. A product is 2 T N K.
  const auto work = [](const nlohmann::json& row, const char* rate) {
    return 1e9 * row[rate].get<double>() * row["seconds"]["median"].get<double>();
  };
  const double T = 1024, N = 768, K = 768;
  EXPECT_NEAR(work(rows[2], "gflops_per_s"), 2 * T * N * K + T * N, 1);
  EXPECT_NEAR(work(rows[3], "gflops_per_s"), 4 * T * N * K + T * N, 1);
  EXPECT_NEAR(work(rows[2], "gb_per_s"), 4 * (T * K + N * K + N + T * N), 1);
}

TEST(Bench, TokenizerCountsBytesLinesAndIds) {
  const std::string path = ::testing::TempDir() + "bench_tokenizer.txt";
  std::ofstream(path) << "The cat sat.\n\nThe [MASK]\n";
  // Ids of bert-base-uncased by Transformers: 101 1996 4937 2938 1012 102, 101 102, 101 1996 103 102.
  for (const std::string threads : {"1", "2"}) {
    const Outcome outcome = run_minibert(
        "bench tokenizer --json --seconds 0.01 --threads " + threads +
        " --vocab \"$MINIBERT_SOURCE_DIR\"/tests/goldens/tokenizer/bert-base-uncased-vocab.txt " +
        path);
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    const auto row = json_lines(outcome.output).at(0);
    EXPECT_EQ(row["bytes"], 22);
    EXPECT_EQ(row["lines"], 3);
    EXPECT_EQ(row["ids"], 12);
    EXPECT_EQ(row["sum_of_ids"], 11086 + 203 + 2302);
    EXPECT_GT(row["seconds"]["min"], 0.0);
  }
}

TEST(Bench, OpsMoveHalfTheBytesIn16Bits) {
  const Outcome outcome = run_minibert("bench multiply --seconds 0.01 --precision bf16 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const auto rows = json_lines(outcome.output);
  const auto bytes = [](const nlohmann::json& row) {
    return 1e9 * row["gb_per_s"].get<double>() * row["seconds"]["median"].get<double>();
  };
  EXPECT_EQ(rows[0]["precision"], "bf16");
  EXPECT_NEAR(bytes(rows[0]), 3 * 2 * 1024 * 768, 1);
  // The gradients of activations have their type, as in a model: two products of dy.
  EXPECT_NEAR(bytes(rows[1]), 2 * 3 * 2 * 1024 * 768, 1);
}

TEST(Bench, SmallIsTheLargestOfTheTestsSamples) {
  const Outcome outcome = run_minibert("bench gelu attention --small --seconds 0.001 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const auto rows = json_lines(outcome.output);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0]["sizes"], "[3, 67] erf");
  EXPECT_EQ(rows[2]["sizes"], "N=19 A=3 D=5 lengths=2,17 p=0.1");
  for (const auto& row : rows) {
    EXPECT_EQ(row["device"], "cpu");
    EXPECT_EQ(row["by"], "minibert");
  }
}

TEST(Bench, GemmComparesTheLibraryWithTheBuiltIn) {
  const Outcome outcome = run_minibert("bench gemm --tokens 8 --seconds 0.001 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const auto rows = json_lines(outcome.output);
  EXPECT_EQ(rows.size(), 15u) << "three products of five layers";
  for (const auto& row : rows) EXPECT_GT(row["builtin_gflops_per_s"], 0.0);
}

TEST(Bench, StepPrintsTheFieldsOfThePeerFirstAndInItsOrder) {
  const Outcome outcome = run_minibert(kTiny);
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const auto step = nlohmann::ordered_json::parse(outcome.output);
  // The object that tools/bench/torch_step.py prints.
  EXPECT_EQ(keys_of(step, 15),
            (std::vector<std::string>{"peer", "model", "batch", "seq", "precision", "mode", "head",
                                      "attention", "threads", "padded", "step_s", "sequences_per_s",
                                      "real_tokens_per_s", "loss", "peak_mib"}));
  EXPECT_EQ(step["model"], "tiny");
  EXPECT_EQ(step["batch"], 3);
  EXPECT_EQ(step["head"], "masked");
  const double total = 3 * 3 / step["sequences_per_s"].get<double>();
  EXPECT_NEAR(step["real_tokens_per_s"].get<double>() * total, 3 * 3 * 16, 1);
  // Untrained: log V for the masked tokens, log 2 for the next sentence.
  EXPECT_NEAR(step["loss"].get<double>(), std::log(1000.0) + std::log(2.0), 0.5);
  EXPECT_GT(step["gemm_gflop"], 0.0);
  double known = step["outside_kernels_s"];
  for (const auto& kernel : step["kernels"]) known += kernel["seconds"].get<double>();
  EXPECT_NEAR(known, step["profiled_step_s"].get<double>(), 2e-4) << "a kernel is counted twice";
}

TEST(Bench, StepCountsTheFlopsOfAllProducts) {
  const auto step = nlohmann::json::parse(run_minibert(kTiny).output);
  // 2 layers, H = 128, F = 512, V = 1024 (padded), T = 48, P = 3 x 2, B = 3; a product is 2 M N K,
  // and each of the forward pass has two in the backward pass.
  const double T = 48, H = 128, F = 512, V = 1024, P = 6, B = 3, L = 2;
  const double forward = L * 2 * T * H * (3 * H + H + 2 * F) +  // qkv, output, up and down
                         2 * P * H * H + 2 * P * H * V +        // head: transform, decoder
                         2 * B * H * H + 2 * B * H * 2;         // pooler, next sentence
  EXPECT_NEAR(step["gemm_gflop"].get<double>(), 3 * forward / 1e9, 0.051);
}

TEST(Bench, StepTakesLengthsFromAFile) {
  const std::string path = ::testing::TempDir() + "bench_lengths.txt";
  std::ofstream(path) << "4\n9\n100\n";
  const auto step =
      nlohmann::json::parse(run_minibert(std::string(kTiny) + " --lengths " + path).output);
  const double total = 3 * 3 / step["sequences_per_s"].get<double>();
  EXPECT_NEAR(step["real_tokens_per_s"].get<double>() * total, 3 * (4 + 9 + 16), 1);
  std::ofstream(path) << "4\nlong\n";
  const Outcome bad = run_minibert(std::string(kTiny) + " --lengths " + path);
  EXPECT_EQ(bad.code, 3);
  EXPECT_NE(bad.output.find("line 2"), std::string::npos) << bad.output;
}

TEST(Bench, WhatItCannotDoIsAUsageError) {
  for (const char* arguments :
       {"bench layernorm", "bench add --seconds 0", "bench gemm --tokens 0",
        "bench tokenizer --vocab v --threads 0 f", "bench gemm --hidden 0",
        "bench gemm --dtype tf32", "bench gemm --device cuda", "bench add --threads -3",
        "bench add --precision tf32", "bench add --device cuda", "bench add --device gpu",
        "bench add --gemm ours", "bench step --precision tf32", "bench step --head all",
        "bench step --model bert-huge", "bench step --steps 0", "bench step --batch 0",
        "bench step --device cuda"}) {
    const Outcome outcome = run_minibert(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments << ": " << outcome.output;
    EXPECT_EQ(outcome.output.rfind("error: ", 0), 0u) << outcome.output;
  }
}

}  // namespace
}  // namespace minibert::testing
