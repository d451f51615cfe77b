// checkpoint.h: what a checkpoint holds, taken from a model, an optimizer and the run's counters,
// and put back. checkpoint_store.h knows how folders reach the disk, this file what is in them:
//   config.json model.safetensors vocab.txt tokenizer_config.json   a Transformers folder, as is; with
//                           the tokenizer's other files, if the run began with a model that has them
//   optimizer.safetensors   moments by parameter name: NAME.exp_avg, NAME.exp_avg_sq
//   trainer_state.json      counters, best evaluation, data and machine
// Called by trainer.cpp. Easy to break: random numbers and data are functions of the step's number,
// so the counters are all that must be kept for an exact resume. Test: ctest -R checkpoint_test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/bert/bert.h"
#include "models/bert/safetensors.h"
#include "models/text/tokenizer_folder.h"
#include "models/training/checkpoint_store.h"
#include "models/training/metrics.h"
#include "models/training/run_folder.h"
#include "models/training/run_settings.h"
#include "optim/optimizer.h"

namespace minibert {

/// What says which checkpoint is the best: in pre-training the loss on the first evaluation set, in
/// fine-tuning the score on the held-out file.
enum class BestBy : uint8_t { mlm_loss, f1, accuracy };  // nats, per cent, share of 1

struct BestEvaluation {
  int64_t step = 0;
  double value = 0;
  std::string data = {};  // checksum of the held-out data; "" in files of former versions
  BestBy by = BestBy::mlm_loss;

  /// Whether it is better than `other`, which is measured alike.
  bool beats(const BestEvaluation& other) const {
    return by == BestBy::mlm_loss ? value < other.value : value > other.value;
  }
};

/// Steps of a run before a phase.
struct PhaseStart {
  int64_t data_steps = 0, applied_steps = 0;
  bool operator==(const PhaseStart&) const = default;
};

/// What dynamic loss scaling carries from step to step (core/step_state.h).
struct ScalerState {
  double loss_scale = 1;
  int64_t clean_steps = 0, skips_in_a_row = 0, skips_at_floor = 0;
  bool scale_was_stable = false;
  bool operator==(const ScalerState&) const = default;
};

/// The size of buckets that a probe chose (bucket_probe.h), and for how many ranks.
struct BucketChoice {
  int64_t megabytes = 0;  // of f32; 0: none was chosen
  int ranks = 0;
};

/// Counters and identity of a run; all that trainer_state.json holds. Fields that a later format
/// added have the default below when an older file is read.
struct TrainerState {
  int64_t data_steps = 0;          // steps whose samples were used: the position in the data
  int64_t applied_steps = 0;       // of them, those that changed the weights: all but skipped ones
  std::string precision = "fp32";  // since format 2
  std::optional<ScalerState> scaler;  // since format 2; absent where the loss is not scaled
  /// Where the phases begun so far began; the last one is under way. Since format 3.
  std::vector<PhaseStart> phase_starts = {{}};
  std::optional<BestEvaluation> best;
  /// Record of step `data_steps`, if it still waits for its evaluation: a signal came in between.
  std::optional<StepRecord> pending_record;
  uint64_t seed = 0;
  int64_t global_batch_size = 0;
  std::string optimizer;         // name of its variant
  std::string data_fingerprint;  // of the shards' checksums
  RunEnvironment environment;
  BucketChoice bucket;        // absent in files of runs without a probe
  RunSettings settings = {};  // empty in files of former versions
};

ScalerState scaler_state(const StepState& state);
/// The StepState that a run resumes with: `fresh` with the counters of `saved`, and its scale where
/// the loss is scaled now and was when it was saved.
StepState step_state(const TrainerState& saved, const StepState& fresh, bool scaled);

std::string to_json(const TrainerState& state);
/// Errors: CheckpointError naming `origin`, the field, or the version.
TrainerState parse_trainer_state(const std::string& text, const std::string& origin);

/// The tokenizer that belongs to a model.
struct TokenizerFiles {
  std::filesystem::path vocab;  // vocab.txt, read once at the start
  TokenizerOptions options;
  /// Files of the model that a run began with, for its checkpoints, which get them as they are; what is
  /// not among them is made of the above.
  std::vector<NamedText> kept = {};
};

/// Copies of everything that a checkpoint of this moment holds, so that training can go on while
/// they are written. Memory: as the weights and both moments.
class Snapshot {
 public:
  /// Errors: NumericError with the first bad tensor if a weight or a moment is NaN or infinite:
  /// such a state is never saved.
  Snapshot(const BertForPreTraining& model, const Optimizer& optimizer, TrainerState state,
           const TokenizerFiles& tokenizer);

  int64_t step() const { return state_.data_steps; }
  const std::optional<BestEvaluation>& best() const { return state_.best; }
  /// The files; each holds on to `snapshot`.
  static std::vector<CheckpointFile> files(std::shared_ptr<const Snapshot> snapshot);

 private:
  TrainerState state_;
  BertConfig config_;
  BertParts parts_;
  std::vector<NamedTensor> weights_, moments_;
  std::vector<NamedText> tokenizer_;
};

/// Bytes that a checkpoint of this model takes on the disk, about: weights and the optimizer's moments
/// (moment_count of optim/optimizer_policies.h).
int64_t checkpoint_bytes(const ParameterTable& table, int64_t moments);

/// Puts a verified checkpoint back. Errors: CheckpointError naming file and tensor, what was found
/// and expected; NumericError for weights that are not finite.
TrainerState load_checkpoint(const std::filesystem::path& folder, BertForPreTraining& model,
                             Optimizer& optimizer);

}  // namespace minibert
