// resume.cpp: choosing a checkpoint, and reporting what differs.
#include "models/training/resume.h"

#include <algorithm>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/bert/hugging_face.h"
#include "models/text/casing.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

bool is_word(const std::string& resume) {
  return resume == "never" || resume == "auto" || resume == "must";
}

/// The model must have the shape that the checkpoint's has: with other heads the tensors would still
/// fit, and mean something else.
void check_shape(const fs::path& folder, const BertConfig& model) {
  const BertConfig saved = load_hugging_face_config(folder);
  std::vector<std::string> faults, flags;
  const auto compare = [&](const char* name, const char* flag, const auto& before,
                           const auto& now) {
    if (before == now) return;
    faults.push_back(fmt::format("{} was {} and is {}", name, before, now));
    if (*flag != 0) flags.push_back(fmt::format("{} {}", flag, before));
  };
  compare("num_hidden_layers", "--num-hidden-layers", saved.num_hidden_layers,
          model.num_hidden_layers);
  compare("hidden_size", "--hidden-size", saved.hidden_size, model.hidden_size);
  compare("num_attention_heads", "--num-attention-heads", saved.num_attention_heads,
          model.num_attention_heads);
  compare("intermediate_size", "--intermediate-size", saved.intermediate_size,
          model.intermediate_size);
  compare("max_position_embeddings", "--max-position-embeddings", saved.max_position_embeddings,
          model.max_position_embeddings);
  compare("hidden_act", "", saved.hidden_act, model.hidden_act);
  compare("type_vocab_size", "", saved.type_vocab_size, model.type_vocab_size);
  compare("layer_norm_eps", "", saved.layer_norm_eps, model.layer_norm_eps);
  compare("pad_token_id", "", saved.pad_token_id, model.pad_token_id);
  MB_CHECK(
      faults.empty(),
      "{}: holds a model of another shape: {}. Resume with {}, or start a new run in another "
      "--output-dir.",
      folder.string(), fmt::join(faults, "; "),
      flags.empty() ? "the --init-from of that run" : fmt::format("{}", fmt::join(flags, " ")));
}

/// The text must become the same words as in the run that saved the checkpoint.
void check_tokenizer(const fs::path& folder, const TokenizerOptions& now) {
  const TokenizerOptions saved = load_tokenizer_config(folder);
  MB_CHECK(same_words(saved, now),
           "{}: its tokenizer is {}, but that of the data is {}: tokens would not mean what the "
           "model learnt. Resume with the data of that run, or start a new run in another "
           "--output-dir.",
           folder.string(), describe(saved), describe(now));
}

/// The phases that the checkpoint has begun must be those of this configuration.
void check_phases_of(const TrainerState& state, const std::vector<Phase>& phases) {
  const std::vector<PhaseStart>& starts = state.phase_starts;
  constexpr const char* kFix =
      "Resume with the [[phase]] tables of that run (its config.resolved.toml), of which those "
      "that it "
      "has not begun may be changed, or start a new run in another --output-dir";
  MB_CHECK(starts.size() <= phases.size(),
           "the checkpoint at step {} is in phase {}, but the configuration has {}. {}.",
           state.data_steps, starts.size(), phases.size(), kFix);
  for (size_t i = 0; i < starts.size(); ++i)
    MB_CHECK(
        starts[i].applied_steps == phases[i].first_step,
        "{} began after {} applied steps in the checkpoint, but after {} in the configuration. "
        "{}.",
        phases[i].label(), starts[i].applied_steps, phases[i].first_step, kFix);
  const bool last = starts.size() == phases.size();  // check_end() has it
  MB_CHECK(
      last || state.applied_steps <= phases[starts.size() - 1].end(),
      "the checkpoint has {} applied steps and is in {}, which ends after {}: the next phase does "
      "not follow it. {}.",
      state.applied_steps, phases[starts.size() - 1].label(), phases[starts.size() - 1].end(),
      kFix);
}

/// There must be a step left, or none but the last.
void check_end(const TrainConfig& config, const TrainerState& state,
               const std::vector<Phase>& phases) {
  const int64_t end = total_steps(phases), done = state.applied_steps;
  const Phase& last = phases.back();
  MB_CHECK(done <= end,
           "the checkpoint holds {} applied steps, expected at most {} ({}train.max_steps is {}): "
           "the run would have ended before. Use {} for the end where it stands, or more; or "
           "resume an earlier checkpoint with --resume PATH.",
           done, end, phase_prefix(last.config), last.steps,
           flag_text(last.config, "max_steps", std::to_string(last.steps + done - end)));
  MB_CHECK(config.stop_after == 0 || state.data_steps <= config.stop_after,
           "the checkpoint holds step {}, expected at most train.stop_after = {}. Leave out "
           "--stop-after, or give a later step.",
           state.data_steps, config.stop_after);
}

/// What a launch asks of a checkpoint.
struct GoingOn {
  const TrainConfig& config;
  const RunInputs& inputs;
  const RunSettings& settings;
  std::vector<std::string>& notes;
};

/// The state of a checkpoint that this launch can go on from, with the settings that it was saved with.
/// Token ids must mean the same in it and in the data.
TrainerState check_checkpoint(const fs::path& folder, const GoingOn& how) {
  how.inputs.check_vocabulary(folder / "vocab.txt");
  check_tokenizer(folder, how.inputs.tokenizer.options);
  check_shape(folder, how.inputs.model);
  const fs::path file = folder / "trainer_state.json";
  TrainerState state = parse_trainer_state(read_text(file), file.string());
  const std::vector<Phase> phases = phases_of(how.config);
  check_phases_of(state, phases);
  check_end(how.config, state, phases);
  state.settings = former_settings(folder, state, how.notes);
  check_changes(setting_changes(state.settings, how.settings, state), folder);
  return state;
}

/// Loads a verified checkpoint, once it is clear that its tensors are what this launch expects.
TrainerState load(const fs::path& folder, const GoingOn& how, BertForPreTraining& model,
                  Optimizer& optimizer) {
  TrainerState state = check_checkpoint(folder, how);
  load_checkpoint(folder, model, optimizer);
  return state;
}

/// The newest checkpoint of the run that is complete and loads.
std::optional<TrainerState> newest_that_loads(const CheckpointStore& store, const GoingOn& how,
                                              BertForPreTraining& model, Optimizer& optimizer,
                                              std::vector<std::string>& complaints) {
  for (const StoredCheckpoint& candidate : store.list()) {
    try {
      verify_checkpoint(candidate.path);
      return load(candidate.path, how, model, optimizer);
    } catch (const CheckpointError& error) {
      complaints.push_back(error.what());
    } catch (const NumericError& error) {
      complaints.push_back(error.what());
    }
  }
  return std::nullopt;
}

[[noreturn]] void fail_without_checkpoint(const TrainConfig& config) {
  fail<CheckpointError>(
      "{}: has no checkpoint, expected one to resume from (--resume must). Use --resume auto to "
      "start from scratch if there is none.",
      config.output_dir);
}

[[noreturn]] void fail_without_good_one(const TrainConfig& config,
                                        const std::vector<std::string>& complaints) {
  fail<CheckpointError>(
      "{}: none of its checkpoints can be used: {}. To start a new run, choose another "
      "--output-dir.",
      config.output_dir, fmt::join(complaints, "; "));
}

}  // namespace

bool may_hold_a_run(const TrainConfig& config) {
  if (config.resume == "never") return false;
  if (is_word(config.resume)) return true;
  MB_CHECK(fs::exists(config.resume),
           "checkpoint.resume is \"{}\", expected never, auto, must, or the path of a checkpoint "
           "(this path does not exist).{}",
           config.resume, did_you_mean(config.resume, {"never", "auto", "must"}));
  const fs::path checkpoint = fs::weakly_canonical(config.resume);
  const fs::path folder = fs::weakly_canonical(config.output_dir);
  return checkpoint == folder || checkpoint.parent_path() == folder;
}

TrainerState resume_or_start(const TrainConfig& config, const RunInputs& inputs,
                             const RunSettings& now, CheckpointStore& store,
                             BertForPreTraining& model, Optimizer& optimizer,
                             std::vector<std::string>& notes) {
  if (config.resume == "never") return {};
  store.remove_leftovers();
  const GoingOn how{config, inputs, now, notes};
  std::vector<std::string> complaints;
  std::optional<TrainerState> state;
  if (is_word(config.resume)) {
    const bool any = !store.list().empty();
    state = newest_that_loads(store, how, model, optimizer, complaints);
    if (!state && any) fail_without_good_one(config, complaints);
    if (!state && config.resume == "must") fail_without_checkpoint(config);
  } else {
    state = load(find_checkpoint(config.resume, complaints), how, model, optimizer);
  }
  for (const std::string& complaint : complaints)
    notes.push_back("skipped a checkpoint: " + complaint);
  if (!state) return {};
  for (const std::string& name : store.set_aside_after(state->data_steps))
    notes.push_back(fmt::format("a later checkpoint was set aside as {}", name));
  store.point("latest", state->data_steps);
  if (state->best) store.point("best", state->best->step);
  return *state;
}

std::vector<std::string> check_start(const TrainConfig& config, const RunInputs& inputs,
                                     const TaskSettings& task) {
  RunFolder::check(config.output_dir, may_hold_a_run(config));
  std::vector<std::string> notes, complaints;
  check_free_space(
      config, checkpoint_bytes(bert_parameters(inputs.model, inputs.parts), moment_count(config)),
      config.output_dir, notes);
  notes.clear();
  if (config.resume == "never") return notes;
  fs::path folder;
  if (is_word(config.resume)) {
    FileSystem files;
    const CheckpointStore store(config.output_dir, files);
    const bool any = fs::exists(config.output_dir) && !store.list().empty();
    if (!any && config.resume == "must") fail_without_checkpoint(config);
    if (!any) return notes;
    const std::optional<StoredCheckpoint> newest = store.newest_good(complaints);
    if (!newest) fail_without_good_one(config, complaints);
    folder = newest->path;
  } else {
    folder = find_checkpoint(config.resume, complaints);
  }
  const RunSettings now = settings_of(config, inputs, task);
  const TrainerState state = check_checkpoint(folder, {config, inputs, now, notes});
  TrainerState next = state;
  next.settings = now;
  for (const std::string& line : what_changed(state, next)) notes.push_back(line);
  return notes;
}

std::vector<std::string> what_changed(const TrainerState& saved, const TrainerState& now) {
  const std::vector<SettingChange> changes = setting_changes(saved.settings, now.settings, saved);
  std::vector<std::string> lines = describe(changes);
  std::ranges::copy(consequences(changes, saved.settings, now.settings, saved),
                    std::back_inserter(lines));
  const std::string machine = differences(saved.environment, now.environment);
  if (!machine.empty())
    lines.push_back("changed since the checkpoint: " + machine +
                    ". The run continues; its bits may differ from those of an undisturbed run.");
  return lines;
}

void check_free_space(const TrainConfig& config, int64_t bytes, const fs::path& folder,
                      std::vector<std::string>& notes) {
  const int64_t free = free_bytes(folder);
  constexpr double kMegabyte = 1 << 20;
  MB_CHECK_AS(CheckpointError, free >= bytes,
              "{}: the disk has {:.0f} MB free, expected at least {:.0f} MB for one checkpoint. "
              "Free some space or choose another --output-dir.",
              folder.string(), static_cast<double>(free) / kMegabyte,
              static_cast<double>(bytes) / kMegabyte);
  const int64_t all = bytes * (config.keep_last + 2);  // the best one, and one being written
  if (free < all)
    notes.push_back(fmt::format(
        "{}: the disk has {:.0f} MB free; the last {} checkpoints, the best and the one "
        "being written will need {:.0f} MB",
        folder.string(), static_cast<double>(free) / kMegabyte, config.keep_last,
        static_cast<double>(all) / kMegabyte));
}

}  // namespace minibert
