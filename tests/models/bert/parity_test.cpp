// parity_test.cpp: outputs and every gradient against Transformers' BertForPreTraining in float64,
// without and with dropout. The goldens are made by tools/goldens/bert.py; its masks come from a
// second reading of core/random.h's counter, so agreement under dropout proves the layout. The
// bounds (tests/tolerance.h): outputs and losses within 1e-5 of the largest; for each parameter
// |g - g64| / |g64| at most twice PyTorch-float32's own error, floor 1e-6.
#include <cmath>
#include <cstdlib>
#include <cstring>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "models/bert/bert.h"
#include "models/bert/safetensors.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::near;
using testing::Tolerance;

const SafetensorsFile& golden() {
  static const SafetensorsFile file(std::string(std::getenv("MINIBERT_SOURCE_DIR")) +
                                    "/tests/goldens/bert.safetensors");
  return file;
}

PackedBatch golden_batch() {
  const auto read = [](const char* field) { return golden().read(std::string("batch/") + field); };
  return {read("ids"),        read("segment"),    read("position"),
          read("row_sample"), read("cu_seqlens"), read("mlm_row"),
          read("mlm_label"),  read("nsp_label"),  read("sample")};
}

BertForPreTraining golden_model(const char* hidden_act = "gelu") {
  BertConfig config = BertConfig::from_json(golden().metadata().at("config"), "golden");
  config.hidden_act = hidden_act;
  BertForPreTraining model(config);
  const ParameterTable& table = model.arena().table();
  for (int i = 0; i < table.count(); ++i) {
    const auto used = static_cast<size_t>(table[i].used());
    golden().read_f32("weights/" + table[i].name,
                      model.arena().weight(i).span<float>().first(used));
  }
  return model;
}

StepContext golden_context(const PackedBatch& batch, bool training) {
  return {.training = training,
          .seed = std::stoull(golden().metadata().at("seed")),
          .data_step = static_cast<uint32_t>(std::stoul(golden().metadata().at("data_step"))),
          .mlm_scale = 1.0f / static_cast<float>(batch.masked_rows()),
          .nsp_scale = 1.0f / static_cast<float>(batch.sequences())};
}

/// Forward and backward with fresh gradients; returns the loss.
PreTrainingOutput step(const BertForPreTraining& model, const PackedBatch& batch,
                       const StepContext& context) {
  for (const Variable& leaf : model.leaves()) leaf.reset_grad();
  PreTrainingOutput output = model.forward(batch, context);
  output.loss.backward(1.0f, model.leaves());
  return output;
}

double norm(std::span<const float> x) {
  double sum = 0;
  for (float value : x) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

double relative_norm_error(std::span<const float> got, std::span<const float> expected) {
  double sum = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - expected[i];
    sum += difference * difference;
  }
  return std::sqrt(sum) / norm(expected);
}

/// The gradient of one parameter by name, without padding rows.
std::span<const float> gradient(const BertForPreTraining& model, const std::string& name) {
  const int number = model.arena().table().find(name);
  return model.arena().gradient(number).span<float>().first(
      static_cast<size_t>(model.arena().table()[number].used()));
}

void expect_outputs(const std::string& name, bool training, const char* hidden_act) {
  const BertForPreTraining model = golden_model(hidden_act);
  const PackedBatch batch = golden_batch();
  const StepContext context = golden_context(batch, training);
  const NoGrad guard;
  const Variable hidden = model.encode(batch, context);
  EXPECT_TRUE(near("hidden", hidden.value(), golden().read(name + "/hidden"), Tolerance::model));
  EXPECT_TRUE(near("mlm_logits", model.mlm_logits(hidden, batch.mlm_row),
                   golden().read(name + "/mlm_logits"), Tolerance::model));
  EXPECT_TRUE(near("nsp_logits", model.nsp_logits(model.pooled(hidden, batch)).value(),
                   golden().read(name + "/nsp_logits"), Tolerance::model));
  const PreTrainingOutput output = model.forward(batch, context);
  const float P = static_cast<float>(batch.masked_rows());
  const float B = static_cast<float>(batch.sequences());
  const float losses[] = {static_cast<float>(output.mlm.loss_sum) / P,
                          static_cast<float>(output.nsp.loss_sum) / B, output.loss.value().item()};
  std::vector<float> expected(3);
  golden().read_f32(name + "/losses", expected);
  EXPECT_TRUE(near("losses", losses, expected, Tolerance::model));
  EXPECT_EQ(output.mlm.rows, batch.masked_rows());
  EXPECT_EQ(output.nsp.rows, batch.sequences());
}

void expect_gradients(const std::string& name, bool training) {
  const BertForPreTraining model = golden_model();
  const PackedBatch batch = golden_batch();
  step(model, batch, golden_context(batch, training));
  double worst = 0;
  std::string worst_name;
  for (const ParameterSlice& slice : model.arena().table().slices()) {
    const std::span<const float> got = gradient(model, slice.name);
    if (slice.name.ends_with("key.bias")) {
      // Mathematically zero: a constant added to all of a row's scores leaves its softmax alone.
      const std::string query = slice.name.substr(0, slice.name.size() - 8) + "query.bias";
      EXPECT_LE(norm(got), Tolerance::zero_gradient * norm(gradient(model, query))) << slice.name;
      continue;
    }
    std::vector<float> expected(got.size()), pytorch_error(1);
    golden().read_f32(name + "/gradient/" + slice.name, expected);
    golden().read_f32(name + "/fp32_error/" + slice.name, pytorch_error);
    const double error = relative_norm_error(got, expected);
    const double allowed = std::max(2.0 * pytorch_error[0], Tolerance::model_gradient_floor);
    EXPECT_LE(error, allowed) << slice.name << ": PyTorch's own error is " << pytorch_error[0];
    if (error / allowed > worst) worst = error / allowed, worst_name = slice.name;
  }
  ::testing::Test::RecordProperty("worst_share_of_tolerance", fmt::format("{:.3f}", worst));
  fmt::print("{}: largest share of tolerance {:.2f} at {}\n", name, worst, worst_name);
}

TEST(BertParity, OutputsEqualTransformers) {
  expect_outputs("plain", /* training= */ false, "gelu");
}

TEST(BertParity, OutputsEqualTransformersWithTanhGelu) {
  expect_outputs("tanh", /* training= */ false, "gelu_new");
}

TEST(BertParity, OutputsEqualTransformersUnderDropout) {
  expect_outputs("dropout", /* training= */ true, "gelu");
}

TEST(BertParity, GradientsEqualTransformers) {
  expect_gradients("plain", /* training= */ false);
}

TEST(BertParity, GradientsEqualTransformersUnderDropout) {
  expect_gradients("dropout", /* training= */ true);
}

}  // namespace
}  // namespace minibert
