// bert.h: BERT, exactly Google's: embeddings, post-LayerNorm encoder, pooler, and the heads of
// pre-training, question answering and classification, on packed batches in the device's memory.
// Called by models/training (forward, backward through the returned loss), eval, and
// models/bert/inference.h. All parameters lie in one arena, with the names of Transformers' classes
// (architecture_of). Easy to break: the masked-token head runs on masked rows only; its decoder is the
// word embeddings themselves (unless config.json unties them); vocabulary rows beyond vocab_size are
// padding that stays zero; and the tail rows of a batch flow through, too, with gradients that are
// exactly 0, because attention gives zeros there and labels are -1.
// Source: google-research/bert modeling.py, run_pretraining.py, run_squad.py, run_classifier.py.
// Test: ctest -R models_bert.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/precision.h"
#include "models/bert/config.h"
#include "models/text/packed_batch.h"
#include "nn/modules.h"

namespace minibert {

/// Whether activations inside encoder layers are kept for backward, or computed again there: a second
/// forward pass of each layer, for a fraction of the memory and with the same bits.
enum class Recompute { none, layer };

/// What a model is trained for: which heads give the loss.
enum class Objective {
  pre_training,        // masked tokens and, where the step has a scale for it, sentence pairs
  question_answering,  // the answer's first and last token: two rows a sequence
  classification,      // a label: one row a sequence
};

/// What one forward pass has to know besides the batch.
struct StepContext {
  bool training = false;                // dropout on
  uint64_t seed = 0;                    // of dropout
  const uint32_t* data_step = nullptr;  // of dropout, in the device's memory; null: step 0
  /// Scale of the sum over masked rows: loss scale / P of the whole step. Of the other objectives,
  /// over the rows that they have.
  LossSite mlm;
  /// Scale of the sum over sequences: loss scale / B of the whole step; none: no NSP.
  LossSite nsp = {};
  Recompute recompute = Recompute::none;
  Objective objective = Objective::pre_training;
};

struct PreTrainingOutput {
  Variable loss;  // scalar: scaled sum of MLM losses + scaled sum of NSP losses; or the objective's
};

/// How position embeddings start; they are trained either way.
enum class PositionInitializer { normal, sinusoidal };

/// Which parts stand on the encoder. Files of other architectures lack some (MiniLM: all heads).
struct BertParts {
  bool pooler = true;
  bool mlm_head = true;
  bool nsp_head = true;
  bool span_head = false;  // question answering: qa_outputs
  int64_t classes = 0;     // classification: rows of `classifier`; 0: none
  bool operator==(const BertParts&) const = default;
};

/// The encoder with just the head that an objective other than pre-training needs.
BertParts parts_for(Objective objective, int64_t classes = 0);

/// The parameters of a BERT, without memory for them.
ParameterTable bert_parameters(const BertConfig& config, const BertParts& parts = {});

/// Not copyable (the leaves are bound to the arena), movable.
class BertForPreTraining {
 public:
  /// Weights are zero until initialize() or a file fills them. ModelUse::inference leaves the
  /// gradients out. Errors: DataError for a configuration that cannot be.
  explicit BertForPreTraining(BertConfig config, ModelUse use = ModelUse::training,
                              BertParts parts = {}, ComputeOptions compute = {});
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

  /// What pack() holds the values of a batch to.
  BatchLimits limits() const;
  Device device() const { return arena_->device(); }

  /// Loss of a micro-batch. P = 0 and B = 0 give a loss of 0. After attention, the last layer
  /// computes only the rows that the heads read: of pre-training about one sixth.
  /// Errors: UsageError for a batch packed with wider limits, without NSP where the step has a scale
  /// for it, without the objective's labels, or for heads that the model lacks. Does not check the
  /// values of the batch: pack() did.
  PreTrainingOutput forward(const DeviceBatch& batch, const StepContext& context) const;
  /// Final hidden states of all rows, [N, H] in E; what stands in tail rows means nothing.
  Variable encode(const DeviceBatch& batch, const StepContext& context) const;

  // ---- For inference: results in f32, on the host; `hidden` is encode()'s ----------------------
  /// tanh(W h + b) of each sequence's first row, [B', H]; of an empty sequence, of zeros.
  Tensor pooled(const Variable& hidden, const DeviceBatch& batch) const;
  /// Scores of next-sentence prediction, [B', 2] (0: is next).
  Tensor nsp_logits(const Variable& hidden, const DeviceBatch& batch) const;
  /// Scores of being the answer's first and last token, [N, 2].
  Tensor span_scores(const Variable& hidden) const;
  /// Scores of the classes, [B', classes].
  Tensor class_scores(const Variable& hidden, const DeviceBatch& batch) const;
  /// Scores over the vocabulary of the given rows.  row [P] i32, on the host; result [P, V], the
  /// padding cut off. Errors: UsageError for a row outside hidden.
  Tensor mlm_logits(const Variable& hidden, const Tensor& row) const;

 private:
  friend ParameterTable bert_parameters(const BertConfig& config, const BertParts& parts);
  struct Modules;

  Variable encode_rows(const DeviceBatch& batch, const StepContext& context,
                       const PickedRows& last) const;
  Variable pool(const Variable& hidden, const Tensor& row) const;
  Variable score_pairs(const Variable& pooled) const;
  Variable score_spans(const Variable& hidden) const;
  Variable score_classes(const Variable& pooled) const;
  PreTrainingOutput answer_loss(const DeviceBatch& batch, const StepContext& context) const;
  PreTrainingOutput class_loss(const DeviceBatch& batch, const StepContext& context) const;
  Variable mlm_transform(const Variable& hidden, const Tensor& row) const;
  const Variable& decoder_weight() const;  // [V rounded up, H]

  BertConfig config_;
  BertParts parts_;
  std::unique_ptr<Modules> modules_;
  std::vector<Initializer> initializers_;
  std::unique_ptr<Arena> arena_;
  std::vector<Variable> leaves_;
};

/// A result's values in f32, on the host.
Tensor on_host(const Tensor& values);

}  // namespace minibert
