// bert.h: BERT for pre-training, exactly Google's: embeddings, post-LayerNorm encoder, pooler, and
// the two heads, on packed batches. Called by models/training (forward, backward through the
// returned loss), eval, and models/bert/inference.h. All parameters lie in one arena; names are
// Transformers' BertForPreTraining's. Easy to break: the masked-token head runs on masked rows
// only, its decoder is the word embeddings themselves, and vocabulary rows beyond vocab_size are
// padding that stays zero. Source: google-research/bert modeling.py, run_pretraining.py.
// Test: ctest -R models_bert.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "models/bert/config.h"
#include "models/text/packed_batch.h"
#include "nn/modules.h"

namespace minibert {

/// What one forward pass has to know beside the batch.
struct StepContext {
  bool training = false;   // dropout on
  uint64_t seed = 0;       // of dropout
  uint32_t data_step = 0;  // of dropout
  float mlm_scale = 1.0f;  // on the sum over masked rows: loss scale / P of the whole step
  float nsp_scale = 0.0f;  // on the sum over sequences: loss scale / B of the whole step; 0: no NSP
};

struct PreTrainingOutput {
  Variable loss;            // scalar: mlm_scale * sum of MLM losses + nsp_scale * sum of NSP losses
  LossStatistics mlm, nsp;  // unscaled sums; nsp is empty without NSP
};

/// How position embeddings start; they are trained either way.
enum class PositionInitializer { normal, sinusoidal };

/// Which parts stand on the encoder. Files of other architectures lack some (MiniLM: all heads).
struct BertParts {
  bool pooler = true;
  bool mlm_head = true;
  bool nsp_head = true;
  bool operator==(const BertParts&) const = default;
};

/// The parameters of a BERT, without memory for them.
ParameterTable bert_parameters(const BertConfig& config, const BertParts& parts = {});

/// Not copyable (the leaves are bound to the arena), movable.
class BertForPreTraining {
 public:
  /// Weights are zero until initialize() or a file fills them. ModelUse::inference leaves the
  /// gradients out. Errors: DataError for a configuration that cannot be.
  explicit BertForPreTraining(BertConfig config, ModelUse use = ModelUse::training,
                              BertParts parts = {});
  BertForPreTraining(BertForPreTraining&&) noexcept;
  BertForPreTraining& operator=(BertForPreTraining&&) noexcept;
  ~BertForPreTraining();

  const BertConfig& config() const { return config_; }
  const BertParts& parts() const { return parts_; }
  Arena& arena() { return *arena_; }
  const Arena& arena() const { return *arena_; }
  /// One for each tensor that gets a gradient of its own: query, key and value are one leaf.
  const std::vector<Variable>& leaves() const { return leaves_; }
  /// Google's: truncated normal of initializer_range, biases 0, LayerNorm 1 and 0. With
  /// `sinusoidal`, position embeddings start as sines and cosines instead (nn/init.h).
  void initialize(uint64_t seed, PositionInitializer positions = PositionInitializer::normal);

  /// Loss of a micro-batch. P = 0 and B = 0 give a loss of 0. Tail rows are never looked at. Behind
  /// its attention the last layer makes the rows that the heads read, no others: a sixth of them.
  /// Errors: DataError for an id, segment or label out of range; UsageError for sequences longer
  /// than max_position_embeddings, empty sequences under NSP, rows that disagree, missing heads.
  PreTrainingOutput forward(const PackedBatch& batch, const StepContext& context) const;
  /// Final hidden states of the T real rows, [T, H].
  Variable encode(const PackedBatch& batch, const StepContext& context) const;
  /// tanh(W h + b) of each sequence's first row.  hidden [T, H] from encode(); result [B, H].
  Variable pooled(const Variable& hidden, const PackedBatch& batch) const;
  /// Scores of next-sentence prediction, [B, 2] (0: is next).
  Variable nsp_logits(const Variable& pooled) const;
  /// Scores over the vocabulary of the given rows.  hidden [T, H]; row [P] i32; result [P, V], the
  /// padding cut off.
  Tensor mlm_logits(const Variable& hidden, const Tensor& row) const;

 private:
  friend ParameterTable bert_parameters(const BertConfig& config, const BertParts& parts);
  struct Modules;

  Variable encode_rows(const PackedBatch& batch, const StepContext& context,
                       const Tensor& rows) const;
  Variable pool(const Variable& hidden, const Tensor& row) const;
  Variable mlm_transform(const Variable& hidden, const Tensor& row) const;

  BertConfig config_;
  BertParts parts_;
  std::unique_ptr<Modules> modules_;
  std::vector<Initializer> initializers_;
  std::unique_ptr<Arena> arena_;
  std::vector<Variable> leaves_;
};

}  // namespace minibert
