// run_setup.h: from a configuration to everything that a run reads: data, vocabulary, model shape,
// initial weights. Called by trainer.cpp and by `train --dry-run`, which writes nothing.
// Easy to break: model and data must agree on vocabulary, length and NSP before the first step.
// Test: ctest -R trainer.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/kernels/gemm_cuda_table.h"
#include "models/bert/bert.h"
#include "models/text/loader.h"
#include "models/training/checkpoint.h"
#include "models/training/config.h"
#include "models/training/phases.h"
#include "models/training/train_step.h"

namespace minibert {

/// Figures of a fine-tuned model on held-out data.
struct HeldOutScores {
  std::string json;  // an object, for "eval" of metrics.jsonl
  std::string line;  // for people
  BestBy best_by = BestBy::f1;
  double value = 0;  // of best_by
};

/// What one phase reads.
struct PhaseInputs {
  std::shared_ptr<const ShardSet> data;      // null in fine-tuning
  std::shared_ptr<const StepSource> loader;  // joined where no step before it was skipped
  std::vector<std::pair<std::string, std::shared_ptr<const ShardSet>>> evaluation;
  std::string fingerprint;             // identifies the training data
  std::string evaluation_fingerprint;  // of the first evaluation set, or the held-out file; else ""
  std::string description;             // of the training data, for the plan
  int64_t sequence_length = 0;         // tokens of the longest sequence, at most
};

/// What a run reads, opened and checked to fit together.
struct RunInputs {
  std::vector<PhaseInputs> phases;  // as phases_of(config); fine-tuning has one
  TokenizerFiles tokenizer;
  BertConfig model;
  BertParts parts;
  Objective objective = Objective::pre_training;
  /// Throws unless this vocab.txt, of a checkpoint to go on from, is that of the data.
  std::function<void(const std::filesystem::path& vocab)> check_vocabulary;
  std::vector<std::string> notes;  // what a reader should know before the first step

  /// Of fine-tuning with held-out data. `stop` is asked now and then; if true, nothing is returned.
  std::function<std::optional<HeldOutScores>(const BertForPreTraining& model,
                                             const std::function<bool()>& stop)>
      score;
};

/// Reads what a run reads.
using OpenInputs = std::function<RunInputs(const TrainConfig& config)>;

/// Errors: UsageError for settings that don't fit the data, or phases each other; DataError for damaged
/// files. Both name the file or setting, what was found, what was expected, and the fix.
RunInputs open_inputs(const TrainConfig& config);
/// The same without asking for an output folder, nor whether the device is there: for plans.
RunInputs open_data(const TrainConfig& config);
/// The model that the settings describe, for a vocabulary of this size. Errors: UsageError.
BertConfig model_shape(const TrainConfig& config, int64_t vocab_size);

/// The model with its initial weights: drawn from the seed, or read from `init_from` (heads that
/// the folder lacks, or has for other labels, are drawn). Adds to `notes` what a reader should know.
BertForPreTraining first_model(const TrainConfig& config, const RunInputs& inputs,
                               std::vector<std::string>& notes);

/// Errors: UsageError if the data have pairs of sentences and the model one segment (type_vocab_size).
void check_segments(const ShardSet& data, const BertConfig& model);

/// Errors: UsageError with both hashes and `fix` if the data was not built with this vocabulary.
void check_vocabulary(const std::filesystem::path& vocab, const ShardSet& data,
                      const std::string& fix);

/// A phase's stream of samples, joined in step `first_step` of the run with sample `first_sample`.
std::shared_ptr<const Loader> make_loader(const TrainConfig& phase,
                                          std::shared_ptr<const ShardSet> data, int64_t first_step,
                                          int64_t first_sample);
/// The sample with which phase `phase` begins: if it reads the data of the phase before it, the stream
/// goes on where that one left it; other data begin at 0. `first_steps` are the data steps at which
/// the phases up to this one began.
int64_t first_sample_of(const std::vector<Phase>& phases, const RunInputs& inputs, size_t phase,
                        const std::vector<int64_t>& first_steps);

/// The model that the settings describe, all but its vocabulary.
BertConfig configured_shape(const TrainConfig& config);

OptimizerOptions optimizer_options(const TrainConfig& config);
/// Moments that the run's optimizer keeps of each weight: 1 or 2.
int64_t moment_count(const TrainConfig& config);
/// `bucket_megabytes`: of the setting, or where that is 0 of a probe (bucket_probe.h).
TrainStepOptions step_options(const TrainConfig& config, int64_t bucket_megabytes,
                              Objective objective);
LossScaling loss_scaling(const TrainConfig& config);
ComputeOptions compute_options(const TrainConfig& config);
/// Who multiplies on device cuda: train.gemm, and ours where choices must come from a fixed table.
GemmCudaBackend gemm_backend(const TrainConfig& config);

/// Identifies the training data: a checksum over the checksums of the shards.
std::string fingerprint(const ShardSet& data);

/// FLOPs of one training step (forward and backward), of all ranks: matrix products of the
/// encoder, attention over real tokens, heads on the masked rows.
double step_flops(const BertConfig& model, const BertParts& parts, const StepPlan& step);
/// The same as it is usually counted: with all rows of the last layer, and the scores of pairs. What
/// published shares of a peak go by.
double usual_step_flops(const BertConfig& model, const BertParts& parts, const StepPlan& step);

/// The plan of a run in lines for people: model, batch arithmetic, data, a rank's memory, disk.
std::vector<std::string> describe_plan(const TrainConfig& config, const RunInputs& inputs,
                                       int ranks);

}  // namespace minibert
