// resume.cpp: choosing a checkpoint, and saying what is different.
#include "models/training/resume.h"

#include "core/error.h"
#include "core/nearest_name.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

bool is_word(const std::string& resume) {
  return resume == "never" || resume == "auto" || resume == "must";
}

/// The newest of the run's own checkpoints that is whole and loads.
std::optional<TrainerState> newest_that_loads(const CheckpointStore& store,
                                              BertForPreTraining& model, Optimizer& optimizer,
                                              std::vector<std::string>& complaints) {
  for (const StoredCheckpoint& candidate : store.list()) {
    try {
      verify_checkpoint(candidate.path);
      return load_checkpoint(candidate.path, model, optimizer);
    } catch (const CheckpointError& error) {
      complaints.push_back(error.what());
    } catch (const NumericError& error) {
      complaints.push_back(error.what());
    }
  }
  return std::nullopt;
}

/// The checkpoint that a path names: one of the run's own, or another run's.
TrainerState from_path(const std::string& path, BertForPreTraining& model, Optimizer& optimizer,
                       std::vector<std::string>& complaints) {
  MB_CHECK(fs::exists(path),
           "checkpoint.resume is \"{}\", expected never, auto, must, or the path of a checkpoint "
           "(there is none of that name).{}",
           path, did_you_mean(path, {"never", "auto", "must"}));
  return load_checkpoint(find_checkpoint(path, complaints), model, optimizer);
}

}  // namespace

bool may_hold_a_run(const TrainConfig& config) {
  if (config.resume == "never") return false;
  if (is_word(config.resume)) return true;
  const fs::path checkpoint = fs::weakly_canonical(config.resume);
  const fs::path folder = fs::weakly_canonical(config.output_dir);
  return checkpoint == folder || checkpoint.parent_path() == folder;
}

TrainerState resume_or_start(const TrainConfig& config, CheckpointStore& store,
                             BertForPreTraining& model, Optimizer& optimizer,
                             std::vector<std::string>& notes) {
  if (config.resume == "never") return {};
  store.remove_leftovers();
  std::vector<std::string> complaints;
  std::optional<TrainerState> state;
  if (is_word(config.resume)) {
    const bool any = !store.list().empty();
    state = newest_that_loads(store, model, optimizer, complaints);
    MB_CHECK_AS(CheckpointError, state || !any,
                "{}: none of its checkpoints can be used: {}. To start anew, choose another "
                "--output-dir.",
                config.output_dir, fmt::join(complaints, "; "));
    MB_CHECK_AS(CheckpointError, state || config.resume == "auto",
                "{}: has no checkpoint, expected one to go on from (--resume must). Use --resume "
                "auto to start where there is none.",
                config.output_dir);
  } else {
    state = from_path(config.resume, model, optimizer, complaints);
  }
  for (const std::string& complaint : complaints)
    notes.push_back("passed over a checkpoint: " + complaint);
  if (!state) return {};
  for (const std::string& name : store.set_aside_after(state->data_steps))
    notes.push_back(fmt::format("a later checkpoint was set aside as {}", name));
  store.point("latest", state->data_steps);
  if (state->best) store.point("best", state->best->step);
  return *state;
}

std::vector<std::string> what_changed(const TrainerState& saved, const TrainerState& now) {
  std::vector<std::string> lines;
  const auto compare = [&lines](const char* what, const auto& before, const auto& after) {
    if (before != after)
      lines.push_back(
          fmt::format("{} was {} in the checkpoint and is {} now: the run goes on, but "
                      "not as it would have",
                      what, before, after));
  };
  compare("train.seed", saved.seed, now.seed);
  compare("train.global_batch_size", saved.global_batch_size, now.global_batch_size);
  compare("optim.optimizer", saved.optimizer, now.optimizer);
  compare("the training data's checksum", saved.data_fingerprint, now.data_fingerprint);
  const std::string machine = differences(saved.environment, now.environment);
  if (!machine.empty())
    lines.push_back("changed since the checkpoint: " + machine +
                    ". The run goes on; its bits may differ from an undisturbed run's.");
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
    notes.push_back(
        fmt::format("{}: the disk has {:.0f} MB free; {} checkpoints, the best and one "
                    "being written will take {:.0f} MB",
                    folder.string(), static_cast<double>(free) / kMegabyte, config.keep_last,
                    static_cast<double>(all) / kMegabyte));
}

}  // namespace minibert
