// trainer.cpp: the training loop. Read step() first, then run(), then the rest from top to bottom:
// starting or resuming, what follows a step (evaluation, log, metrics), saving.
#include "models/training/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/error.h"
#include "core/parallel.h"
#include "models/text/loader_prefetch.h"
#include "models/training/checkpoint_writer.h"
#include "models/training/evaluation.h"
#include "models/training/resume.h"
#include "models/training/run_journal.h"
#include "models/training/run_setup.h"
#include "models/training/signals.h"
#include "optim/schedule.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr double kSignalPollSeconds = 0.1;
constexpr int kFailedSavesInARow = 2;  // then the run stops: it would lose too much

ScheduleOptions schedule_options(const TrainConfig& config) {
  ScheduleOptions options;
  options.name = config.schedule;
  options.learning_rate = static_cast<float>(config.learning_rate);
  options.warmup = config.warmup;
  options.total_steps = config.max_steps;
  options.power = config.schedule_power;
  return options;
}

void add(LossStatistics& sum, const LossStatistics& part) {
  sum.loss_sum += part.loss_sum, sum.rows += part.rows, sum.correct += part.correct;
}

/// NaN without a sign, which depends on the instruction that made it: "nan", never "-nan".
double unsigned_nan(double x) {
  return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x;
}

double per_row(double sum, const LossStatistics& statistics) {
  return unsigned_nan(sum / static_cast<double>(std::max<int64_t>(1, statistics.rows)));
}

class Trainer {
 public:
  explicit Trainer(const TrainRequest& request);
  TrainResult run();

 private:
  std::optional<StepRecord> step();
  std::optional<GlobalStep> next_batch();
  StepContext context_of(const GlobalStep& batch) const;
  StepRecord record_of(const GlobalStep& batch, const LossStatistics& mlm,
                       const LossStatistics& nsp) const;
  bool too_late(const GlobalStep& batch, const PackedBatch& next, double seconds) const;
  [[noreturn]] void stop_non_finite(const StepRecord& record, const std::string& bad_gradient);

  void begin();
  TrainResult loop();
  void after_step(StepRecord record);
  bool evaluate_into(StepRecord& record);
  bool evaluation_due(int64_t step) const;

  bool save_due();
  void save();
  void save_and_wait();
  void note_save(const std::optional<std::string>& error);
  void save_the_last_whole_step();
  TrainResult end(TrainEnd how);

  const TrainConfig& config_;
  const TrainRequest& request_;
  SignalScope signals_;
  FileSystem files_;
  RunInputs inputs_;
  std::vector<std::string> notes_;
  BertForPreTraining model_;
  Optimizer optimizer_;
  Schedule schedule_;
  RunFolder folder_;
  CheckpointStore store_;
  TrainerState state_;
  RunJournal journal_;
  std::optional<Prefetcher> prefetcher_;
  std::optional<GlobalStep> only_batch_;  // --overfit-batch
  CheckpointWriter writer_;

  bool whole_ = false;        // the run has begun; weights, moments and state_ are of one step
  int64_t saved_step_ = -1;   // of the newest checkpoint, written or under way
  bool best_is_new_ = false;  // the last evaluation was the best so far
  int failed_saves_ = 0;      // in a row
};

// ---- The way of a batch ------------------------------------------------------------------------

/// One optimizer step. Nothing, and no trace in the weights, if a signal came and the step would
/// not end within the grace period.
std::optional<StepRecord> Trainer::step() {
  const double start = seconds_now();
  const std::optional<GlobalStep> batch = next_batch();
  if (!batch) return std::nullopt;
  const double data_seconds = seconds_now() - start;

  for (const Variable& leaf : model_.leaves()) leaf.reset_grad();
  const StepContext context = context_of(*batch);
  LossStatistics mlm, nsp;
  for (const PackedBatch& micro_batch : batch->micro_batches) {
    if (too_late(*batch, micro_batch, seconds_now() - start - data_seconds)) return std::nullopt;
    const PreTrainingOutput output = model_.forward(micro_batch, context);
    output.loss.backward(1.0f, model_.leaves());
    add(mlm, output.mlm);
    add(nsp, output.nsp);
  }
  const float learning_rate = schedule_.learning_rate(optimizer_.applied_steps());
  whole_ = false;
  const Optimizer::StepReport report = optimizer_.step(learning_rate);
  ++state_.data_steps;
  state_.applied_steps = optimizer_.applied_steps();

  StepRecord record = record_of(*batch, mlm, nsp);
  record.learning_rate = learning_rate;
  record.grad_norm = unsigned_nan(report.grad_norm);
  record.data_seconds = data_seconds;
  record.step_seconds = seconds_now() - start;
  journal_.count(record, step_flops(inputs_.model, inputs_.parts, *batch));
  if (!report.applied || !std::isfinite(record.loss)) stop_non_finite(record, report.bad_gradient);
  return record;
}

/// Losses are means over the whole global step, so each micro-batch is scaled by the step's counts.
StepContext Trainer::context_of(const GlobalStep& batch) const {
  const auto rows = static_cast<float>(std::max<int64_t>(1, batch.masked_rows));
  return {.training = true,
          .seed = static_cast<uint64_t>(config_.seed),
          .data_step = static_cast<uint32_t>(state_.data_steps),
          .mlm_scale = 1.0f / rows,
          .nsp_scale = config_.nsp ? 1.0f / static_cast<float>(batch.sequences) : 0.0f};
}

StepRecord Trainer::record_of(const GlobalStep& batch, const LossStatistics& mlm,
                              const LossStatistics& nsp) const {
  StepRecord record;
  record.step = state_.data_steps;
  record.mlm_loss = per_row(mlm.loss_sum, mlm);
  record.mlm_accuracy = per_row(static_cast<double>(mlm.correct), mlm);
  record.loss = record.mlm_loss;
  if (config_.nsp) {
    record.nsp_loss = per_row(nsp.loss_sum, nsp);
    record.nsp_accuracy = per_row(static_cast<double>(nsp.correct), nsp);
    record.loss += *record.nsp_loss;
  }
  record.skipped_steps = state_.data_steps - state_.applied_steps;
  record.sequences = batch.sequences;
  record.tokens = batch.tokens;
  return record;
}

/// An error ends the run with the last whole step saved, but for numbers that are not finite.
TrainResult Trainer::run() {
  try {
    begin();
    return loop();
  } catch (const std::exception& error) {
    journal_.log().last_words(error.what());
    if (!dynamic_cast<const NumericError*>(&error)) save_the_last_whole_step();
    throw;
  }
}

TrainResult Trainer::loop() {
  while (state_.applied_steps < config_.max_steps) {
    if (stop_requested()) return end(TrainEnd::signal);
    if (config_.stop_after > 0 && state_.data_steps >= config_.stop_after)
      return end(TrainEnd::paused);
    std::optional<StepRecord> record = step();
    if (!record) continue;  // a signal came: the loop's first line saves
    after_step(std::move(*record));
    if (writer_.done()) note_save(writer_.finish());
    if (save_due()) save();
  }
  // A signal may have cut the last step's evaluation off.
  return end(state_.pending_record.empty() ? TrainEnd::finished : TrainEnd::signal);
}

std::optional<GlobalStep> Trainer::next_batch() {
  if (config_.overfit_batch) {
    if (!only_batch_) only_batch_ = inputs_.loader->load(0);
    return only_batch_;
  }
  if (!prefetcher_)
    prefetcher_.emplace([&loader = *inputs_.loader](int64_t step) { return loader.load(step); },
                        state_.data_steps);
  while (!prefetcher_->ready_within(kSignalPollSeconds))
    if (stop_requested()) return std::nullopt;
  return prefetcher_->next();
}

/// Whether a stop was asked for and the micro-batches from `next` on would outlast the grace
/// period, going by those before, which took `seconds`. Before the first, nothing would be lost.
bool Trainer::too_late(const GlobalStep& batch, const PackedBatch& next, double seconds) const {
  if (!stop_requested()) return false;
  const auto done = static_cast<double>(&next - batch.micro_batches.data());
  if (done == 0) return true;
  const double left = static_cast<double>(batch.micro_batches.size()) - done;
  return seconds_since_stop_request() + left * seconds / done > config_.grace;
}

void Trainer::stop_non_finite(const StepRecord& record, const std::string& bad_gradient) {
  journal_.write(record);  // NaN and all
  const std::string bad_weight = optimizer_.first_non_finite_weight();
  const std::string where =
      !bad_weight.empty()     ? "weight " + bad_weight + " (the first from the input)"
      : !bad_gradient.empty() ? "gradient of " + bad_gradient + " (the first from the loss)"
                              : "the loss alone";
  fail<NumericError>(
      "step {}: loss is {}, gradient norm is {}, expected finite numbers; first bad tensor: {}. "
      "Nothing of this step is saved; checkpoints from before are untouched. Go on from one with a "
      "smaller --learning-rate, a longer --warmup or a smaller --max-grad-norm.",
      record.step, record.loss, record.grad_norm, where);
}

// ---- Starting and resuming ---------------------------------------------------------------------

/// Makes the run folder, or takes it over, once nothing is left that can be refused without it.
RunFolder open_folder(const TrainConfig& config, const Arena& arena, FileSystem& files,
                      std::vector<std::string>& notes) {
  const bool may_exist = may_hold_a_run(config);
  check_free_space(config, checkpoint_bytes(arena.table()), config.output_dir, notes);
  return RunFolder(config.output_dir, may_exist, files);
}

Trainer::Trainer(const TrainRequest& request)
    : config_(request.config),
      request_(request),
      inputs_(open_inputs(config_)),
      model_(first_model(config_, inputs_, notes_)),
      optimizer_(model_.arena(), optimizer_options(config_)),
      schedule_(schedule_options(config_)),
      folder_(open_folder(config_, model_.arena(), files_, notes_)),
      store_(folder_.path(), files_),
      state_(resume_or_start(config_, *inputs_.data, store_, model_, optimizer_, notes_)),
      journal_(folder_, config_, request.json),
      writer_(store_, config_.keep_last) {}

void Trainer::begin() {
  const TrainerState before = state_;
  state_.seed = static_cast<uint64_t>(config_.seed);
  state_.global_batch_size = config_.global_batch_size;
  state_.optimizer = config_.optimizer;
  state_.data_fingerprint = fingerprint(*inputs_.data);
  state_.environment = current_environment();
  const bool resumed = state_.data_steps > 0;
  const bool evaluation_pending = !state_.pending_record.empty();
  saved_step_ = resumed && !evaluation_pending ? state_.data_steps : -1;

  folder_.describe_launch(request_.resolved_config, request_.arguments, state_.data_steps,
                          request_.environment);
  const int64_t logged = state_.data_steps - (evaluation_pending ? 1 : 0);
  journal_.open(logged, state_.data_steps);
  RunLog& log = journal_.log();
  log.info(request_.resolved_config);
  for (const std::string& line : describe_plan(config_, inputs_)) log.info(line);
  log.info("optimizer: " + optimizer_.describe());
  for (const std::string& note : notes_) log.warn(note);
  if (resumed) {
    log.info(fmt::format("going on at step {} of {}", state_.data_steps, config_.max_steps));
    for (const std::string& line : what_changed(before, state_)) log.warn(line);
  }
  if (evaluation_pending) {
    after_step(parse_step_record(state_.pending_record));
    if (save_due()) save();
  }
  whole_ = true;
}

// ---- After a step ------------------------------------------------------------------------------

void Trainer::after_step(StepRecord record) {
  best_is_new_ = false;
  state_.pending_record = to_json(record);  // if it ends here, the resumed run does what follows
  whole_ = true;
  journal_.write_trust_ratios(record.step, model_.arena().table(), optimizer_.norms());
  if (evaluation_due(record.step) && !evaluate_into(record)) return;  // a signal came
  journal_.write(record);
  state_.pending_record.clear();
}

bool Trainer::evaluation_due(int64_t step) const {
  if (inputs_.evaluation.empty()) return false;
  if (state_.applied_steps >= config_.max_steps) return true;
  return config_.evaluate_every > 0 && step % config_.evaluate_every == 0;
}

/// False if a signal came before the end.
bool Trainer::evaluate_into(StepRecord& record) {
  const EvaluationOptions options{.micro_batch_size = config_.micro_batch_size,
                                  .max_batches = config_.evaluation_batches,
                                  .nsp = config_.nsp};
  for (const auto& [name, data] : inputs_.evaluation) {
    const auto result = evaluate(model_, data, options, stop_requested);
    if (!result) {
      record.evaluations.clear();
      return false;
    }
    record.evaluations.emplace_back(name, *result);
  }
  const double loss = record.evaluations.front().second.mlm_loss;
  best_is_new_ = !state_.best || loss < state_.best->mlm_loss;
  if (best_is_new_) state_.best = {record.step, loss};
  return true;
}

// ---- Saving ------------------------------------------------------------------------------------

bool Trainer::save_due() {
  if (state_.applied_steps >= config_.max_steps) return false;  // end() saves
  const bool asked = take_save_request();
  const bool regular = config_.save_every > 0 && state_.data_steps % config_.save_every == 0;
  return asked || regular || best_is_new_;
}

void Trainer::save() {
  if (saved_step_ == state_.data_steps) return;
  const double start = seconds_now();
  journal_.sync();
  auto snapshot = std::make_shared<Snapshot>(model_, optimizer_, state_, inputs_.tokenizer);
  if (writer_.busy()) note_save(writer_.finish());
  writer_.start(std::move(snapshot));
  saved_step_ = state_.data_steps;
  journal_.log().info(
      fmt::format("step {} | saving checkpoint-{} beside the training | stall {:.0f} ms",
                  state_.data_steps, state_.data_steps, 1000 * (seconds_now() - start)));
}

/// Errors: CheckpointError if the newest state could not be saved.
void Trainer::save_and_wait() {
  save();
  const std::optional<std::string> error = writer_.finish();
  if (!error) return;
  saved_step_ = -1;
  fail<CheckpointError>("{}", *error);
}

/// Before an error ends the run. If this fails too, the log says so: the error is what matters.
void Trainer::save_the_last_whole_step() {
  if (!whole_ || state_.data_steps == 0) return;
  try {
    save_and_wait();
    journal_.log().info(fmt::format(
        "step {} of {} is saved; once the error's cause is mended, go on with --resume auto",
        state_.data_steps, config_.max_steps));
  } catch (const std::exception& error) {
    journal_.log().error(error.what());
  }
}

/// A failed save is said, and the run goes on to the next one; two in a row stop it.
void Trainer::note_save(const std::optional<std::string>& error) {
  failed_saves_ = error ? failed_saves_ + 1 : 0;
  if (!error) return;
  saved_step_ = -1;
  journal_.log().error(*error);
  MB_CHECK_AS(CheckpointError, failed_saves_ < kFailedSavesInARow,
              "{} saves in a row failed; the last: {}", failed_saves_, *error);
}

TrainResult Trainer::end(TrainEnd how) {
  save_and_wait();
  TrainResult result{how, how == TrainEnd::signal ? stop_signal_name() : "", state_.data_steps,
                     folder_.path() / fmt::format("checkpoint-{}", state_.data_steps)};
  const char* why = how == TrainEnd::finished ? "done"
                    : how == TrainEnd::paused ? "stopped by --stop-after"
                                              : stop_signal_name();
  journal_.log().info(fmt::format("{}: {} holds step {} of {}{}", why, result.checkpoint.string(),
                                  state_.data_steps, config_.max_steps,
                                  how == TrainEnd::finished ? "" : "; go on with --resume auto"));
  return result;
}

}  // namespace

TrainResult train(const TrainRequest& request) {
  if (request.config.threads > 0) set_num_threads(static_cast<int>(request.config.threads));
  Trainer trainer(request);
  return trainer.run();
}

}  // namespace minibert
