// training_verb.cpp: flags, ranks, exit code.
#include "tools/minibert/training_verb.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

#include "tools/minibert/local_ranks.h"

namespace minibert {
namespace {

constexpr int kSavedAfterSignal = 75;  // EX_TEMPFAIL: a scheduler should start it again

/// --gpus N is --nproc N with --device cuda.
void choose_gpus(int gpus, ConfigBuilder& builder) {
  if (gpus == 0) return;
  const ConfigKey& key = *std::ranges::find(config_keys(), "train.device", &ConfigKey::name);
  const std::string& device = builder.config().device;
  MB_CHECK(builder.origin(key.name()) != key.flag() || device == "cuda",
           "--gpus is {} with --device {}, expected cuda. Leave out one of them.", gpus, device);
  builder.apply_text(key, "cuda", "--gpus");
}

}  // namespace

void TrainingVerb::add_to(CLI::App& verb, const char* dry_run_help) {
  settings.add_to(verb);
  verb.add_flag("--print-config", print_config, "Print the resolved settings as TOML and exit");
  verb.add_flag("--dry-run", dry_run, dry_run_help);
  verb.add_option("--nproc", ranks,
                  "Processes that share the work on this machine: they train the same run, faster")
      ->check(CLI::Range(1, 1024));
  verb.add_option("--gpus", gpus, "The same on as many GPUs: --nproc with --device cuda")
      ->check(CLI::Range(1, 1024))
      ->excludes("--nproc");
  verb.add_flag("--json", json, "Print one JSON object per log line on standard output");
}

ConfigBuilder TrainingVerb::resolve() const {
  ConfigBuilder builder = settings.resolve();
  choose_gpus(gpus, builder);
  return builder;
}

Launch TrainingVerb::start(const ConfigBuilder& builder,
                           const std::vector<std::string>& arguments) const {
  const Launch launch = launch_here();
  start_ranks(std::max(ranks, gpus), launch, arguments,
              1.5 * builder.config().communication_timeout + 30, gpus > 0 ? "--gpus" : "--nproc");
  return launch;
}

void run_training(const TrainRequest& request) {
  const TrainResult result = train(request);
  // A run survives its standard output: what was printed is also in its folder.
  if (std::ferror(stdout) && !std::freopen("/dev/null", "w", stdout)) std::clearerr(stdout);
  if (result.end == TrainEnd::signal) throw CLI::RuntimeError(kSavedAfterSignal);
}

}  // namespace minibert
