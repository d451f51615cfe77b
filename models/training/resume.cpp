// resume.cpp: choosing a checkpoint, and reporting what differs.
#include "models/training/resume.h"

#include "core/error.h"
#include "core/nearest_name.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

bool is_word(const std::string& resume) {
  return resume == "never" || resume == "auto" || resume == "must";
}

/// Loads a verified checkpoint. Token ids must mean the same in it and in the data.
TrainerState load(const fs::path& folder, const RunInputs& inputs, BertForPreTraining& model,
                  Optimizer& optimizer) {
  inputs.check_vocabulary(folder / "vocab.txt");
  return load_checkpoint(folder, model, optimizer);
}

/// The newest checkpoint of the run that is complete and loads.
std::optional<TrainerState> newest_that_loads(const CheckpointStore& store, const RunInputs& inputs,
                                              BertForPreTraining& model, Optimizer& optimizer,
                                              std::vector<std::string>& complaints) {
  for (const StoredCheckpoint& candidate : store.list()) {
    try {
      verify_checkpoint(candidate.path);
      return load(candidate.path, inputs, model, optimizer);
    } catch (const CheckpointError& error) {
      complaints.push_back(error.what());
    } catch (const NumericError& error) {
      complaints.push_back(error.what());
    }
  }
  return std::nullopt;
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
  const bool last = starts.size() == phases.size();  // a run may be cut short, as ever
  MB_CHECK(
      last || state.applied_steps <= phases[starts.size() - 1].end(),
      "the checkpoint has {} applied steps and is in {}, which ends after {}: the next phase does "
      "not follow it. {}.",
      state.applied_steps, phases[starts.size() - 1].label(), phases[starts.size() - 1].end(),
      kFix);
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
                             CheckpointStore& store, BertForPreTraining& model,
                             Optimizer& optimizer, std::vector<std::string>& notes) {
  if (config.resume == "never") return {};
  store.remove_leftovers();
  std::vector<std::string> complaints;
  std::optional<TrainerState> state;
  if (is_word(config.resume)) {
    const bool any = !store.list().empty();
    state = newest_that_loads(store, inputs, model, optimizer, complaints);
    if (!state && any) fail_without_good_one(config, complaints);
    if (!state && config.resume == "must") fail_without_checkpoint(config);
  } else {
    state = load(find_checkpoint(config.resume, complaints), inputs, model, optimizer);
  }
  for (const std::string& complaint : complaints)
    notes.push_back("skipped a checkpoint: " + complaint);
  if (!state) return {};
  check_phases_of(*state, phases_of(config));
  for (const std::string& name : store.set_aside_after(state->data_steps))
    notes.push_back(fmt::format("a later checkpoint was set aside as {}", name));
  store.point("latest", state->data_steps);
  if (state->best) store.point("best", state->best->step);
  return *state;
}

void check_start(const TrainConfig& config, const RunInputs& inputs) {
  RunFolder::check(config.output_dir, may_hold_a_run(config));
  std::vector<std::string> ignored, complaints;
  check_free_space(
      config, checkpoint_bytes(bert_parameters(inputs.model, inputs.parts), moment_count(config)),
      config.output_dir, ignored);
  if (config.resume == "never") return;
  if (!is_word(config.resume)) {
    find_checkpoint(config.resume, complaints);
    return;
  }
  FileSystem files;
  const CheckpointStore store(config.output_dir, files);
  const bool any = fs::exists(config.output_dir) && !store.list().empty();
  if (any && !store.newest_good(complaints)) fail_without_good_one(config, complaints);
  if (!any && config.resume == "must") fail_without_checkpoint(config);
}

std::vector<std::string> what_changed(const TrainerState& saved, const TrainerState& now) {
  std::vector<std::string> lines;
  const auto compare = [&lines](const char* what, const auto& before, const auto& after) {
    if (before != after)
      lines.push_back(
          fmt::format("{} was {} in the checkpoint and is {} now: the run continues, but not as it "
                      "would have",
                      what, before, after));
  };
  compare("train.seed", saved.seed, now.seed);
  compare("train.global_batch_size", saved.global_batch_size, now.global_batch_size);
  compare("train.precision", saved.precision, now.precision);
  compare("optim.optimizer", saved.optimizer, now.optimizer);
  compare("the training data's checksum", saved.data_fingerprint, now.data_fingerprint);
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
