// evaluation_test.cpp: the figures of `eval mlm` against sums made by hand from the shards.
#include "models/training/evaluation.h"

#include <cmath>

#include <gtest/gtest.h>

#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "models/text/loader.h"
#include "tests/dist/ranks.h"
#include "tests/models/batch_fields.h"
#include "tests/models/training/tiny_data.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::build_tiny_data, testing::TemporaryFolder;

BertForPreTraining tiny_model(int64_t vocab_size) {
  BertConfig config = BertConfig::named("bert-tiny");
  config.vocab_size = vocab_size;
  config.hidden_size = 32, config.num_hidden_layers = 1;
  config.num_attention_heads = 2, config.intermediate_size = 64;
  config.max_position_embeddings = 32, config.initializer_range = 0.2f;
  BertForPreTraining model(config, ModelUse::inference);
  model.initialize(3);
  return model;
}

TEST(Evaluation, UnigramCrossEntropyIsOfTheTrainingTextsFrequencies) {
  TemporaryFolder scratch;
  const auto folder = build_tiny_data(scratch.path());
  const auto held_out = ShardSet::open(folder / "held-out");
  const auto model = tiny_model(held_out->traits().vocab_size);
  const auto result = evaluate(model, held_out, {});
  // Frequencies straight from the text: every document but each sixth, words w0 .. w39.
  std::vector<double> counts(held_out->traits().vocab_size, 1.0);
  double total = static_cast<double>(counts.size());
  std::istringstream text(testing::read_bytes(scratch / "text"));
  int document = 1;
  for (std::string line; std::getline(text, line);) {
    if (line.empty()) ++document;
    if (line.empty() || document % 6 == 0) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;) counts[5 + std::stoul(word.substr(1))] += 1, total += 1;
  }
  double sum = 0;
  int64_t masked = 0;
  for (int64_t i = 0; i < held_out->examples(); ++i) {
    for (const int32_t label : held_out->read_masked(i, 0, 0).masked_labels)
      sum -= std::log(counts[static_cast<size_t>(label)] / total), ++masked;
  }
  ASSERT_TRUE(result);
  EXPECT_EQ(result->masked_tokens, masked);
  EXPECT_NEAR(result->unigram_cross_entropy, sum / static_cast<double>(masked),
              testing::Tolerance::elementwise);
}

TEST(Evaluation, LossAndAccuracyAreThoseOfTheLogits) {
  TemporaryFolder scratch;
  const auto data = ShardSet::open(build_tiny_data(scratch.path()) / "held-out");
  const auto model = tiny_model(data->traits().vocab_size);
  const auto result = evaluate(model, data, {.micro_batch_size = 7});
  double loss = 0, nsp_loss = 0;
  int64_t correct = 0, nsp_correct = 0, rows = 0, pairs = 0;
  const auto judge = [](const float* scores, int64_t n, int32_t label, double& sum, int64_t& hits) {
    double normaliser = 0;
    for (int64_t j = 0; j < n; ++j) normaliser += std::exp(static_cast<double>(scores[j]));
    sum += std::log(normaliser) - scores[label];
    hits += std::max_element(scores, scores + n) - scores == label;
  };
  EvaluationReader reader(data, 1, true);
  for (auto batch = reader.next(); batch; batch = reader.next()) {
    const NoGrad guard;
    const DeviceBatch there = upload(*batch, model.device());
    const Variable hidden = model.encode(there, {});
    const Tensor masked = testing::tensor_of(testing::masked_rows(*batch));
    const Tensor logits = model.mlm_logits(hidden, masked);
    for (int64_t p = 0; p < batch->masked_rows(); ++p, ++rows)
      judge(logits.data<float>() + p * logits.dim(1), logits.dim(1),
            batch->mlm_label.data<int32_t>()[p], loss, correct);
    const Tensor scores = model.nsp_logits(hidden, there);
    judge(scores.data<float>(), 2, batch->nsp_label.data<int32_t>()[0], nsp_loss, nsp_correct);
    ++pairs;
  }
  EXPECT_EQ(result->masked_tokens, rows);
  EXPECT_NEAR(result->mlm_loss, loss / static_cast<double>(rows),
              testing::Tolerance::reduction * result->mlm_loss);
  EXPECT_NEAR(*result->nsp_loss, nsp_loss / static_cast<double>(pairs),
              testing::Tolerance::reduction);
  EXPECT_EQ(result->mlm_accuracy, static_cast<double>(correct) / static_cast<double>(rows));
  EXPECT_EQ(*result->nsp_accuracy, static_cast<double>(nsp_correct) / static_cast<double>(pairs));
}

TEST(Evaluation, StopsBetweenBatchesAndAtTheLimit) {
  TemporaryFolder scratch;
  const auto data = ShardSet::open(build_tiny_data(scratch.path()) / "held-out");
  const auto model = tiny_model(data->traits().vocab_size);
  int asked = 0;
  EXPECT_FALSE(evaluate(model, data, {.micro_batch_size = 4}, [&] { return ++asked == 3; }));
  EXPECT_EQ(asked, 3);
  const auto some = evaluate(model, data, {.micro_batch_size = 4, .max_batches = 2});
  EvaluationReader reader(data, 4, true);
  const int64_t first_two = reader.next()->masked_rows() + reader.next()->masked_rows();
  EXPECT_EQ(some->masked_tokens, first_two);
}

// Each of two ranks computes every other micro-batch. One of them wants to stop at the second question.
TEST(Evaluation, EndsOnAllRanksAtOnce) {
  TemporaryFolder scratch;
  const auto data = ShardSet::open(build_tiny_data(scratch.path()) / "held-out");
  const auto model = tiny_model(data->traits().vocab_size);
  ASSERT_GT(data->examples(), 4 * 4);
  for (const int one : {0, 1}) {
    auto transports = memory_transports(2, /* timeout= */ 30);
    const auto errors = testing::run_ranks(2, [&](int rank) {
      RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
      int asked = 0;
      const auto stop = [&] { return ++asked == 2 && rank == one; };
      EXPECT_FALSE(evaluate(model, data, {.micro_batch_size = 4}, stop, &group));
      EXPECT_EQ(asked, 2);
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
  }
}

}  // namespace
}  // namespace minibert
