// bert.cpp: the tree of modules, and the path of a batch through it.
#include "models/bert/bert.h"

#include <algorithm>

#include "core/kernels/copy.h"
#include "core/range.h"
#include "nn/init.h"

namespace minibert {

// ---- The tree: member paths are Hugging Face's parameter names ---------------------------------

namespace {

struct Embeddings {
  Embedding word_embeddings, position_embeddings, token_type_embeddings;
  LayerNorm layer_norm;

  void parameters(ParameterWalk& walk) {
    walk.child("word_embeddings", word_embeddings);
    walk.child("position_embeddings", position_embeddings);
    walk.child("token_type_embeddings", token_type_embeddings);
    walk.child("LayerNorm", layer_norm);
  }
};

struct Encoder {
  std::vector<EncoderLayer> layer;

  void parameters(ParameterWalk& walk) {
    for (size_t i = 0; i < layer.size(); ++i) walk.child(fmt::format("layer.{}", i), layer[i]);
  }
};

struct Pooler {
  Linear dense;

  void parameters(ParameterWalk& walk) { walk.child("dense", dense); }
};

struct Bert {
  Embeddings embeddings;
  Encoder encoder;
  std::optional<Pooler> pooler;

  void parameters(ParameterWalk& walk) {
    walk.child("embeddings", embeddings);
    walk.child("encoder", encoder);
    if (pooler) walk.child("pooler", *pooler);
  }
};

struct Transform {
  Linear dense;
  LayerNorm layer_norm;

  void parameters(ParameterWalk& walk) {
    walk.child("dense", dense);
    walk.child("LayerNorm", layer_norm);
  }
};

/// The masked-token head. Its decoder's weight is the word embeddings, unless they are untied.
struct Predictions {
  int64_t vocab_size = 0, storage_rows = 0;
  Transform transform;
  std::optional<Embedding> decoder;  // [V, H], as word embeddings are stored
  Variable bias;                     // [V]

  void parameters(ParameterWalk& walk) {
    walk.child("transform", transform);
    if (decoder) walk.child("decoder", *decoder);
    walk.parameter("bias", bias, {vocab_size}, Initializer::zeros, storage_rows);
  }
};

struct Heads {
  std::optional<Predictions> predictions;
  std::optional<Linear> seq_relationship;

  void parameters(ParameterWalk& walk) {
    if (predictions) walk.child("predictions", *predictions);
    if (seq_relationship) walk.child("seq_relationship", *seq_relationship);
  }
};

}  // namespace

struct BertForPreTraining::Modules {
  Bert bert;
  Heads cls;
  std::optional<Linear> qa_outputs, classifier;

  Modules(const BertConfig& c, const BertParts& parts);
  void parameters(ParameterWalk& walk) {
    walk.child("bert", bert);
    walk.child("cls", cls);
    if (qa_outputs) walk.child("qa_outputs", *qa_outputs);
    if (classifier) walk.child("classifier", *classifier);
  }
};

BertForPreTraining::Modules::Modules(const BertConfig& c, const BertParts& parts) {
  const int64_t H = c.hidden_size;
  const LayerNorm norm{H, c.layer_norm_eps, {}, {}};
  const Linear square{H, H, {}, {}};
  bert.embeddings = {{c.vocab_size, H, c.padded_vocab_size(), {}},
                     {c.max_position_embeddings, H, 0, {}},
                     {c.type_vocab_size, H, 0, {}},
                     norm};
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    bert.encoder.layer.emplace_back(H, c.intermediate_size, static_cast<int>(c.num_attention_heads),
                                    c.layer_norm_eps, c.gelu());
  }
  if (parts.pooler) bert.pooler = Pooler{square};
  if (parts.mlm_head) {
    cls.predictions = Predictions{c.vocab_size, c.padded_vocab_size(), {square, norm}, {}, {}};
    if (!c.tie_word_embeddings)
      cls.predictions->decoder = Embedding{c.vocab_size, H, c.padded_vocab_size(), {}};
  }
  if (parts.nsp_head) cls.seq_relationship = Linear{H, 2, {}, {}};
  if (parts.span_head) qa_outputs = Linear{H, 2, {}, {}};
  if (parts.classes > 0) classifier = Linear{H, parts.classes, {}, {}};
}

BertParts parts_for(Objective objective, int64_t classes) {
  MB_ASSERT(objective != Objective::pre_training, "bert: pre-training has more than one head");
  const bool spans = objective == Objective::question_answering;
  return {.pooler = !spans,
          .mlm_head = false,
          .nsp_head = false,
          .span_head = spans,
          .classes = spans ? 0 : classes};
}

ParameterTable bert_parameters(const BertConfig& config, const BertParts& parts) {
  ParameterTable table;
  std::vector<Initializer> initializers;
  ParameterWalk declare(table, initializers);
  BertForPreTraining::Modules(config, parts).parameters(declare);
  return table;
}

BertForPreTraining::BertForPreTraining(BertConfig config, ModelUse use, BertParts parts,
                                       ComputeOptions compute)
    : config_(std::move(config)), parts_(parts) {
  config_.validate("model");
  modules_ = std::make_unique<Modules>(config_, parts_);
  ParameterTable table;
  ParameterWalk declare(table, initializers_);
  modules_->parameters(declare);
  arena_ = std::make_unique<Arena>(std::move(table), compute.dtype, compute.device);
  if (use == ModelUse::training) arena_->with_gradients();
  ParameterWalk bind(*arena_, leaves_);
  modules_->parameters(bind);
}

BertForPreTraining::BertForPreTraining(BertForPreTraining&&) noexcept = default;
BertForPreTraining& BertForPreTraining::operator=(BertForPreTraining&&) noexcept = default;
BertForPreTraining::~BertForPreTraining() = default;

void BertForPreTraining::initialize(uint64_t seed, PositionInitializer positions) {
  initialize_parameters(*arena_, initializers_, config_.initializer_range, seed);
  if (positions == PositionInitializer::normal) return;
  const int number = arena_->table().find("bert.embeddings.position_embeddings.weight");
  arena_->write(number, sinusoidal(arena_->table()[number].shape, config_.initializer_range));
  arena_->refresh();
}

BatchLimits BertForPreTraining::limits() const {
  return {config_.vocab_size, config_.max_position_embeddings, config_.type_vocab_size,
          std::max<int64_t>(2, parts_.classes)};
}

// ---- The way of a batch ------------------------------------------------------------------------

namespace {

void check_limits(const DeviceBatch& batch, const BatchLimits& model) {
  const BatchLimits& limits = batch.sizes.limits;
  MB_CHECK(model.include(limits),
           "bert: batch was packed for a vocabulary of {}, {} positions and {} segments, expected "
           "at most the model's {}, {} and {}. Data and model do not belong together",
           limits.vocab_size, limits.max_positions, limits.segments, model.vocab_size,
           model.max_positions, model.segments);
}

/// p where dropout is on.
float active(float p, const StepContext& context) {
  return context.training ? p : 0.0f;
}

}  // namespace

Variable BertForPreTraining::encode(const DeviceBatch& batch, const StepContext& context) const {
  return encode_rows(batch, context, /* last= */ {});
}

/// Final hidden states of the rows `last`, or of all if there are none.
Variable BertForPreTraining::encode_rows(const DeviceBatch& batch, const StepContext& context,
                                         const PickedRows& last) const {
  check_limits(batch, limits());
  const RowPlaces places{batch.position, batch.row_sample};
  const Sequences sequences{
      batch.cu_seqlens, batch.sample, {batch.sizes.tokens, batch.sizes.squared_lengths}};
  const auto site = [&](float p, int64_t layer, DropoutPurpose purpose) {
    return make_dropout(active(p, context), context.seed, context.data_step,
                        static_cast<int>(layer), purpose);
  };

  const Embeddings& embeddings = modules_->bert.embeddings;
  Variable x = embedding({embeddings.word_embeddings.weight, embeddings.position_embeddings.weight,
                          embeddings.token_type_embeddings.weight},
                         {batch.ids, batch.position, batch.segment},
                         {batch.ids_groups, batch.position_groups, batch.segment_groups});
  x = embeddings.layer_norm(x);  // [N, H]
  const float hidden_p = config_.hidden_dropout_prob;
  if (active(hidden_p, context) > 0)
    x = dropout(x, places, site(hidden_p, 0, DropoutPurpose::embedding));

  const std::vector<EncoderLayer>& layers = modules_->bert.encoder.layer;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto number = static_cast<int64_t>(i);
    const Range named(fmt::format("layer {}", i).c_str());
    const LayerDropout sites{
        site(config_.attention_probs_dropout_prob, number, DropoutPurpose::attention),
        site(hidden_p, number, DropoutPurpose::attention_output),
        site(hidden_p, number, DropoutPurpose::feed_forward)};
    const PickedRows rows = i + 1 == layers.size() ? last : PickedRows{};
    const auto run = [&layer = layers[i], sequences, places, sites,
                      rows](const std::vector<Variable>& in) {
      return layer(in[0], sequences, places, sites, rows);
    };
    x = context.recompute == Recompute::layer ? recompute(run, {x}) : run({x});
  }
  return x;
}

Variable BertForPreTraining::pool(const Variable& hidden, const Tensor& row) const {
  MB_CHECK(parts_.pooler, "bert: the model has no pooler, which next-sentence prediction needs");
  const Linear& dense = modules_->bert.pooler->dense;
  return linear_tanh(gather_rows(hidden, row), dense.weight, dense.bias);  // [B', H]
}

Variable BertForPreTraining::score_pairs(const Variable& pooled) const {
  MB_CHECK(parts_.nsp_head, "bert: the model has no next-sentence head (cls.seq_relationship)");
  return (*modules_->cls.seq_relationship)(pooled);
}

Variable BertForPreTraining::mlm_transform(const Variable& hidden, const Tensor& row) const {
  MB_CHECK(parts_.mlm_head, "bert: the model has no masked-token head (cls.predictions)");
  const Transform& transform = modules_->cls.predictions->transform;
  const Variable masked = gather_rows(hidden, row);  // [P', H]
  return transform.layer_norm(
      linear_gelu(masked, transform.dense.weight, transform.dense.bias, config_.gelu()));
}

const Variable& BertForPreTraining::decoder_weight() const {
  const Predictions& head = *modules_->cls.predictions;
  return head.decoder ? head.decoder->weight : modules_->bert.embeddings.word_embeddings.weight;
}

Variable BertForPreTraining::score_spans(const Variable& hidden) const {
  MB_CHECK(parts_.span_head,
           "bert: the model has no head for question answering (qa_outputs). Make one with "
           "minibert finetune squad --init-from");
  return (*modules_->qa_outputs)(hidden);
}

Variable BertForPreTraining::score_classes(const Variable& pooled) const {
  MB_CHECK(parts_.classes > 0,
           "bert: the model has no head for classification (classifier). Make one with minibert "
           "finetune classify --init-from");
  return (*modules_->classifier)(pooled);
}

PreTrainingOutput BertForPreTraining::answer_loss(const DeviceBatch& batch,
                                                  const StepContext& context) const {
  MB_CHECK(batch.sizes.spans, "bert: the batch has no answers, expected some (pack with spans)");
  const Variable scores = score_spans(encode_rows(batch, context, /* last= */ {}));  // [N, 2]
  return {span_loss(scores, {batch.span_source, batch.span_place, batch.span_label}, context.mlm)};
}

PreTrainingOutput BertForPreTraining::class_loss(const DeviceBatch& batch,
                                                 const StepContext& context) const {
  MB_CHECK(batch.sizes.nsp, "bert: the batch has no labels, expected one a sequence");
  const RowPlaces places{batch.head_position, batch.head_row_sample};
  const Variable hidden = encode_rows(batch, context, {batch.head_row, places});  // [B', H]
  Variable pooled = pool(hidden, batch.nsp_index);
  const float p = active(config_.hidden_dropout_prob, context);
  if (p > 0)
    pooled = dropout(
        pooled, places,
        make_dropout(p, context.seed, context.data_step, /* layer= */ 0, DropoutPurpose::pooled));
  return {cross_entropy(score_classes(pooled), batch.nsp_label, context.mlm)};
}

PreTrainingOutput BertForPreTraining::forward(const DeviceBatch& batch,
                                              const StepContext& context) const {
  if (context.objective == Objective::question_answering) return answer_loss(batch, context);
  if (context.objective == Objective::classification) return class_loss(batch, context);
  PreTrainingOutput output;
  const bool nsp = context.nsp.scale != nullptr;
  MB_CHECK(!nsp || batch.sizes.nsp,
           "bert: the batch has no next-sentence labels, but the step has a scale for them. Leave "
           "it out, or build the data with NSP");
  const Variable hidden = encode_rows(
      batch, context, {batch.head_row, {batch.head_position, batch.head_row_sample}});  // [R, H]
  const Variable states = mlm_transform(hidden, batch.mlm_index);
  output.loss = masked_lm_loss(states, decoder_weight(), modules_->cls.predictions->bias,
                               batch.mlm_label, config_.vocab_size, context.mlm);
  if (!nsp) return output;
  const Variable scores = score_pairs(pool(hidden, batch.nsp_index));  // [B', 2]
  output.loss = add(output.loss, cross_entropy(scores, batch.nsp_label, context.nsp));
  return output;
}

// ---- Inference ---------------------------------------------------------------------------------

Tensor on_host(const Tensor& values) {
  const Tensor wide = values.dtype() == DType::f32 ? values : values.to(DType::f32);
  return wide.device() == Device::cpu ? wide : wide.host_copy(MemoryCategory::activations);
}

Tensor BertForPreTraining::pooled(const Variable& hidden, const DeviceBatch& batch) const {
  const NoGrad guard;
  return on_host(pool(hidden, batch.first_row).value());
}

Tensor BertForPreTraining::nsp_logits(const Variable& hidden, const DeviceBatch& batch) const {
  const NoGrad guard;
  return on_host(score_pairs(pool(hidden, batch.first_row)).value());
}

Tensor BertForPreTraining::span_scores(const Variable& hidden) const {
  const NoGrad guard;
  return on_host(score_spans(hidden).value());
}

Tensor BertForPreTraining::class_scores(const Variable& hidden, const DeviceBatch& batch) const {
  const NoGrad guard;
  return on_host(score_classes(pool(hidden, batch.first_row)).value());
}

Tensor BertForPreTraining::mlm_logits(const Variable& hidden, const Tensor& row) const {
  const NoGrad guard;
  const int64_t N = hidden.shape()[0];
  for (const int32_t r : row.span<int32_t>())
    MB_CHECK(r >= 0 && r < N, "bert: masked row is {}, expected 0 to {}", r, N - 1);
  const Tensor there = Tensor::empty(row.shape(), DType::i32, MemoryCategory::workspace, device());
  copy_to_device(row.raw(), there);
  const Variable states = mlm_transform(hidden, there);
  const Variable padded =
      linear(states, decoder_weight(), modules_->cls.predictions->bias);  // [P, V rounded up]
  const Tensor scores = on_host(padded.value());
  const int64_t P = row.numel(), V = config_.vocab_size, stored = config_.padded_vocab_size();
  Tensor logits = Tensor::empty({P, V});
  for (int64_t p = 0; p < P; ++p)
    std::copy_n(scores.data<float>() + p * stored, V, logits.data<float>() + p * V);
  return logits;
}

}  // namespace minibert
