// parity_test.cpp: outputs and every gradient against Transformers' BertForPreTraining in float64,
// without and with dropout. The goldens are made by tools/goldens/bert.py; its masks come from a
// second reading of core/philox.h's counter, so agreement under dropout proves the layout. The
// bounds (tests/tolerance.h): outputs and losses within 1e-5 of the largest; for each parameter
// |g - g64| / |g64| at most twice PyTorch-float32's own error, floor 1e-6. In bf16 and f16: at most
// 1.5 times the error of PyTorch's autocast with float32 weights.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>

#include <gtest/gtest.h>

#include "autograd/loss_meter.h"
#include "core/parallel.h"
#include "models/bert/bert.h"
#include "models/bert/safetensors.h"
#include "tests/data_step.h"
#include "tests/models/batch_fields.h"
#include "tests/models/bert_golden.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::gradient_of;
using testing::near;
using testing::norm;
using testing::relative_norm_error;
using testing::Tolerance;

const SafetensorsFile& golden() {
  static const SafetensorsFile file(std::string(std::getenv("MINIBERT_SOURCE_DIR")) +
                                    "/tests/goldens/bert.safetensors");
  return file;
}

PackedBatch golden_batch() {
  return testing::read_golden_batch(golden(), "batch/", {203, 48, 2});
}

BertForPreTraining golden_model(const char* hidden_act = "gelu", DType dtype = DType::f32) {
  BertConfig config = BertConfig::from_json(golden().metadata().at("config"), "golden");
  config.hidden_act = hidden_act;
  BertForPreTraining model(config, ModelUse::training, {}, {.dtype = dtype});
  testing::read_golden_weights(golden(), model);
  return model;
}

StepContext golden_context(const PackedBatch& batch, bool training, float loss_scale = 1) {
  return {.training = training,
          .seed = std::stoull(golden().metadata().at("seed")),
          .data_step = testing::data_step(
              static_cast<uint32_t>(std::stoul(golden().metadata().at("data_step")))),
          .mlm = testing::loss_site(loss_scale / static_cast<float>(batch.masked_rows())),
          .nsp = testing::loss_site(loss_scale / static_cast<float>(batch.sequences()))};
}

/// Forward and backward with fresh gradients; returns the loss.
PreTrainingOutput step(const BertForPreTraining& model, const PackedBatch& batch,
                       const StepContext& context) {
  for (const Variable& leaf : model.leaves()) leaf.reset_grad();
  PreTrainingOutput output = model.forward(upload(batch, model.device()), context);
  output.loss.backward(1.0f, model.leaves());
  return output;
}

void expect_outputs(const std::string& name, bool training, const char* hidden_act) {
  const BertForPreTraining model = golden_model(hidden_act);
  const PackedBatch batch = golden_batch();
  StepContext context = golden_context(batch, training);
  const LossMeter mlm_meter(*context.mlm.scale), nsp_meter(*context.nsp.scale);
  context.mlm = mlm_meter.site();
  context.nsp = nsp_meter.site();
  const NoGrad guard;
  const DeviceBatch there = upload(batch, model.device());
  const Variable hidden = model.encode(there, context);
  EXPECT_TRUE(near("hidden", hidden.value(), golden().read(name + "/hidden"), Tolerance::model));
  const Tensor rows = testing::tensor_of(testing::masked_rows(batch));
  EXPECT_TRUE(near("mlm_logits", model.mlm_logits(hidden, rows),
                   golden().read(name + "/mlm_logits"), Tolerance::model));
  EXPECT_TRUE(near("nsp_logits", model.nsp_logits(hidden, there),
                   golden().read(name + "/nsp_logits"), Tolerance::model));
  const PreTrainingOutput output = model.forward(there, context);
  const LossCounts mlm = mlm_meter.counts(), nsp = nsp_meter.counts();
  const float P = static_cast<float>(batch.masked_rows());
  const float B = static_cast<float>(batch.sequences());
  const float losses[] = {static_cast<float>(mlm.loss_sum) / P,
                          static_cast<float>(nsp.loss_sum) / B, output.loss.value().item()};
  std::vector<float> expected(3);
  golden().read_f32(name + "/losses", expected);
  EXPECT_TRUE(near("losses", losses, expected, Tolerance::model));
  EXPECT_EQ(mlm.rows, batch.masked_rows());
  EXPECT_EQ(nsp.rows, batch.sequences());
}

void expect_gradients(const std::string& name, bool training) {
  const BertForPreTraining model = golden_model();
  const PackedBatch batch = golden_batch();
  step(model, batch, golden_context(batch, training));
  testing::expect_golden_gradients(golden(), name + "/", model);
}

/// Squared errors of one parameter's gradient against float64, ours and PyTorch's under autocast.
struct GradientError {
  double ours = 0, pytorch = 0;
};

/// bf16 or f16 beside PyTorch's autocast, whose own errors against float64 the golden holds.
std::map<std::string, GradientError> errors_in(const std::string& name, bool training,
                                               DType dtype) {
  const std::string type = dtype == DType::bf16 ? "bf16" : "fp16";
  const float scale = dtype == DType::f16 ? std::stof(golden().metadata().at("loss_scale")) : 1.0f;
  const BertForPreTraining model = golden_model("gelu", dtype);
  const PackedBatch batch = golden_batch();
  const PreTrainingOutput output = step(model, batch, golden_context(batch, training, scale));
  std::vector<float> losses(3), pytorch(1);
  golden().read_f32(name + "/losses", losses);
  EXPECT_NEAR(output.loss.value().item() / scale / losses[2], 1,
              dtype == DType::bf16 ? Tolerance::model_loss_bf16 : Tolerance::model_loss_f16);
  std::map<std::string, GradientError> errors;
  for (const ParameterSlice& slice : model.arena().table().slices()) {
    if (slice.name.ends_with("key.bias")) continue;  // zero in exact arithmetic
    const std::span<const float> scaled = gradient_of(model, slice.name);
    std::vector<float> got(scaled.begin(), scaled.end()), expected(got.size());
    for (float& g : got) g /= scale;
    golden().read_f32(name + "/gradient/" + slice.name, expected);
    golden().read_f32(name + "/" + type + "_error/" + slice.name, pytorch);
    const double square = norm(expected) * norm(expected);
    const double error = relative_norm_error(got, expected);
    // For tools/bench/compare_gradients.
    ::testing::Test::RecordProperty(fmt::format("{}/{}_error/{}", name, type, slice.name),
                                    fmt::format("{:.9g}", error));
    // Biases of the NSP path count with their weights: all that flows there comes from 16 numbers,
    // one for each pair, and the error of so few is luck.
    const bool nsp = slice.name.find("pooler") != std::string::npos ||
                     slice.name.find("seq_relationship") != std::string::npos;
    const std::string key = nsp ? slice.name.substr(0, slice.name.rfind('.')) : slice.name;
    errors[key].ours += error * error * square;
    errors[key].pytorch += static_cast<double>(pytorch[0]) * pytorch[0] * square;
  }
  return errors;
}

/// The bound is on the root mean square over the two cases, without and with dropout: a single one is
/// luck, decided by a few roundings, above all in the heads, which see 16 rows. Over 64 cases
/// (docs/results/gradients_16bit_avx512.txt) ours is as large as PyTorch's: a ratio of root mean
/// squares of 0.96 in bf16 and 1.04 in f16, tensors' mean, 1.40 at most, pooler.dense.weight 1.05 and
/// 1.01. Of single ratios 3 % are above 1.5, and 9 % of PyTorch's own beside itself with weights that
/// differ by 1/64.
void expect_close_to_autocast(DType dtype) {
  const auto plain = errors_in("plain", /* training= */ false, dtype);
  const auto dropout = errors_in("dropout", /* training= */ true, dtype);
  double worst = 0, worst_single = 0, sum = 0;
  std::string worst_name, single_name;
  for (const auto& [name, p] : plain) {
    const GradientError& d = dropout.at(name);
    const double ratio = std::sqrt((p.ours + d.ours) / (p.pytorch + d.pytorch));
    const double single = std::sqrt(std::max(p.ours / p.pytorch, d.ours / d.pytorch));
    EXPECT_LE(ratio, 1.5) << name;
    sum += ratio;
    if (ratio > worst) worst = ratio, worst_name = name;
    if (single > worst_single) worst_single = single, single_name = name;
  }
  fmt::print(
      "{}: error over PyTorch's: mean {:.2f}, largest {:.2f} at {}; of one case {:.2f} at {}\n",
      name_of(dtype), sum / static_cast<double>(plain.size()), worst, worst_name, worst_single,
      single_name);
}

TEST(BertParity, Bf16GradientsAreAsExactAsAutocasts) {
  expect_close_to_autocast(DType::bf16);
}

TEST(BertParity, Fp16GradientsAreAsExactAsAutocasts) {
  expect_close_to_autocast(DType::f16);
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
