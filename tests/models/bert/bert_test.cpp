// bert_test.cpp: what holds for any BERT: its size, its start, and what may not change its results:
// packing, spare room, micro-batches, threads, recomputation. Values are compared with Transformers' in
// parity_test.cpp.
#include "models/bert/bert.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include <gtest/gtest.h>

#include "autograd/loss_meter.h"
#include "core/parallel.h"
#include "tests/data_step.h"
#include "tests/models/batch_fields.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::masked_rows;
using testing::near;
using testing::tensor_of;
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

constexpr BatchLimits kLimits = {131, 64, 2};

PackedBatch batch_of(const std::vector<Sequence>& sequences, const BatchCapacity& capacity = {},
                     bool nsp = true) {
  std::vector<std::vector<int32_t>> labels;
  for (const Sequence& s : sequences) {
    labels.emplace_back();
    for (const int32_t p : s.masked) labels.back().push_back(s.ids[static_cast<size_t>(p)]);
  }
  std::vector<SequenceToPack> all;
  for (const Sequence& s : sequences) {
    all.push_back({.ids = s.ids,
                   .first_segment = static_cast<int64_t>(s.ids.size() / 2),
                   .sample = s.sample,
                   .masked_positions = s.masked,
                   .masked_labels = labels[all.size()],
                   .nsp_label = s.is_random});
  }
  return pack(all, kLimits, nsp, capacity);
}

DeviceBatch on_device(const PackedBatch& batch) {
  return upload(batch, Device::cpu);
}

StepContext context_of(const std::vector<Sequence>& sequences) {
  size_t P = 0;
  for (const Sequence& s : sequences) P += s.masked.size();
  return {.training = true,
          .seed = 99,
          .data_step = testing::data_step(3),
          .mlm = testing::loss_site(1.0f / static_cast<float>(P)),
          .nsp = testing::loss_site(1.0f / static_cast<float>(sequences.size()))};
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
    const PreTrainingOutput output = model.forward(on_device(batch), context);
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
  EXPECT_TRUE(same_bits(a.arena().masters(), b.arena().masters()));
  b.initialize(8);
  EXPECT_FALSE(same_bits(a.arena().masters(), b.arena().masters()));
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

/// Fills the memory that the allocator hands out next, up to blocks of `largest` bytes, with ones:
/// NaN in every floating type, -1 as an integer.
void poison_free_memory(int64_t largest) {
  constexpr int kBlocksOfASize = 24;
  std::vector<Tensor> blocks;
  for (int64_t size = 64; size <= largest;) {
    for (int i = 0; i < kBlocksOfASize; ++i) {
      blocks.push_back(Tensor::empty({size}, DType::u8));
      std::memset(blocks.back().raw(), 0xff, static_cast<size_t>(size));
    }
    size += size < 4096 ? 64 : static_cast<int64_t>(std::bit_floor(static_cast<size_t>(size))) / 8;
  }
}

double norm(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += double{value} * value;
  return std::sqrt(sum);
}

/// |got - expected| / |expected| of each parameter, as in parity_test.cpp; key.bias, whose gradient is
/// zero in exact arithmetic, against query.bias.
void expect_gradients_near(const BertForPreTraining& model, const Tensor& got,
                           const Tensor& expected) {
  const ParameterTable& table = model.arena().table();
  double worst = 0;
  for (const ParameterSlice& slice : table.slices()) {
    std::string against = slice.name;
    if (const size_t key = against.find("key.bias"); key != std::string::npos)
      against.replace(key, 3, "query");
    const ParameterSlice& scale = table[table.find(against)];
    std::vector<float> difference;
    for (int64_t i = slice.offset; i < slice.offset + slice.storage.numel(); ++i)
      difference.push_back(got.data<float>()[i] - expected.data<float>()[i]);
    const double error =
        norm(difference) / norm(expected.slice(scale.offset, scale.storage).span<float>());
    EXPECT_LE(error, Tolerance::model_gradient_floor) << slice.name;
    worst = std::max(worst, error);
  }
  fmt::print("largest |got - expected| / |expected| of a parameter: {:.2g}\n", worst);
}

// Spare rows flow through the whole model. Whatever stood in memory before must not reach a result,
// and each spare row must add exact zeros to every gradient, at the end of its sums: `compare` gets
// the step with room and the one without.
template <typename Compare>
void for_spare_room(const std::vector<int>& lengths, const std::vector<BatchCapacity>& rooms,
                    const Compare& compare) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(lengths);
  const StepContext context = context_of(sequences);
  const StepResult expected = run_step(model, {batch_of(sequences)}, context);
  for (const BatchCapacity& room : rooms) {
    const PackedBatch batch = batch_of(sequences, room);
    poison_free_memory(1 << 20);
    ASSERT_TRUE(std::isnan(Tensor::empty({room.rows, 48}).data<float>()[0]));
    compare(model, run_step(model, {batch}, context), expected);
  }
}

// Our own GEMM, layer_norm and the sums of columns cut their rows at the same places however many
// there are: here 1,000, or 4,200 with the spare ones.
TEST(BertModel, SpareRoomChangesNoBitOfOurKernels) {
  std::vector<int> lengths;
  for (int i = 0; i < 8; ++i) lengths.insert(lengths.end(), kLengths.begin(), kLengths.end());
  gemm_use(GemmBackend::builtin);
  for_spare_room(lengths, {{4200, 60, 800}},
                 [](const BertForPreTraining&, const StepResult& got, const StepResult& expected) {
                   EXPECT_EQ(got.loss, expected.loss);
                   EXPECT_TRUE(same_bits(got.gradients, expected.gradients));
                 });
  gemm_use(GemmBackend::fastest);
}

// oneDNN, where it is there, divides a product by its shape.
TEST(BertModel, SpareRoomChangesNoLossAndNoGradient) {
  for_spare_room(
      kLengths, {{126, 6, 29}, {189, 7, 60}, {1125, 20, 200}},
      [](const BertForPreTraining& model, const StepResult& got, const StepResult& expected) {
        EXPECT_NEAR(got.loss, expected.loss, Tolerance::model_gradient_floor * expected.loss);
        expect_gradients_near(model, got.gradients, expected.gradients);
      });
}

TEST(BertModel, SpareRoomAloneGivesNoLossAndNoGradient) {
  const BertForPreTraining model = small_model();
  StepContext context = context_of(random_sequences({3}));
  const PackedBatch batch = batch_of({}, {40, 3, 9});
  poison_free_memory(1 << 18);
  const StepResult got = run_step(model, {batch}, context);
  EXPECT_EQ(got.loss, 0.0);
  for (const float g : got.gradients.span<float>()) ASSERT_EQ(g, 0.0f);
}

TEST(BertModel, RecomputedLayersGiveTheSameBitsInLessMemory) {
  BertConfig config = small_config();
  config.num_hidden_layers = 6;
  BertForPreTraining model(config);
  model.initialize(7);
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  StepContext context = context_of(sequences);
  const auto run = [&](Recompute recompute, int64_t& peak) {
    context.recompute = recompute;
    const PackedBatch batch = batch_of(sequences);
    Allocator::instance().reset_peak();
    const int64_t before = Allocator::instance().usage(MemoryCategory::activations).bytes;
    const StepResult result = run_step(model, {batch}, context);
    peak = Allocator::instance().usage(MemoryCategory::activations).peak_bytes - before;
    return result;
  };
  int64_t kept_peak = 0, recomputed_peak = 0;
  const StepResult kept = run(Recompute::none, kept_peak);
  const StepResult recomputed = run(Recompute::layer, recomputed_peak);
  EXPECT_EQ(recomputed.loss, kept.loss);
  EXPECT_TRUE(same_bits(recomputed.gradients, kept.gradients));
  fmt::print("activations at their peak: {} bytes kept, {} recomputed\n", kept_peak,
             recomputed_peak);
  EXPECT_LT(recomputed_peak, kept_peak / 2);
}

TEST(BertModel, ThreadsChangeNoBit) {
  gemm_use(GemmBackend::builtin);
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  std::vector<StepResult> results;
  for (const int n : {1, 2, 3}) {
    const Threads threads(n);
    results.push_back(run_step(model, {batch_of(sequences)}, context_of(sequences)));
  }
  gemm_use(GemmBackend::fastest);
  for (size_t i = 1; i < results.size(); ++i) {
    EXPECT_EQ(results[i].loss, results[0].loss);
    EXPECT_TRUE(same_bits(results[i].gradients, results[0].gradients));
  }
}

// bf16 has 8 significant bits, f16 11. The loss is a mean over many rows, so that errors of single
// activations average out.
TEST(BertModel, SixteenBitTypesComeCloseToF32) {
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  StepContext context = context_of(sequences);
  const StepResult expected = run_step(small_model(), {batch_of(sequences)}, context);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    BertForPreTraining model(small_config(), ModelUse::training, {}, {.dtype = dtype});
    model.initialize(7);
    context.recompute = Recompute::none;
    const StepResult got = run_step(model, {batch_of(sequences, {189, 7, 60})}, context);
    EXPECT_NEAR(got.loss, expected.loss, 0.02 * expected.loss) << name_of(dtype);
    for (const float g : got.gradients.span<float>()) ASSERT_TRUE(std::isfinite(g));
    context.recompute = Recompute::layer;
    const StepResult again = run_step(model, {batch_of(sequences, {189, 7, 60})}, context);
    EXPECT_TRUE(same_bits(again.gradients, got.gradients)) << name_of(dtype);
    const NoGrad guard;
    const DeviceBatch batch = on_device(batch_of(sequences));
    EXPECT_EQ(model.mlm_logits(model.encode(batch, {}), tensor_of({0})).dtype(), DType::f32);
  }
}

// Were a single mask bit to follow the place in the batch, the difference would be of order one.
TEST(BertModel, PackingDoesNotChangeDropout) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  const StepContext context = context_of(sequences);
  const StepResult expected = run_step(model, {batch_of(sequences)}, context);
  const std::vector<Sequence> reversed(sequences.rbegin(), sequences.rend());
  const StepResult got = run_step(model, {batch_of(reversed)}, context);
  EXPECT_NEAR(got.loss, expected.loss, Tolerance::reduction * expected.loss);
  EXPECT_TRUE(near("gradients", got.gradients, expected.gradients, Tolerance::gradient));

  const NoGrad guard;
  const Tensor hidden = model.encode(on_device(batch_of(sequences)), context).value();
  const Tensor alone = model.encode(on_device(batch_of({sequences[2]})), context).value();
  EXPECT_TRUE(near("sequence 2", alone, hidden.rows(34, 64), Tolerance::reduction));
}

TEST(BertModel, MicroBatchesAddUpToTheBatch) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  const StepContext context = context_of(sequences);
  const StepResult expected = run_step(model, {batch_of(sequences)}, context);
  std::vector<PackedBatch> micro_batches;
  for (const Sequence& s : sequences) micro_batches.push_back(batch_of({s}));
  const StepResult got = run_step(model, micro_batches, context);
  EXPECT_NEAR(got.loss, expected.loss, Tolerance::reduction * expected.loss);
  EXPECT_TRUE(near("gradients", got.gradients, expected.gradients, Tolerance::gradient));
}

TEST(BertModel, DropoutFollowsSeedStepAndMode) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences({20, 9});
  const PackedBatch batch = batch_of(sequences);
  const NoGrad guard;
  const auto encode = [&](const StepContext& context) {
    return model.encode(on_device(batch), context).value();
  };
  const StepContext training = context_of(sequences);
  StepContext other_seed = training, other_step = training, evaluation = training;
  other_seed.seed += 1;
  other_step.data_step = testing::data_step(4);
  evaluation.training = false;
  const Tensor expected = encode(training);
  EXPECT_TRUE(same_bits(encode(training), expected));
  EXPECT_FALSE(same_bits(encode(other_seed), expected));
  EXPECT_FALSE(same_bits(encode(other_step), expected));
  StepContext late_evaluation = evaluation;
  late_evaluation.data_step = testing::data_step(8);
  EXPECT_TRUE(same_bits(encode(evaluation), encode(late_evaluation)));
}

TEST(BertModel, PaddingOfTheVocabularyGetsNoGradient) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences(kLengths);
  run_step(model, {batch_of(sequences)}, context_of(sequences));
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
  const PackedBatch batch = batch_of(sequences);
  StepContext context = context_of(sequences);
  context.training = false;
  const NoGrad guard;
  const Variable hidden = model.encode(on_device(batch), context);
  std::vector<int32_t> every(static_cast<size_t>(batch.tokens()));
  std::iota(every.begin(), every.end(), 0);
  const Tensor all = model.mlm_logits(hidden, tensor_of(every));
  const std::vector<int32_t> rows = masked_rows(batch);
  const Tensor masked = model.mlm_logits(hidden, tensor_of(rows));
  ASSERT_EQ(masked.shape(), (Shape{batch.masked_rows(), 131}));
  double loss_sum = 0;
  for (int64_t p = 0; p < batch.masked_rows(); ++p) {
    const Tensor row = all.rows(rows[static_cast<size_t>(p)], 1);
    EXPECT_TRUE(near("row", masked.rows(p, 1), row, Tolerance::reduction));
    double denominator = 0;
    for (const float x : row.span<float>()) denominator += std::exp(static_cast<double>(x));
    loss_sum += std::log(denominator) - row.data<float>()[batch.mlm_label.data<int32_t>()[p]];
  }
  const LossMeter meter;
  context.mlm = meter.site();
  model.forward(on_device(batch), context);
  EXPECT_NEAR(meter.counts().loss_sum, loss_sum, Tolerance::model * loss_sum);
}

TEST(BertModel, NoMaskedRowsAndNoSequencesGiveNoLoss) {
  const BertForPreTraining model = small_model();
  std::vector<Sequence> sequences = random_sequences({5, 3});
  for (Sequence& s : sequences) s.masked.clear();
  StepContext context{
      .training = true, .seed = 1, .data_step = nullptr, .mlm = testing::loss_site(1)};
  for (const PackedBatch& batch : {batch_of(sequences), batch_of({})}) {
    const StepResult got = run_step(model, {batch}, context);
    EXPECT_EQ(got.loss, 0.0);
    for (const float g : got.gradients.span<float>()) ASSERT_EQ(g, 0.0f);
  }
  context.nsp = testing::loss_site(1);
  EXPECT_EQ(run_step(model, {batch_of({})}, context).loss, 0.0);
}

TEST(BertModel, WithoutNspItsPartsGetNoGradient) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences({12, 30});
  StepContext context = context_of(sequences);
  context.nsp = {};
  model.arena().gradients().fill_zero();
  std::fill_n(model.arena().gradients().data<float>(), 10, 5.0f);  // stale values are overwritten
  run_step(model, {batch_of(sequences, {}, /* nsp= */ false)}, context);
  for (const char* name : {"bert.pooler.dense.weight", "cls.seq_relationship.bias"}) {
    const int number = model.arena().table().find(name);
    for (const float g : model.arena().gradient(number).span<float>()) ASSERT_EQ(g, 0.0f) << name;
  }
}

// Values are pack()'s to check; the model only compares what they were checked for.
TEST(BertModel, RefusesBatchesPackedForAnotherModel) {
  const BertForPreTraining model = small_model();
  const std::vector<Sequence> sequences = random_sequences({6, 4});
  const StepContext context = context_of(sequences);
  const auto refusal = [&](const PackedBatch& batch) -> std::string {
    try {
      model.forward(on_device(batch), context);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "(accepted)";
  };
  EXPECT_EQ(refusal(batch_of(sequences)), "(accepted)");
  const std::vector<int32_t> ids = {1, 2, 3};
  const std::vector<SequenceToPack> one = {{.ids = ids, .first_segment = 3, .nsp_label = 0}};
  EXPECT_EQ(refusal(pack(one, {100, 3, 1}, /* nsp= */ true)), "(accepted)");
  for (const BatchLimits& wider : {BatchLimits{132, 64, 2}, {131, 65, 2}, {131, 64, 3}})
    EXPECT_NE(refusal(pack(one, wider, true)).find("expected at most the model's 131, 64 and 2"),
              std::string::npos);
  EXPECT_NE(refusal(batch_of(sequences, {}, /* nsp= */ false)).find("no next-sentence labels"),
            std::string::npos);
}

TEST(BertModel, PartsThatAreNotThereAreNamed) {
  BertForPreTraining model(small_config(), ModelUse::inference,
                           {.pooler = false, .mlm_head = false, .nsp_head = false});
  EXPECT_EQ(model.arena().table().find("bert.pooler.dense.weight"), -1);
  EXPECT_EQ(model.arena().table().find("cls.predictions.bias"), -1);
  EXPECT_FALSE(model.arena().gradients().defined());
  model.initialize(1);
  const DeviceBatch batch = on_device(batch_of(random_sequences({4})));
  const NoGrad guard;
  const Variable hidden = model.encode(batch, {});
  EXPECT_THROW(model.pooled(hidden, batch), UsageError);
  EXPECT_THROW(model.nsp_logits(hidden, batch), UsageError);
  EXPECT_THROW(model.mlm_logits(hidden, tensor_of({0})), UsageError);
  EXPECT_THROW(model.forward(batch, {}), UsageError);
}

}  // namespace
}  // namespace minibert
