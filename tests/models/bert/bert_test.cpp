// bert_test.cpp: what holds for any BERT: its size, its start, and what may not change its results:
// packing, micro-batches, threads, tail rows. Values are compared with Transformers' in
// parity_test.cpp.
#include "models/bert/bert.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::near;
using testing::Tolerance;

BertConfig small_config() {
  BertConfig config;
  config.vocab_size = 131;  // 61 padding rows
  config.hidden_size = 48;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 3;
  config.intermediate_size = 100;
  config.max_position_embeddings = 64;
  config.initializer_range = 0.2f;
  return config;
}

struct Sequence {
  int32_t sample;
  std::vector<int32_t> ids;
  std::vector<int32_t> masked;  // positions
  int32_t is_random;
};

/// Sequences of the given lengths; about a fifth of each is masked, the first position too.
std::vector<Sequence> random_sequences(const std::vector<int>& lengths) {
  RandomStream stream(41, StreamPurpose::user, 0);
  std::vector<Sequence> sequences;
  for (size_t b = 0; b < lengths.size(); ++b) {
    Sequence s{static_cast<int32_t>(10 + b), {}, {}, static_cast<int32_t>(stream.below(2))};
    for (int i = 0; i < lengths[b]; ++i) {
      s.ids.push_back(static_cast<int32_t>(stream.below(131)));
      if (i % 5 == 0) s.masked.push_back(i);
    }
    sequences.push_back(s);
  }
  return sequences;
}

Tensor tensor_of(const std::vector<int32_t>& values) {
  return Tensor::from<int32_t>(values, {static_cast<int64_t>(values.size())});
}

/// Packs sequences; `tail` rows of garbage follow.
PackedBatch pack(const std::vector<Sequence>& sequences, int tail = 0) {
  std::vector<int32_t> ids, segment, position, row_sample, cu = {0}, row, label, nsp, sample;
  for (const Sequence& s : sequences) {
    for (const int32_t p : s.masked) {
      row.push_back(cu.back() + p);
      label.push_back(s.ids[static_cast<size_t>(p)]);
    }
    for (size_t i = 0; i < s.ids.size(); ++i) {
      ids.push_back(s.ids[i]);
      segment.push_back(i >= s.ids.size() / 2);
      position.push_back(static_cast<int32_t>(i));
      row_sample.push_back(s.sample);
    }
    cu.push_back(static_cast<int32_t>(ids.size()));
    nsp.push_back(s.is_random);
    sample.push_back(s.sample);
  }
  for (std::vector<int32_t>* field : {&ids, &segment, &position, &row_sample}) {
    field->resize(field->size() + static_cast<size_t>(tail), std::numeric_limits<int32_t>::min());
  }
  return {tensor_of(ids),        tensor_of(segment), tensor_of(position),
          tensor_of(row_sample), tensor_of(cu),      tensor_of(row),
          tensor_of(label),      tensor_of(nsp),     tensor_of(sample)};
}

StepContext context_of(const std::vector<Sequence>& sequences) {
  size_t P = 0;
  for (const Sequence& s : sequences) P += s.masked.size();
  return {.training = true,
          .seed = 99,
          .data_step = 3,
          .mlm_scale = 1.0f / static_cast<float>(P),
          .nsp_scale = 1.0f / static_cast<float>(sequences.size())};
}

struct StepResult {
  double loss;       // of the step
  Tensor gradients;  // the arena's, copied
};

/// One optimizer step's gradients from any number of micro-batches.
StepResult run_step(const BertForPreTraining& model, const std::vector<PackedBatch>& micro_batches,
                    const StepContext& context) {
  model.arena().gradients().fill_zero();
  for (const Variable& leaf : model.leaves()) leaf.reset_grad();
  double loss = 0;
  for (const PackedBatch& batch : micro_batches) {
    const PreTrainingOutput output = model.forward(batch, context);
    output.loss.backward(1.0f, model.leaves());
    loss += output.loss.value().item();
  }
  return {loss, model.arena().gradients().clone()};
}

BertForPreTraining small_model() {
  BertForPreTraining model(small_config());
  model.initialize(7);
  return model;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0;
}

struct Threads {
  explicit Threads(int n) : before(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
  int before;
};

const std::vector<int> kLengths = {33, 1, 64, 8, 17, 2};

// Published totals for V = 30,522 and 512 positions : 110,106,428 and 336,226,108.
TEST(BertModel, HasThePublishedNumberOfParameters) {
  const auto count = [](const char* name) {
    return bert_parameters(BertConfig::named(name)).parameters();
  };
  EXPECT_EQ(count("bert-base"), 110'106'428);
  EXPECT_EQ(count("bert-large"), 336'226'108);
}

TEST(BertModel, StartsAsGooglesDoes) {
  const BertForPreTraining model = small_model();
  const ParameterTable& table = model.arena().table();
  for (int i = 0; i < table.count(); ++i) {
    const std::span<const float> values = model.arena().weight(i).span<float>();
    const auto used = static_cast<size_t>(table[i].used());
    const std::string& name = table[i].name;
    if (name.ends_with("LayerNorm.weight")) {
      for (const float x : values) ASSERT_EQ(x, 1.0f) << name;
    } else if (name.ends_with("bias")) {
      for (const float x : values) ASSERT_EQ(x, 0.0f) << name;
    } else {
      double square = 0;
      for (const float x : values.first(used)) {
        ASSERT_LE(std::abs(x), 0.4f) << name << ": beyond two standard deviations";
        square += static_cast<double>(x) * x;
      }
      // Variance of a standard normal cut at 2: 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.7737.
      const double deviations = std::sqrt(square / static_cast<double>(used) / 0.7737) / 0.2;
      EXPECT_NEAR(deviations, 1.0, 4.0 / std::sqrt(2.0 * static_cast<double>(used))) << name;
    }
    for (const float x : values.subspan(used)) ASSERT_EQ(x, 0.0f) << name << " padding";
  }
}

// Of sines and cosines of one wavelength each: rows p and q meet in sum_i cos((p - q) w_i), whatever
// p is, and in the sum of all squares for p = q.
TEST(BertModel, SinusoidalPositionsMeetByTheirDistanceAlone) {
  BertForPreTraining normal = small_model(), waves = small_model();
  waves.initialize(7, PositionInitializer::sinusoidal);
  const ParameterTable& table = normal.arena().table();
  const int positions = table.find("bert.embeddings.position_embeddings.weight");
  for (int i = 0; i < table.count(); ++i) {
    EXPECT_EQ(same_bits(normal.arena().weight(i), waves.arena().weight(i)), i != positions)
        << table[i].name;
  }
  const Tensor rows = waves.arena().weight(positions);
  const int64_t P = rows.dim(0), H = rows.dim(1);
  const double s = normal.config().initializer_range, base = static_cast<double>(P) / 4;
  for (const int64_t p : {int64_t{0}, int64_t{1}, P / 2, P - 1}) {
    for (int64_t q = 0; q < P; ++q) {
      double product = 0, expected = 0;
      for (int64_t h = 0; h < H; ++h)
        product += double{rows.data<float>()[p * H + h]} * rows.data<float>()[q * H + h];
      for (int64_t i = 0; i < H / 2; ++i) {
        const double frequency =
            std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(H));
        expected += 2 * s * s * std::cos(static_cast<double>(p - q) * frequency);
      }
      ASSERT_NEAR(product, expected, 1e-6 * static_cast<double>(H) * s * s) << p << " " << q;
    }
  }
}

TEST(BertModel, InitialisationDependsOnTheSeedAlone) {
  BertForPreTraining a = small_model(), b = small_model();
  {
    const Threads one(1);
    b.initialize(7);
  }
  EXPECT_TRUE(same_bits(a.arena().weights(), b.arena().weights()));
  b.initialize(8);
  EXPECT_FALSE(same_bits(a.arena().weights(), b.arena().weights()));
}

TEST(BertModel, LeavesCoverEveryParameterOnce) {
  const BertForPreTraining model = small_model();
  int64_t elements = 0;
  for (const Variable& leaf : model.leaves()) {
    elements += leaf.shape().numel();
    EXPECT_TRUE(leaf.is_leaf() && !leaf.name().empty());
  }
  int64_t stored = 0;
  for (const ParameterSlice& slice : model.arena().table().slices())
    stored += slice.storage.numel();
  EXPECT_EQ(elements, stored);
  EXPECT_EQ(model.leaves().size() + 2 * 4, model.arena().table().slices().size());
}

// Rows beyond T hold the most negative integer everywhere: whoever reads one is out of bounds.
TEST(BertModel, TailRowsChangeNoBit) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  const StepContext context = context_of(sequences);
  const StepResult expected = run_step(model, {pack(sequences)}, context);
  for (const int tail : {1, 64, 1000}) {
    const StepResult got = run_step(model, {pack(sequences, tail)}, context);
    EXPECT_EQ(got.loss, expected.loss) << tail << " rows";
    EXPECT_TRUE(same_bits(got.gradients, expected.gradients)) << tail << " rows";
  }
}

TEST(BertModel, ThreadsChangeNoBit) {
  gemm_use(GemmBackend::builtin);
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  std::vector<StepResult> results;
  for (const int n : {1, 2, 3}) {
    const Threads threads(n);
    results.push_back(run_step(model, {pack(sequences)}, context_of(sequences)));
  }
  gemm_use(GemmBackend::fastest);
  for (size_t i = 1; i < results.size(); ++i) {
    EXPECT_EQ(results[i].loss, results[0].loss);
    EXPECT_TRUE(same_bits(results[i].gradients, results[0].gradients));
  }
}

// Were a single mask bit to follow the place in the batch, the difference would be of order one.
TEST(BertModel, PackingDoesNotChangeDropout) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  const StepContext context = context_of(sequences);
  const StepResult expected = run_step(model, {pack(sequences)}, context);
  const std::vector<Sequence> reversed(sequences.rbegin(), sequences.rend());
  const StepResult got = run_step(model, {pack(reversed)}, context);
  EXPECT_NEAR(got.loss, expected.loss, Tolerance::reduction * expected.loss);
  EXPECT_TRUE(near("gradients", got.gradients, expected.gradients, Tolerance::gradient));

  const NoGrad guard;
  const Tensor hidden = model.encode(pack(sequences), context).value();
  const Tensor alone = model.encode(pack({sequences[2]}), context).value();
  EXPECT_TRUE(near("sequence 2", alone, hidden.rows(34, 64), Tolerance::reduction));
}

TEST(BertModel, MicroBatchesAddUpToTheBatch) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  const StepContext context = context_of(sequences);
  const StepResult expected = run_step(model, {pack(sequences)}, context);
  std::vector<PackedBatch> micro_batches;
  for (const Sequence& s : sequences) micro_batches.push_back(pack({s}));
  const StepResult got = run_step(model, micro_batches, context);
  EXPECT_NEAR(got.loss, expected.loss, Tolerance::reduction * expected.loss);
  EXPECT_TRUE(near("gradients", got.gradients, expected.gradients, Tolerance::gradient));
}

TEST(BertModel, DropoutFollowsSeedStepAndMode) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences({20, 9});
  const PackedBatch batch = pack(sequences);
  const NoGrad guard;
  const auto encode = [&](const StepContext& context) {
    return model.encode(batch, context).value();
  };
  const StepContext training = context_of(sequences);
  StepContext other_seed = training, other_step = training, evaluation = training;
  other_seed.seed += 1;
  other_step.data_step += 1;
  evaluation.training = false;
  const Tensor expected = encode(training);
  EXPECT_TRUE(same_bits(encode(training), expected));
  EXPECT_FALSE(same_bits(encode(other_seed), expected));
  EXPECT_FALSE(same_bits(encode(other_step), expected));
  StepContext late_evaluation = evaluation;
  late_evaluation.data_step += 5;
  EXPECT_TRUE(same_bits(encode(evaluation), encode(late_evaluation)));
}

TEST(BertModel, PaddingOfTheVocabularyGetsNoGradient) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  run_step(model, {pack(sequences)}, context_of(sequences));
  const ParameterTable& table = model.arena().table();
  int padded = 0;
  for (int i = 0; i < table.count(); ++i) {
    const auto used = static_cast<size_t>(table[i].used());
    const std::span<const float> tail = model.arena().gradient(i).span<float>().subspan(used);
    padded += !tail.empty();
    for (const float x : tail) ASSERT_EQ(x, 0.0f) << table[i].name;
  }
  EXPECT_EQ(padded, 2);  // word embeddings and the decoder's bias
}

TEST(BertModel, HeadOnMaskedRowsEqualsHeadOnAllRows) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  const PackedBatch batch = pack(sequences);
  StepContext context = context_of(sequences);
  context.training = false;
  const NoGrad guard;
  const Variable hidden = model.encode(batch, context);
  std::vector<int32_t> every(static_cast<size_t>(batch.tokens()));
  std::iota(every.begin(), every.end(), 0);
  const Tensor all = model.mlm_logits(hidden, tensor_of(every));
  const Tensor masked = model.mlm_logits(hidden, batch.mlm_row);
  ASSERT_EQ(masked.shape(), (Shape{batch.masked_rows(), 131}));
  double loss_sum = 0;
  for (int64_t p = 0; p < batch.masked_rows(); ++p) {
    const Tensor row = all.rows(batch.mlm_row.data<int32_t>()[p], 1);
    EXPECT_TRUE(near("row", masked.rows(p, 1), row, Tolerance::reduction));
    double denominator = 0;
    for (const float x : row.span<float>()) denominator += std::exp(static_cast<double>(x));
    loss_sum += std::log(denominator) - row.data<float>()[batch.mlm_label.data<int32_t>()[p]];
  }
  EXPECT_NEAR(model.forward(batch, context).mlm.loss_sum, loss_sum, Tolerance::model * loss_sum);
}

TEST(BertModel, NoMaskedRowsAndNoSequencesGiveNoLoss) {
  const BertForPreTraining model = small_model();
  std::vector<Sequence> sequences = random_sequences({5, 3});
  for (Sequence& s : sequences) s.masked.clear();
  StepContext context{.training = true, .seed = 1, .data_step = 0, .mlm_scale = 1, .nsp_scale = 0};
  for (const PackedBatch& batch : {pack(sequences), pack({})}) {
    const StepResult got = run_step(model, {batch}, context);
    EXPECT_EQ(got.loss, 0.0);
    for (const float g : got.gradients.span<float>()) ASSERT_EQ(g, 0.0f);
  }
  context.nsp_scale = 1;
  EXPECT_EQ(run_step(model, {pack({})}, context).loss, 0.0);
}

TEST(BertModel, WithoutNspItsPartsGetNoGradient) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences({12, 30});
  StepContext context = context_of(sequences);
  context.nsp_scale = 0;
  model.arena().gradients().fill_zero();
  std::fill_n(model.arena().gradients().data<float>(), 10, 5.0f);  // stale values are overwritten
  PackedBatch batch = pack(sequences);
  batch.nsp_label = Tensor();
  run_step(model, {batch}, context);
  for (const char* name : {"bert.pooler.dense.weight", "cls.seq_relationship.bias"}) {
    const int number = model.arena().table().find(name);
    for (const float g : model.arena().gradient(number).span<float>()) ASSERT_EQ(g, 0.0f) << name;
  }
}

TEST(BertModel, RefusesBatchesThatCannotBe) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences({6, 4});
  const StepContext context = context_of(sequences);
  const auto refusal = [&](const PackedBatch& batch) -> std::string {
    try {
      model.forward(batch, context);
    } catch (const Error& error) {
      return error.what();
    }
    return "(accepted)";
  };
  const auto expect = [&](const PackedBatch& batch, const char* says) {
    EXPECT_NE(refusal(batch).find(says), std::string::npos) << refusal(batch);
  };
  PackedBatch batch = pack(sequences);
  batch.mlm_row = tensor_of({0, 10, 5});
  expect(batch, "masked row is 10, expected 0 to 9");
  batch = pack(sequences);
  batch.ids.data<int32_t>()[3] = 131;
  expect(batch, "id 3 of the batch is 131, expected 0 to 130");
  batch = pack(sequences);
  batch.ids.data<int32_t>()[3] = -1;
  expect(batch, "-1");
  batch = pack(sequences);
  batch.segment.data<int32_t>()[0] = 2;
  expect(batch, "2");
  batch = pack(sequences);
  batch.mlm_label.data<int32_t>()[0] = 131;
  expect(batch, "131");
  batch = pack(sequences);
  batch.nsp_label = Tensor();
  expect(batch, "no next-sentence labels");
  batch = pack(sequences);
  batch.cu_seqlens = tensor_of({0, 6, 11});
  expect(batch, "cu_seqlens");
  batch = pack(sequences);
  batch.cu_seqlens = tensor_of({0, 6, 6});
  batch.mlm_row = tensor_of({});
  batch.mlm_label = tensor_of({});
  expect(batch, "sequence 1 has no tokens");
  expect(pack(random_sequences({65})), "sequence 0 has 65 tokens, expected 0 to");
  batch = pack(sequences);
  batch.position = batch.position.rows(0, 9);
  expect(batch, "9 positions");
}

TEST(BertModel, PartsThatAreNotThereAreNamed) {
  BertForPreTraining model(small_config(), ModelUse::inference,
                           {.pooler = false, .mlm_head = false, .nsp_head = false});
  EXPECT_EQ(model.arena().table().find("bert.pooler.dense.weight"), -1);
  EXPECT_EQ(model.arena().table().find("cls.predictions.bias"), -1);
  EXPECT_FALSE(model.arena().gradients().defined());
  model.initialize(1);
  const PackedBatch batch = pack(random_sequences({4}));
  const NoGrad guard;
  const Variable hidden = model.encode(batch, {});
  EXPECT_THROW(model.pooled(hidden, batch), UsageError);
  EXPECT_THROW(model.nsp_logits(hidden), UsageError);
  EXPECT_THROW(model.mlm_logits(hidden, batch.mlm_row), UsageError);
  EXPECT_THROW(model.forward(batch, {}), UsageError);
}

}  // namespace
}  // namespace minibert
