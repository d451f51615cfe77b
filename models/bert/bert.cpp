// bert.cpp: the tree of modules, and the way of a batch through it.
#include "models/bert/bert.h"

#include <algorithm>
#include <numeric>

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

/// The masked-token head. Its decoder's weight is the word embeddings; only the bias is its own.
struct Predictions {
  int64_t vocab_size = 0, storage_rows = 0;
  Transform transform;
  Variable bias;  // [V]

  void parameters(ParameterWalk& walk) {
    walk.child("transform", transform);
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

  Modules(const BertConfig& c, const BertParts& parts);
  void parameters(ParameterWalk& walk) {
    walk.child("bert", bert);
    walk.child("cls", cls);
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
    cls.predictions = Predictions{c.vocab_size, c.padded_vocab_size(), {square, norm}, {}};
  }
  if (parts.nsp_head) cls.seq_relationship = Linear{H, 2, {}, {}};
}

ParameterTable bert_parameters(const BertConfig& config, const BertParts& parts) {
  ParameterTable table;
  std::vector<Initializer> initializers;
  ParameterWalk declare(table, initializers);
  BertForPreTraining::Modules(config, parts).parameters(declare);
  return table;
}

BertForPreTraining::BertForPreTraining(BertConfig config, ModelUse use, BertParts parts)
    : config_(std::move(config)), parts_(parts) {
  config_.validate("model");
  modules_ = std::make_unique<Modules>(config_, parts_);
  ParameterTable table;
  ParameterWalk declare(table, initializers_);
  modules_->parameters(declare);
  arena_ = std::make_unique<Arena>(std::move(table));
  if (use == ModelUse::training) arena_->with_gradients();
  ParameterWalk bind(*arena_, leaves_);
  modules_->parameters(bind);
}

BertForPreTraining::BertForPreTraining(BertForPreTraining&&) noexcept = default;
BertForPreTraining& BertForPreTraining::operator=(BertForPreTraining&&) noexcept = default;
BertForPreTraining::~BertForPreTraining() = default;

void BertForPreTraining::initialize(uint64_t seed, PositionInitializer positions) {
  initialize_parameters(*arena_, initializers_, config_.initializer_range, seed);
  if (positions == PositionInitializer::sinusoidal)
    fill_sinusoidal(modules_->bert.embeddings.position_embeddings.weight.value(),
                    config_.initializer_range);
}

// ---- What a batch must be ----------------------------------------------------------------------

namespace {

void check_batch(const PackedBatch& batch, const BertConfig& config) {
  const int64_t N = batch.rows(), B = batch.sequences();
  MB_CHECK(B >= 0 && batch.segment.numel() == N && batch.position.numel() == N &&
               batch.row_sample.numel() == N && batch.sample.numel() == B,
           "bert: batch has {} ids, {} segments, {} positions, {} row samples and {} samples for "
           "{} sequences, expected equal rows and equal sequences",
           N, batch.segment.numel(), batch.position.numel(), batch.row_sample.numel(),
           batch.sample.numel(), B);
  const int32_t* cu_seqlens = batch.cu_seqlens.data<int32_t>();
  MB_CHECK(cu_seqlens[0] == 0 && cu_seqlens[B] <= N,
           "bert: cu_seqlens runs from {} to {}, expected 0 to at most {} rows", cu_seqlens[0],
           cu_seqlens[B], N);
  const std::span<const int32_t> ids = batch.ids.span<int32_t>();
  for (int64_t t = 0; t < cu_seqlens[B]; ++t) {
    // The embedding chapter would accept the padding rows of the vocabulary.
    MB_CHECK_AS(
        DataError,
        ids[static_cast<size_t>(t)] >= 0 && ids[static_cast<size_t>(t)] < config.vocab_size,
        "bert: id {} of the batch is {}, expected 0 to {} (vocab_size of the model). Data and "
        "model do not belong together",
        t, ids[static_cast<size_t>(t)], config.vocab_size - 1);
  }
  for (int64_t b = 0; b < B; ++b) {
    const int64_t length = cu_seqlens[b + 1] - int64_t{cu_seqlens[b]};
    MB_CHECK(length >= 0 && length <= config.max_position_embeddings,
             "bert: sequence {} has {} tokens, expected 0 to max_position_embeddings = {}", b,
             length, config.max_position_embeddings);
  }
}

void check_rows(const Tensor& row, int64_t T) {
  for (const int32_t r : row.span<int32_t>()) {
    MB_CHECK(r >= 0 && r < T, "bert: masked row is {}, expected 0 to {}", r, T - 1);
  }
}

/// Each sequence's first row, which the pooler reads: [B].
Tensor first_rows(const PackedBatch& batch) {
  const int64_t B = batch.sequences();
  const int32_t* cu_seqlens = batch.cu_seqlens.data<int32_t>();
  for (int64_t b = 0; b < B; ++b) {
    MB_CHECK(cu_seqlens[b] < cu_seqlens[b + 1],
             "bert: sequence {} has no tokens, expected at least [CLS]", b);
  }
  return batch.cu_seqlens.rows(0, B);
}

/// Rows that the heads of pre-training read: the masked ones, then (for NSP) the first ones. A row
/// may be both.
Tensor rows_that_heads_read(const PackedBatch& batch, bool nsp) {
  check_rows(batch.mlm_row, batch.tokens());
  if (!nsp) return batch.mlm_row;
  const Tensor first = first_rows(batch);
  const int64_t P = batch.masked_rows(), B = first.numel();
  Tensor rows = Tensor::empty({P + B}, DType::i32, MemoryCategory::data);
  rows.rows(0, P).copy_from(batch.mlm_row.reshape({P}));
  rows.rows(P, B).copy_from(first);
  return rows;
}

/// first, first + 1, ...: [count] i32.
Tensor numbers(int64_t first, int64_t count) {
  Tensor result = Tensor::empty({count}, DType::i32, MemoryCategory::data);
  std::iota(result.data<int32_t>(), result.data<int32_t>() + count, static_cast<int32_t>(first));
  return result;
}

/// p where dropout is on.
float active(float p, const StepContext& context) {
  return context.training ? p : 0.0f;
}

}  // namespace

// ---- The way of a batch ------------------------------------------------------------------------

Variable BertForPreTraining::encode(const PackedBatch& batch, const StepContext& context) const {
  check_batch(batch, config_);
  return encode_rows(batch, context, /* rows= */ {});
}

/// Final hidden states of `rows`, or of all T real rows if it is undefined.
Variable BertForPreTraining::encode_rows(const PackedBatch& batch, const StepContext& context,
                                         const Tensor& rows) const {
  const int64_t T = batch.tokens();
  // Tail rows end here: views of the first T rows are free, and nothing below can see the others.
  const RowPlaces places{batch.position.rows(0, T), batch.row_sample.rows(0, T)};
  const Sequences sequences{batch.cu_seqlens, batch.sample};
  const auto site = [&](float p, int64_t layer, DropoutPurpose purpose) {
    return make_dropout(active(p, context), context.seed, context.data_step,
                        static_cast<int>(layer), purpose);
  };

  const Embeddings& embeddings = modules_->bert.embeddings;
  Variable x = embedding({embeddings.word_embeddings.weight, embeddings.position_embeddings.weight,
                          embeddings.token_type_embeddings.weight},
                         {batch.ids.rows(0, T), places.position, batch.segment.rows(0, T)});
  x = embeddings.layer_norm(x);  // [T, H]
  const float hidden_p = config_.hidden_dropout_prob;
  if (active(hidden_p, context) > 0)
    x = dropout(x, places, site(hidden_p, 0, DropoutPurpose::embedding));

  const std::vector<EncoderLayer>& layers = modules_->bert.encoder.layer;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto number = static_cast<int64_t>(i);
    x = layers[i](x, sequences, places,
                  {site(config_.attention_probs_dropout_prob, number, DropoutPurpose::attention),
                   site(hidden_p, number, DropoutPurpose::attention_output),
                   site(hidden_p, number, DropoutPurpose::feed_forward)},
                  i + 1 == layers.size() ? rows : Tensor{});
  }
  return x;
}

Variable BertForPreTraining::pooled(const Variable& hidden, const PackedBatch& batch) const {
  return pool(hidden, first_rows(batch));
}

Variable BertForPreTraining::pool(const Variable& hidden, const Tensor& row) const {
  MB_CHECK(parts_.pooler, "bert: the model has no pooler, which next-sentence prediction needs");
  const Linear& dense = modules_->bert.pooler->dense;
  return linear_tanh(gather_rows(hidden, row), dense.weight, dense.bias);  // [B, H]
}

Variable BertForPreTraining::nsp_logits(const Variable& pooled) const {
  MB_CHECK(parts_.nsp_head, "bert: the model has no next-sentence head (cls.seq_relationship)");
  return (*modules_->cls.seq_relationship)(pooled);
}

Variable BertForPreTraining::mlm_transform(const Variable& hidden, const Tensor& row) const {
  MB_CHECK(parts_.mlm_head, "bert: the model has no masked-token head (cls.predictions)");
  const Transform& transform = modules_->cls.predictions->transform;
  const Variable masked = gather_rows(hidden, row);  // [P, H]
  return transform.layer_norm(
      linear_gelu(masked, transform.dense.weight, transform.dense.bias, config_.gelu()));
}

PreTrainingOutput BertForPreTraining::forward(const PackedBatch& batch,
                                              const StepContext& context) const {
  PreTrainingOutput output;
  const bool nsp = context.nsp_scale != 0;
  const int64_t P = batch.masked_rows();
  check_batch(batch, config_);
  const Variable hidden =
      encode_rows(batch, context, rows_that_heads_read(batch, nsp));  // [P+B, H]
  output.loss = masked_lm_loss(mlm_transform(hidden, numbers(0, P)),
                               modules_->bert.embeddings.word_embeddings.weight,
                               modules_->cls.predictions->bias, batch.mlm_label, config_.vocab_size,
                               context.mlm_scale, &output.mlm);
  if (!nsp) return output;
  MB_CHECK(
      batch.nsp_label.defined() && batch.nsp_label.numel() == batch.sequences(),
      "bert: the batch has no next-sentence labels, but nsp_scale is {}. Set it to 0, or build "
      "the data with NSP",
      context.nsp_scale);
  const Variable scores = nsp_logits(pool(hidden, numbers(P, batch.sequences())));  // [B, 2]
  output.loss =
      add(output.loss, cross_entropy(scores, batch.nsp_label, context.nsp_scale, &output.nsp));
  return output;
}

Tensor BertForPreTraining::mlm_logits(const Variable& hidden, const Tensor& row) const {
  const NoGrad guard;
  check_rows(row, hidden.shape()[0]);
  const Variable padded =
      linear(mlm_transform(hidden, row), modules_->bert.embeddings.word_embeddings.weight,
             modules_->cls.predictions->bias);  // [P, V rounded up]
  const int64_t P = row.numel(), V = config_.vocab_size, stored = config_.padded_vocab_size();
  Tensor logits = Tensor::empty({P, V});
  for (int64_t p = 0; p < P; ++p) {
    std::copy_n(padded.value().data<float>() + p * stored, V, logits.data<float>() + p * V);
  }
  return logits;
}

}  // namespace minibert
