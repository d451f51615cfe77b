// verify_resume.cpp: `minibert verify-resume`: whether a run that is killed goes on as if nothing had
// happened, tried with a user's own settings on a user's own machine. A run goes undisturbed to its
// end; others like it get SIGKILL at random moments and are resumed, then everything is compared.
// Ranks are processes of this program (dist/spawn.h). tools/kill_test does the like for developers,
// and aims at the moments inside a save. Try: minibert verify-resume --help.
// Easy to break: a killed run must be copied before it is resumed more than once, and this process
// must start no thread (dist/spawn.h).
// Test: ctest -R verify_resume.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "dist/spawn.h"
#include "models/training/checkpoint_store.h"
#include "models/training/compare_runs.h"
#include "models/training/file_system.h"
#include "models/training/phases.h"
#include "models/training/run_setup.h"
#include "tools/minibert/train_flags.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kSteps = 20;  // of the run, unless --stop-after says otherwise
constexpr int64_t kSaves = 5;   // in it, at least
constexpr int kLost = static_cast<int>(ErrorCategory::communication);  // how killed ranks end
constexpr int kSavedAfterSignal = 75;

struct Options {
  TrainFlags settings;
  std::vector<int> ranks;
  int kills = 6;
  uint64_t kill_seed = 0;
  bool dry_run = false, json = false;
};

// ---- What is tried -----------------------------------------------------------------------------

/// A run that is killed, and on how many ranks it goes on.
struct Trial {
  int number;  // from 1
  int ranks;
  std::optional<int> victim;  // a rank; nothing: all at once, as where the power fails
  double moment;              // a share of the undisturbed run's time
  std::vector<int> resumed_on;
};

std::string ranks_text(int ranks) {
  return ranks == 1 ? "1 rank" : fmt::format("{} ranks", ranks);
}

/// "all", "rank 1"
std::string victim_text(const Trial& trial) {
  return trial.victim ? fmt::format("rank {}", *trial.victim) : "all";
}

std::vector<Trial> plan_trials(const Options& options, bool deterministic) {
  std::mt19937_64 draw(options.kill_seed);
  const auto below = [&](double limit) {  // the same on every machine
    return limit * static_cast<double>(draw() >> 11) * 0x1p-53;
  };
  std::vector<Trial> trials;
  for (int i = 0; i < options.kills; ++i) {
    Trial trial;
    trial.number = i + 1;
    trial.ranks = options.ranks[static_cast<size_t>(i) % options.ranks.size()];
    trial.moment = 0.05 + below(0.9);
    const int victim = static_cast<int>(below(trial.ranks));
    if (trial.ranks > 1 && below(2) < 1) trial.victim = victim;
    trial.resumed_on = {trial.ranks};
    for (const int other : options.ranks)
      if (deterministic && other != trial.ranks) trial.resumed_on.push_back(other);
    trials.push_back(trial);
  }
  return trials;
}

/// The user's settings, cut to a short run that saves often.
ConfigBuilder short_run(ConfigBuilder builder) {
  const auto set = [&](const std::string& name, int64_t value) {
    for (const ConfigKey& key : config_keys())
      if (key.name() == name) builder.apply_text(key, std::to_string(value), "verify-resume");
  };
  if (builder.config().stop_after == 0)
    set("train.stop_after", std::min(kSteps, total_steps(phases_of(builder.config()))));
  const int64_t steps = builder.config().stop_after, often = std::max<int64_t>(1, steps / kSaves);
  if (builder.config().save_every == 0 || builder.config().save_every > often)
    set("checkpoint.save_every", often);
  return builder;
}

/// A folder that didn't exist, below the run's or, if there is none, among the temporary ones.
class Scratch {
 public:
  explicit Scratch(const std::string& output_dir) {
    const fs::path above = output_dir.empty() ? fs::temp_directory_path() : fs::path(output_dir);
    std::error_code error;
    if (fs::create_directories(above, error)) made_ = above;
    std::string name = (above / "verify-resume-XXXXXX").string();
    MB_CHECK(::mkdtemp(name.data()), "{}: a folder can't be made there. Check --output-dir.",
             above.string());
    path_ = name;
  }
  const fs::path& path() const { return path_; }
  /// Otherwise it stays, to be looked at.
  void remove() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    if (!made_.empty()) fs::remove(made_, ignored);  // if it is empty
  }

 private:
  fs::path path_, made_;
};

// ---- Runs --------------------------------------------------------------------------------------

class Verifier {
 public:
  Verifier(const Options& options, const ConfigBuilder& builder)
      : options_(options),
        config_(builder.config()),
        trials_(plan_trials(options, config_.deterministic)),
        scratch_(config_.output_dir) {
    FileSystem().replace_text(settings(), builder.to_toml());
    // All that they say is in the file; else they would win over it.
    for (const ConfigKey& key : config_keys()) ::unsetenv(key.environment().c_str());
    ::unsetenv("MINIBERT_PHASE");
  }

  void run() {
    for (const int ranks : options_.ranks) run_undisturbed(ranks);
    if (!options_.json) print_head();
    for (const Trial& trial : trials_) try_one(trial);
    end();
  }

 private:
  struct Undisturbed {
    fs::path run;
    double seconds;
  };

  fs::path settings() const { return scratch_.path() / "settings.toml"; }
  fs::path printed() const { return scratch_.path() / "printed.txt"; }

  /// Exit code of a run of ranks.
  int train(const fs::path& run, int ranks, const std::string& resume,
            std::optional<PlannedKill> kill = {}) {
    const int code = spawn_ranks({.ranks = ranks,
                                  .command = {"minibert", "train", "--config", settings().string(),
                                              "--output-dir", run.string(), "--resume", resume},
                                  .patience = 1.5 * config_.communication_timeout + 30,
                                  .output = printed().string(),
                                  .kill = kill});
    if (code == kSavedAfterSignal) {  // somebody wants it to stop
      scratch_.remove();
      throw CLI::RuntimeError(code);
    }
    return code;
  }

  /// Runs to the end. What goes wrong there is the run's own fault, so its code is ours.
  void train_to_the_end(const fs::path& run, int ranks, const std::string& resume) {
    const int code = train(run, ranks, resume);
    if (code != 0) end_with(code, ranks);
  }

  [[noreturn]] void end_with(int code, int ranks) {
    std::string text = last_lines();
    text += fmt::format(
        "error: verify-resume: a run on {} that nobody had killed ended with exit code {} "
        "(above)\n",
        ranks_text(ranks), code);
    if (undisturbed_.empty()) {
      scratch_.remove();  // nothing of interest
    } else {
      text += fmt::format("Its files are in {}\n", scratch_.path().string());
    }
    std::fputs(text.c_str(), stderr);
    throw CLI::RuntimeError(code);
  }

  std::string last_lines() const {
    constexpr size_t kCharacters = 2000;
    const std::string text = read_text(printed());
    return text.substr(text.size() - std::min(text.size(), kCharacters));
  }

  void run_undisturbed(int ranks) {
    const fs::path run = scratch_.path() / fmt::format("undisturbed-{}", ranks);
    const double begin = seconds_now();
    train_to_the_end(run, ranks, "never");
    const double seconds = seconds_now() - begin;
    undisturbed_[ranks] = {run, seconds};
    const RunState state = newest_state(run).value();
    if (!options_.json)
      fmt::print("undisturbed on {}: {} steps in {:.1f} s, weights {}, moments {}\n",
                 ranks_text(ranks), state.step, seconds, state.weights, state.moments);
    const fs::path& first = undisturbed_.at(options_.ranks[0]).run;
    if (config_.deterministic && run != first)
      note(first_difference(run, first, kRankLossTolerance),
           fmt::format("undisturbed on {}, from the one on {}", ranks_text(ranks),
                       ranks_text(options_.ranks[0])));
  }

  /// Counts a comparison.
  void note(const std::optional<std::string>& difference, const std::string& which) {
    ++compared_;
    if (!difference) return;
    if (different_++ == 0) first_ = which + ": " + *difference;
  }

  void try_one(const Trial& trial) {
    const fs::path killed = scratch_.path() / fmt::format("killed-{}", trial.number);
    const std::optional<double> seconds = kill_one(trial, killed);
    const std::optional<int64_t> found = newest_step(killed);
    for (const int ranks : trial.resumed_on) {
      const fs::path run =
          scratch_.path() / fmt::format("killed-{}-resumed-on-{}", trial.number, ranks);
      if (fs::exists(killed))
        fs::copy(killed, run, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      train_to_the_end(run, ranks, "auto");
      // Losses of ranks are added up in another order; nothing else depends on their number.
      const auto difference = first_difference(run, undisturbed_.at(ranks).run,
                                               ranks == trial.ranks ? 0 : kRankLossTolerance);
      print(trial, seconds, found, ranks, difference);
      note(difference, fmt::format("kill {} ({}, {} killed), resumed on {}", trial.number,
                                   ranks_text(trial.ranks), victim_text(trial), ranks_text(ranks)));
      if (!difference) fs::remove_all(run);
    }
    if (different_ == 0) fs::remove_all(killed);
  }

  /// Seconds until the kill; nothing if the run reached its end first, three times. Errors: those of
  /// a run that ended by itself.
  std::optional<double> kill_one(const Trial& trial, const fs::path& run) {
    double moment = trial.moment * undisturbed_.at(trial.ranks).seconds;
    for (int attempt = 0; attempt < 3; ++attempt, moment /= 2) {
      fs::remove_all(run);
      const int code = train(run, trial.ranks, "never", PlannedKill{moment, trial.victim});
      if (code == kLost) return moment;
      if (code != 0) end_with(code, trial.ranks);
    }
    return std::nullopt;
  }

  static std::optional<int64_t> newest_step(const fs::path& run) {
    if (!fs::exists(run)) return std::nullopt;
    FileSystem files;
    std::vector<std::string> complaints;
    const auto checkpoint = CheckpointStore(run, files).newest_good(complaints);
    return checkpoint ? std::optional(checkpoint->step) : std::nullopt;
  }

  // ---- Output ----

  void print_head() const {
    fmt::print("{} kills, --kill-seed {}\n{:>4}  {:>5}  {:<8}  {:>8}  {:>10}  {:>10}  {}\n",
               options_.kills, options_.kill_seed, "kill", "ranks", "killed", "after s",
               "checkpoint", "resumed on", "result");
  }

  void print(const Trial& trial, std::optional<double> seconds, std::optional<int64_t> found,
             int ranks, const std::optional<std::string>& difference) const {
    if (!options_.json) {
      fmt::print("{:>4}  {:>5}  {:<8}  {:>8}  {:>10}  {:>10}  {}\n", trial.number, trial.ranks,
                 victim_text(trial), seconds ? fmt::format("{:.2f}", *seconds) : "ended",
                 found ? fmt::format("step {}", *found) : "none", ranks,
                 difference.value_or("equal"));
      std::fflush(stdout);
      return;
    }
    nlohmann::ordered_json line = {
        {"kill", trial.number}, {"ranks", trial.ranks},       {"killed", victim_text(trial)},
        {"seconds", nullptr},   {"checkpoint_step", nullptr}, {"resumed_on", ranks},
        {"equal", !difference}, {"difference", nullptr},      {"kill_seed", options_.kill_seed}};
    if (seconds) line["seconds"] = *seconds;
    if (found) line["checkpoint_step"] = *found;
    if (difference) line["difference"] = *difference;
    fmt::print("{}\n", line.dump());
  }

  void end() {
    MB_CHECK_AS(CheckpointError, different_ == 0,
                "verify-resume: {} of {} runs differ from the undisturbed one; the first: "
                "{}. The runs are in {}. Try --kill-seed {} again; a difference that comes back is "
                "a bug: please report it.",
                different_, compared_, first_, scratch_.path().string(), options_.kill_seed);
    if (!options_.json)
      fmt::print(
          "{} runs compared: each has the undisturbed run's weights, moments, state and "
          "curve\n",
          compared_);
    scratch_.remove();
  }

  const Options& options_;
  const TrainConfig config_;
  const std::vector<Trial> trials_;
  Scratch scratch_;
  std::map<int, Undisturbed> undisturbed_;  // by number of ranks
  int compared_ = 0, different_ = 0;
  std::string first_;  // difference
};

void print_plan(const Options& options, const TrainConfig& config) {
  TrainConfig one_run = config;
  if (one_run.output_dir.empty()) one_run.output_dir = fs::temp_directory_path() / "run";
  open_inputs(one_run);  // what is wrong with settings or data is said here
  fmt::print("{} steps, a checkpoint every {}; --kill-seed {}\n", config.stop_after,
             config.save_every, options.kill_seed);
  for (const Trial& trial : plan_trials(options, config.deterministic))
    fmt::print("kill {}: {}, {} at {:.0f} % of the time; resumed on {}\n", trial.number,
               ranks_text(trial.ranks), victim_text(trial), 100 * trial.moment,
               fmt::join(trial.resumed_on, ", "));
}

void check(const Options& options, const TrainConfig& config) {
  for (const int ranks : options.ranks)
    MB_CHECK(ranks >= 1 && ranks <= 1024, "verify-resume: --ranks has {}, expected 1 to 1024",
             ranks);
  MB_CHECK(config.resume == "never",
           "verify-resume: --resume is {}, expected never: it starts and resumes runs of its own",
           config.resume);
}

void run(Options options) {
  const ConfigBuilder builder = short_run(options.settings.resolve());
  const TrainConfig& config = builder.config();
  if (options.ranks.empty()) options.ranks = {1};
  if (options.kill_seed == 0) options.kill_seed = 1 + std::random_device()() % 1000000;
  check(options, config);
  if (options.dry_run) return print_plan(options, config);
  Verifier(options, builder).run();
}

}  // namespace

void add_verify_resume_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "verify-resume",
      "Kill short runs of these settings at random moments, resume them, and compare weights, "
      "moments, state and curve with an undisturbed run. Flags of `train`; exit code 7 if anything "
      "differs");
  verb->add_option("--ranks", options->ranks,
                   "Numbers of ranks on this machine, such as 1,2,4: kills take them in turn; with "
                   "--deterministic each killed run is resumed on all of them [1]")
      ->delimiter(',');
  verb->add_option("--kills", options->kills, "Runs that are killed")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_option("--kill-seed", options->kill_seed,
                   "Names the moments of the kills, and who is killed; 0: a new one, printed")
      ->capture_default_str();
  verb->add_flag("--dry-run", options->dry_run, "Check settings and data, print the kills");
  verb->add_flag("--json", options->json, "Print one JSON object per resumed run");
  options->settings.add_to(*verb);
  verb->callback([options] { run(*options); });
}

}  // namespace minibert
