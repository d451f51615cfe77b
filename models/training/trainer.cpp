// trainer.cpp: the training loop. Read step() first, then run(), then the rest from top to bottom:
// starting or resuming, what follows a step (evaluation, log, metrics), saving.
#include "models/training/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/device_stream.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/precision.h"
#include "core/range.h"
#include "dist/world.h"
#include "models/text/loader_prefetch.h"
#include "models/training/agreement.h"
#include "models/training/batch_scaling.h"
#include "models/training/bucket_probe.h"
#include "models/training/checkpoint_writer.h"
#include "models/training/dealing.h"
#include "models/training/evaluation.h"
#include "models/training/heartbeat.h"
#include "models/training/non_finite.h"
#include "models/training/phases.h"
#include "models/training/plan.h"
#include "models/training/product_choices.h"
#include "models/training/rank_setup.h"
#include "models/training/resume.h"
#include "models/training/run_journal.h"
#include "models/training/run_setup.h"
#include "models/training/signals.h"
#include "models/training/train_step.h"
#include "optim/schedule.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr double kSignalPollSeconds = 0.1;
constexpr int kFailedSavesInARow = 2;  // then the run stops: it would lose too much

/// NaN without a sign, which depends on the instruction that made it: "nan", never "-nan".
double unsigned_nan(double x) {
  return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x;
}

double per_row(double sum, const LossCounts& counts) {
  return unsigned_nan(sum / static_cast<double>(std::max<int64_t>(1, counts.rows)));
}

class Trainer {
 public:
  explicit Trainer(const TrainRequest& request);
  TrainResult run();

 private:
  std::optional<StepRecord> step();
  bool compute(const GlobalStep& batch);
  void agree_on(StepState& after);
  bool stop_now() const;
  std::optional<GlobalStep> next_batch();
  GlobalStep load(const StepSource& loader, int64_t data_step) const;
  void expect_next_batch();
  StepRecord record_of(const GlobalStep& batch, const StepState& after) const;
  bool drop(const GlobalStep& batch, size_t done, double seconds);
  bool too_late(const GlobalStep& batch, size_t done, double seconds) const;
  void note_drop(const GlobalStep& batch, size_t done);
  void stop_if_not_finite(const StepRecord& record, const GlobalStep& batch,
                          const StepState& after);

  std::string where_others_stood() const;
  void beat(const char* doing);

  size_t phase_number() const { return state_.phase_starts.size() - 1; }
  const Phase& phase() const { return phases_[phase_number()]; }
  const PhaseInputs& data() const { return inputs_.phases[phase_number()]; }
  bool is_over() const { return state_.applied_steps >= total_steps(phases_); }
  bool at_end_of_phase() const { return state_.applied_steps >= phase().end(); }
  void join_data();
  void next_phase();
  std::string describe_phase() const;
  std::string describe_completed() const;

  void begin();
  void rehearse();
  std::string describe_ranks();
  int64_t choose_buckets();
  TrainResult loop();
  void after_step(StepRecord record);
  EvaluationOptions evaluation(const TrainConfig& phase, int64_t max_batches) const;
  bool best_is_comparable() const;
  void note_evaluation(int64_t step, BestBy by, double value);
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
  const std::vector<Phase> phases_;
  std::vector<std::string> notes_;
  World world_;
  ProcessGroup& ranks_;  // for the host's memory; step_ has the one for gradients
  DeviceStream stream_;
  BertForPreTraining model_;
  RunSchedule schedule_;
  Optimizer optimizer_;
  RunFolder folder_;
  CheckpointStore store_;
  TrainerState state_;
  std::string bucket_reason_;  // how its size was chosen, if by a probe
  int64_t bucket_megabytes_;
  TrainStep step_;
  RunJournal journal_;
  std::shared_ptr<const StepSource> loader_;  // of the phase
  std::optional<Prefetcher> prefetcher_;
  std::optional<GlobalStep> only_batch_;  // --overfit-batch
  std::optional<GlobalStep> expected_;    // taken from the prefetcher, on its way to the device
  CheckpointWriter writer_;
  std::optional<Heartbeat> heart_;  // with several ranks

  bool whole_ = false;  // the run has begun; weights, moments and state_ are of one step
  Agreement agreed_;    // with several ranks: after the last step, and on what followed
  std::optional<int64_t> saved_step_;  // of the newest checkpoint, written or under way
  bool best_is_new_ = false;           // the last evaluation was the best so far
  std::string changed_settings_;       // as StepRecord has it, until the next step records it
  int failed_saves_ = 0;               // in a row
};

// ---- The path of a batch -----------------------------------------------------------------------

/// One optimizer step. Returns nothing, and leaves no trace in the weights, if a signal came and the
/// step would not end within the grace period.
std::optional<StepRecord> Trainer::step() {
  const Range named("step");
  const double start = seconds_now();
  beat("waiting for data");
  const std::optional<GlobalStep> batch = next_batch();
  if (!batch) return std::nullopt;
  const double data_seconds = seconds_now() - start;

  if (!compute(*batch)) return std::nullopt;
  expect_next_batch();
  StepState after = step_.read();
  agree_on(after);
  step_.share_weights();

  StepRecord record = record_of(*batch, after);
  record.data_seconds = data_seconds;
  const Communication communication = step_.communication();
  record.communication_seconds = communication.seconds;
  record.exposed_communication_seconds = communication.exposed_seconds;
  record.step_seconds = seconds_now() - start;
  journal_.count(record, step_flops(inputs_.model, inputs_.parts, *batch));
  record.changed_settings = std::exchange(changed_settings_, "");
  stop_if_not_finite(record, *batch, after);
  ++state_.data_steps;
  state_.applied_steps = after.applied_steps;
  if (state_.scaler) state_.scaler = scaler_state(after);
  return record;
}

/// Queues the step. Returns false, with the weights unchanged, if a signal came too early in it.
bool Trainer::compute(const GlobalStep& batch) {
  const double start = seconds_now();
  if (config_.graph) {  // all or nothing
    if (stop_requested()) return false;
    whole_ = false;
    step_.run(batch, state_.data_steps);
    return true;
  }
  size_t done = 0;
  const auto drop_here = [&](size_t i) { return drop(batch, done = i, seconds_now() - start); };
  if (!step_.gradients(batch, state_.data_steps, drop_here)) {
    note_drop(batch, done);
    return false;
  }
  whole_ = false;
  step_.update();
  return true;
}

/// With several ranks: adds up the losses in `after` over all of them, and learns whether any rank
/// was asked to stop or to save.
void Trainer::agree_on(StepState& after) {
  if (ranks_.world() == 1) return;
  beat("agreeing");
  agreed_ = agree(ranks_, {after.mlm, after.nsp, stop_requested(), take_save_request()});
  after.mlm = agreed_.mlm;
  after.nsp = agreed_.nsp;
}

/// Whether a signal asked this rank to stop or, with several, any of them before they last agreed.
bool Trainer::stop_now() const {
  return ranks_.world() == 1 ? stop_requested() : agreed_.stop;
}

StepRecord Trainer::record_of(const GlobalStep& batch, const StepState& after) const {
  StepRecord record;
  record.step = state_.data_steps + 1;
  record.phase = static_cast<int64_t>(phase_number());
  record.fine_tuning = inputs_.objective != Objective::pre_training;
  record.mlm_loss = per_row(after.mlm.loss_sum, after.mlm);
  record.mlm_accuracy = per_row(static_cast<double>(after.mlm.correct), after.mlm);
  record.loss = record.mlm_loss;
  if (config_.nsp) {
    record.nsp_loss = per_row(after.nsp.loss_sum, after.nsp);
    record.nsp_accuracy = per_row(static_cast<double>(after.nsp.correct), after.nsp);
    record.loss += *record.nsp_loss;
  }
  record.learning_rate = after.learning_rate;
  record.grad_norm = unsigned_nan(after.grad_norm);
  if (state_.scaler) record.loss_scale = state_.scaler->loss_scale;  // this step's, not the next's
  record.skipped_steps = after.skipped_steps;
  record.sequences = batch.sequences;
  record.tokens = batch.tokens;
  return record;
}

/// An error ends the run with the last whole step saved, but for numbers that are not finite.
TrainResult Trainer::run() {
  try {
    begin();
    return loop();
  } catch (const CommError& error) {
    save_the_last_whole_step();
    const std::string message = error.what() + where_others_stood();
    journal_.log().last_words(message);
    throw CommError(message);
  } catch (const std::exception& error) {
    journal_.log().last_words(error.what());
    if (!dynamic_cast<const NumericError*>(&error)) save_the_last_whole_step();
    throw;
  }
}

/// ". Last heard of: rank 1: step 120, backward, 12 s ago; ..."
std::string Trainer::where_others_stood() const {
  std::string text;
  for (int rank = 0; rank < ranks_.world(); ++rank) {
    const std::string last = Heartbeat::last_of(folder_.path(), rank);
    if (rank != ranks_.rank() && !last.empty())
      text += (text.empty() ? ". Last heard of: " : "; ") + last;
  }
  return text;
}

void Trainer::beat(const char* doing) {
  if (heart_) heart_->beat(state_.data_steps, doing);
}

TrainResult Trainer::loop() {
  while (!is_over()) {
    if (stop_now()) return end(TrainEnd::signal);
    if (config_.stop_after > 0 && state_.data_steps >= config_.stop_after)
      return end(TrainEnd::paused);
    if (at_end_of_phase()) next_phase();
    std::optional<StepRecord> record = step();
    if (!record) continue;  // a signal came: the loop's first line saves
    after_step(std::move(*record));
    if (writer_.done()) note_save(writer_.finish());
    if (save_due()) save();
  }
  // A signal may have cut the last step's evaluation off.
  return end(state_.pending_record ? TrainEnd::signal : TrainEnd::finished);
}

std::optional<GlobalStep> Trainer::next_batch() {
  if (config_.overfit_batch) {
    if (!only_batch_) only_batch_ = load(*loader_, state_.phase_starts.back().data_steps);
    return only_batch_;
  }
  if (expected_) return std::exchange(expected_, std::nullopt);
  if (!prefetcher_)
    prefetcher_.emplace([this, loader = loader_](int64_t step) { return load(*loader, step); },
                        state_.data_steps);
  while (!prefetcher_->ready_within(kSignalPollSeconds))
    if (ranks_.world() == 1 && stop_requested()) return std::nullopt;
  return prefetcher_->next();
}

/// What this rank was dealt of a step. Called by the prefetcher's threads.
GlobalStep Trainer::load(const StepSource& loader, int64_t data_step) const {
  StepPlan plan = loader.plan(data_step);
  Deal deal = deal_of(plan, ranks_.world(), config_.deterministic);
  return loader.load(std::move(plan), std::move(deal[static_cast<size_t>(ranks_.rank())]));
}

/// If the next batch is ready, begins to copy it to the device while the device computes. Not in what
/// may be the last step of a phase: the next phase has other data.
void Trainer::expect_next_batch() {
  if (model_.device() == Device::cpu || !prefetcher_ || !prefetcher_->ready_within(0)) return;
  if (state_.applied_steps + 1 >= phase().end()) return;
  try {
    expected_ = prefetcher_->next();
  } catch (const DataError&) {
    return;  // next_batch() meets it again, after this step has been recorded
  }
  step_.expect(*expected_);
}

/// Whether the step is abandoned before the next micro-batch. Several ranks vote once a step: a rank
/// that wants to drop the rest votes at once, the others before their last micro-batch, and one
/// vote for it is enough. Where no rank has a second micro-batch, they finish the step instead.
bool Trainer::drop(const GlobalStep& batch, size_t done, double seconds) {
  const bool late = too_late(batch, done, seconds);
  if (ranks_.world() == 1) return late;
  if (std::ssize(batch.cuts) <= ranks_.world()) return false;
  if (!late && done + 1 < batch.micro_batches.size()) return false;
  beat("agreeing");
  agreed_.stop = any_rank(ranks_, late);
  return agreed_.stop;
}

/// Whether a stop was asked for and the remaining micro-batches would outlast the grace period, judged
/// by those `done`, which took `seconds`. Before the first a stop is enough: nothing would be lost.
bool Trainer::too_late(const GlobalStep& batch, size_t done, double seconds) const {
  if (!stop_requested()) return false;
  if (done == 0) return true;
  const auto left = static_cast<double>(batch.micro_batches.size() - done);
  return seconds_since_stop_request() + left * seconds / static_cast<double>(done) > config_.grace;
}

void Trainer::note_drop(const GlobalStep& batch, size_t done) {
  if (done == 0) return;
  journal_.log().info(
      fmt::format("step {} | dropped after {} of {} micro-batches: the rest would outlast the {:g} "
                  "s of --grace",
                  state_.data_steps + 1, done, batch.micro_batches.size(), config_.grace));
}

/// A step that loss scaling skips is part of the run, unless there are too many in a row. A loss that
/// is not finite although all gradients are ends the run, too: the weights are suspect.
void Trainer::stop_if_not_finite(const StepRecord& record, const GlobalStep& batch,
                                 const StepState& after) {
  std::optional<std::string> reason = optimizer_.scaler().must_stop(after);
  if (!reason && after.applied && !std::isfinite(record.loss)) reason = "the loss is not finite";
  if (!reason) return;
  journal_.write(record);  // NaN and all
  const std::string bad_weight = optimizer_.first_non_finite_weight();
  const std::string bad_gradient = optimizer_.report(after).bad_gradient;
  std::string where = !bad_weight.empty() ? "weight " + bad_weight + " (the first from the input)"
                      : !bad_gradient.empty()
                          ? "gradient of " + bad_gradient + " (the first from the loss)"
                          : "the loss alone";
  const std::string cause = find_non_finite(step_, batch, state_.data_steps);
  if (!cause.empty()) where += "; it comes from " + cause;
  fail<NumericError>(
      "step {}: loss is {}, gradient norm is {}, loss scale is {}, expected finite numbers ({}); "
      "first bad tensor: {}. Nothing of this step is saved; checkpoints from before are untouched. "
      "Go on from one with a smaller --learning-rate, a longer --warmup or a smaller "
      "--max-grad-norm.",
      record.step, record.loss, record.grad_norm, record.loss_scale, *reason, where);
}

// ---- Starting and resuming ---------------------------------------------------------------------

/// Makes the run folder, or takes it over, after everything has been checked that can be checked
/// without it. Rank 0 does; the others touch it only after they have heard from rank 0.
RunFolder open_folder(const TrainConfig& config, const Arena& arena, FileSystem& files,
                      std::vector<std::string>& notes, const ProcessGroup& ranks) {
  if (ranks.rank() != 0) return RunFolder::of_rank(ranks.rank(), config.output_dir, files);
  const bool may_exist = may_hold_a_run(config);
  check_free_space(config, checkpoint_bytes(arena.table(), moment_count(config)), config.output_dir,
                   notes);
  return RunFolder(config.output_dir, may_exist, files);
}

/// Rank 0 reads a checkpoint, if there is one to resume from, and sends its contents to all.
TrainerState first_state(const TrainRequest& request, const RunInputs& inputs,
                         CheckpointStore& store, BertForPreTraining& model, Optimizer& optimizer,
                         std::vector<std::string>& notes, ProcessGroup& ranks) {
  const TrainConfig& config = request.config;
  TrainerState state;
  if (ranks.rank() == 0)
    state = resume_or_start(config, inputs, settings_of(config, inputs, request.task), store, model,
                            optimizer, notes);
  share_start(ranks, state, model, optimizer);
  return state;
}

Trainer::Trainer(const TrainRequest& request)
    : config_(request.config),
      request_(request),
      inputs_(request.open(config_)),
      phases_(phases_of(config_)),
      notes_(inputs_.notes),
      world_(request.launch, world_options(config_, request.launch, inputs_)),
      ranks_(world_.control()),
      stream_(compute_options(config_)),
      model_(first_model(config_, inputs_, notes_)),
      schedule_(run_schedule(phases_)),
      optimizer_(model_.arena(), optimizer_options(config_), schedule_, loss_scaling(config_)),
      folder_(open_folder(config_, model_.arena(), files_, notes_, ranks_)),
      store_(folder_.path(), files_),
      state_(first_state(request, inputs_, store_, model_, optimizer_, notes_, ranks_)),
      bucket_megabytes_(choose_buckets()),
      step_(model_, optimizer_, step_options(config_, bucket_megabytes_, inputs_.objective),
            &world_.group()),
      journal_(folder_, config_, phases_, request.json, ranks_.rank(), ranks_.world()),
      writer_(store_, config_.keep_last) {}

/// MiB of a bucket, which the state keeps. The fixed order of a deterministic run has no buckets.
int64_t Trainer::choose_buckets() {
  const bool fixed = config_.deterministic && config_.bucket_megabytes == 0;
  const BucketSize choice = choose_bucket(
      fixed ? TrainConfig().bucket_megabytes : config_.bucket_megabytes, state_.bucket,
      model_.arena().gradients().bytes(), model_.device(), world_.group(), ranks_);
  bucket_reason_ = choice.reason;
  state_.bucket = choice.bucket;
  return choice.megabytes;
}

/// Runs the products of a step and of an evaluation of each phase, so that who multiplies them can be
/// decided. Its results are not used.
void Trainer::rehearse() {
  for (size_t i = 0; i < phases_.size(); ++i) {
    const PhaseInputs& own = inputs_.phases[i];
    const int64_t step = std::max(state_.data_steps, phases_[i].first_step);
    step_.accumulate(load(*own.loader, step), step,
                     [](size_t micro_batch) { return micro_batch > 0; });
    if (!own.evaluation.empty())
      evaluate(model_, own.evaluation[0].second, evaluation(phases_[i].config, 1));
  }
}

// ---- Phases ------------------------------------------------------------------------------------

/// From here on batches come from the phase that state_ names.
void Trainer::join_data() {
  std::vector<int64_t> first_steps;
  for (const PhaseStart& start : state_.phase_starts) first_steps.push_back(start.data_steps);
  prefetcher_.reset();  // its threads load what the phase before would have had next
  only_batch_.reset();
  expected_.reset();
  const int64_t first_sample = first_sample_of(phases_, inputs_, phase_number(), first_steps);
  loader_ = data().data ? make_loader(phase().config, data().data, first_steps.back(), first_sample)
                        : data().loader;
  state_.global_batch_size = phase().config.global_batch_size;
  state_.data_fingerprint = data().fingerprint;
}

/// The phase is over and another follows. Weights, moments and loss scale go on as they are; the rate
/// and the count of bias correction are in the optimizer's table (optim/schedule.h).
void Trainer::next_phase() {
  state_.phase_starts.push_back({state_.data_steps, state_.applied_steps});
  join_data();
  journal_.log().info(describe_phase());
}

/// "step 80 | phase 2 of 2 (seq128) begins | 32 sequences of up to 128 tokens a step, 20 steps | ..."
std::string Trainer::describe_phase() const {
  const TrainConfig& c = phase().config;
  return fmt::format(
      "step {} | {} of {} begins | {} sequences of up to {} tokens a step, from sample {} on, {} "
      "steps | {}{}",
      state_.data_steps, phase().label(), phases_.size(), c.global_batch_size,
      data().sequence_length, loader_->plan(state_.data_steps).first_sample, phase().steps,
      schedule_.phases()[phase_number()].schedule.describe(),
      c.restart_step_count ? "; bias correction counts from 1 again" : "");
}

/// "ranks: 4 over gloo; micro-batches dealt by tokens, in the first step the largest share is 1.03 of
/// the mean; buckets of gradients: 12, each up to 25 MiB"
std::string Trainer::describe_ranks() {
  const StepPlan plan = loader_->plan(state_.data_steps);
  const double spread = token_spread(plan, deal_of(plan, ranks_.world(), config_.deterministic));
  const std::string sums = config_.deterministic
                               ? "gradients summed in a tree (train.deterministic)"
                               : fmt::format("buckets of gradients: {}, each up to {} MiB{}",
                                             step_.buckets(), bucket_megabytes_, bucket_reason_);
  return fmt::format(
      "ranks: {} over {}; micro-batches dealt {}, in the first step the largest share of tokens is "
      "{:.2f} of the mean; {}{}",
      ranks_.world(), world_.group().name(), config_.deterministic ? "in order" : "by tokens",
      spread, sums, config_.shard_optimizer ? "; optimizer sharded" : "");
}

/// What a resumed run says that has no step left.
std::string Trainer::describe_completed() const {
  const TrainConfig& last = phases_.back().config;
  return fmt::format(
      "the run is complete: all of its {} steps are done, and none is left to do. For more, "
      "raise the end of the schedule: {}",
      total_steps(phases_), flag_text(last, "max_steps", std::to_string(2 * phases_.back().steps)));
}

void Trainer::begin() {
  const TrainerState before = state_;
  state_.seed = static_cast<uint64_t>(config_.seed);
  state_.optimizer = config_.optimizer;
  state_.precision = config_.precision;
  state_.settings = settings_of(config_, inputs_, request_.task);
  join_data();
  std::vector<std::string> products;
  if (ranks_.rank() == 0)
    products =
        choose_products(config_, inputs_, folder_.gemm_choices(), files_, [this] { rehearse(); });
  share_products(config_, ranks_);
  state_.environment = current_environment(model_.device());
  const bool resumed = state_.data_steps > 0;
  const bool evaluation_pending = state_.pending_record.has_value();
  const StepState start = step_state(state_, optimizer_.initial_state(), scales_loss(config_));
  step_.write(start);
  state_.scaler = scales_loss(config_) ? std::optional(scaler_state(start)) : std::nullopt;
  if (resumed && !evaluation_pending) saved_step_ = state_.data_steps;

  if (ranks_.world() > 1) {
    heart_.emplace(Heartbeat::file_of(folder_.path(), ranks_.rank()));
    step_.tell([this](const char* stage) { beat(stage); });
  }
  if (ranks_.rank() == 0)
    folder_.describe_launch(state_.environment, request_.resolved_config, request_.arguments,
                            state_.data_steps, request_.environment);
  const int64_t logged = state_.data_steps - (evaluation_pending ? 1 : 0);
  journal_.open(logged, state_.data_steps);
  RunLog& log = journal_.log();
  log.info(request_.resolved_config);
  for (const std::string& line : describe_plan(config_, inputs_, ranks_.world())) log.info(line);
  if (ranks_.world() > 1) log.info(describe_ranks());
  for (const std::string& line : products) log.info(line);
  log.info("optimizer: " + optimizer_.describe());
  for (const Phase& phase : phases_) {
    const std::string scaling = describe_scaling(phase.config);
    if (!scaling.empty()) log.info(scaling);
  }
  for (size_t i = 0; i < phases_.size(); ++i)
    log.info(phase_prefix(phases_[i].config) +
             "schedule: " + schedule_.phases()[i].schedule.describe());
  for (const std::string& note : notes_) log.warn(note);
  if (resumed) {
    log.info(fmt::format("going on at step {} of {}{}", state_.data_steps, total_steps(phases_),
                         phases_.size() > 1 ? ", in " + phase().label() : ""));
    const bool first_rank = ranks_.rank() == 0;  // warnings of the others would repeat it
    for (const std::string& line : what_changed(before, state_))
      first_rank ? log.warn(line) : log.info(line);
    changed_settings_ = to_json(setting_changes(before.settings, state_.settings, before));
    if (is_over()) log.warn(describe_completed());
  }
  if (evaluation_pending) {
    after_step(*state_.pending_record);
    if (save_due()) save();
  }
  whole_ = true;
}

// ---- After a step ------------------------------------------------------------------------------

void Trainer::after_step(StepRecord record) {
  best_is_new_ = false;
  state_.pending_record = record;  // if it ends here, the resumed run does what follows
  whole_ = true;
  journal_.write_trust_ratios(record.step, model_.arena().table(), optimizer_.norms());
  if (evaluation_due(record.step) && !evaluate_into(record)) return;  // a signal came
  journal_.write(record);
  state_.pending_record.reset();
}

bool Trainer::evaluation_due(int64_t step) const {
  if (data().evaluation.empty() && !inputs_.score) return false;
  if (at_end_of_phase()) return true;
  return config_.evaluate_every > 0 && step % config_.evaluate_every == 0;
}

EvaluationOptions Trainer::evaluation(const TrainConfig& phase, int64_t max_batches) const {
  return {.micro_batch_size = phase.micro_batch_size,
          .token_capacity = phase.token_capacity,
          .max_batches = max_batches,
          .nsp = phase.nsp};
}

/// Whether there is a best evaluation on the data of this phase: figures on other data say nothing.
bool Trainer::best_is_comparable() const {
  if (!state_.best) return false;
  if (!state_.best->data.empty()) return state_.best->data == data().evaluation_fingerprint;
  size_t its_phase = 0;
  while (its_phase < phase_number() &&
         state_.phase_starts[its_phase + 1].data_steps < state_.best->step)
    ++its_phase;
  return phases_[its_phase].config.evaluation_data == phase().config.evaluation_data;
}

/// False if a signal came before the end.
bool Trainer::evaluate_into(StepRecord& record) {
  beat("evaluating");
  if (inputs_.score) {  // each rank scores all of it, so they come to each vote together
    const auto scores = inputs_.score(model_, [&] { return any_rank(ranks_, stop_requested()); });
    if (!scores) {
      agreed_.stop = true;
      return false;
    }
    record.scores = scores->json;
    journal_.log().info(fmt::format("step {} | eval | {}", record.step, scores->line));
    note_evaluation(record.step, scores->best_by, scores->value);
    return true;
  }
  for (const auto& [name, data] : data().evaluation) {
    const auto result =
        evaluate(model_, data, evaluation(phase().config, config_.evaluation_batches),
                 stop_requested, &ranks_);
    if (!result) {
      agreed_.stop = true;
      record.evaluations.clear();
      return false;
    }
    record.evaluations.emplace_back(name, *result);
  }
  note_evaluation(record.step, BestBy::mlm_loss, record.evaluations.front().second.mlm_loss);
  return true;
}

void Trainer::note_evaluation(int64_t step, BestBy by, double value) {
  const BestEvaluation now{step, value, data().evaluation_fingerprint, by};
  best_is_new_ = !best_is_comparable() || now.beats(*state_.best);
  if (best_is_new_) state_.best = now;
}

// ---- Saving ------------------------------------------------------------------------------------

bool Trainer::save_due() {
  if (is_over()) return false;  // end() saves
  const bool asked = ranks_.world() == 1 ? take_save_request() : std::exchange(agreed_.save, false);
  const bool regular = config_.save_every > 0 && state_.data_steps % config_.save_every == 0;
  return asked || regular || best_is_new_ || at_end_of_phase();
}

void Trainer::save() {
  if (saved_step_ == state_.data_steps) return;
  beat("saving");
  const double start = seconds_now();
  step_.gather_masters();
  if (ranks_.rank() != 0) {
    if (config_.shard_optimizer) optimizer_.state();  // rank 0's snapshot asks for it
    saved_step_ = state_.data_steps;
    return;
  }
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
  saved_step_.reset();
  fail<CheckpointError>("{}", *error);
}

/// Before an error ends the run. If this fails too, the log says so: the error is what matters.
void Trainer::save_the_last_whole_step() {
  if (!whole_ || state_.data_steps == 0 || ranks_.rank() != 0) return;
  if (config_.shard_optimizer && ranks_.world() > 1) return;  // rank 0 has only a part of it
  try {
    save_and_wait();
    journal_.log().info(fmt::format(
        "step {} of {} is saved; once the error's cause is fixed, go on with --resume auto",
        state_.data_steps, total_steps(phases_)));
  } catch (const std::exception& error) {
    journal_.log().error(error.what());
  }
}

/// A failed save is logged and training continues; two consecutive failures stop it.
void Trainer::note_save(const std::optional<std::string>& error) {
  failed_saves_ = error ? failed_saves_ + 1 : 0;
  if (!error) return;
  saved_step_.reset();
  journal_.log().error(*error);
  MB_CHECK_AS(CheckpointError, failed_saves_ < kFailedSavesInARow,
              "{} saves in a row failed; the last: {}", failed_saves_, *error);
}

TrainResult Trainer::end(TrainEnd how) {
  save_and_wait();
  const std::string signal = how != TrainEnd::signal ? ""
                             : stop_requested()      ? stop_signal_name()
                                                     : "a signal to another rank";
  TrainResult result{how, signal, state_.data_steps,
                     folder_.path() / fmt::format("checkpoint-{}", state_.data_steps)};
  const std::string why = how == TrainEnd::finished ? "done"
                          : how == TrainEnd::paused ? "stopped by --stop-after"
                                                    : signal;
  journal_.log().info(fmt::format("{}: {} holds step {} of {}{}", why, result.checkpoint.string(),
                                  state_.data_steps, total_steps(phases_),
                                  how == TrainEnd::finished ? "" : "; go on with --resume auto"));
  return result;
}

}  // namespace

TrainResult train(const TrainRequest& request) {
  set_num_threads(threads_of(request.config, request.launch));
  try {
    Trainer trainer(request);
    return trainer.run();
  } catch (const OutOfMemory& error) {  // the run's own memory is free again
    throw OutOfMemory(error.what() + advice_after_out_of_memory(request.config, request.open,
                                                                request.launch.world));
  }
}

}  // namespace minibert
