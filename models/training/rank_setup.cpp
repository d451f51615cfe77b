// rank_setup.cpp: from settings to the ranks' group, and to the threads of one rank.
#include "models/training/rank_setup.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <unistd.h>

#include "core/error.h"
#include "core/parallel.h"
#include "models/training/environment.h"
#include "models/training/phases.h"

namespace minibert {
namespace {

/// Of the data of all phases.
std::string fingerprint(const RunInputs& inputs) {
  std::string text;
  for (const PhaseInputs& phase : inputs.phases)
    text += (text.empty() ? "" : " ") + phase.fingerprint;
  return text;
}

/// What must be the same on every rank.
std::vector<Fingerprint> fingerprints(const TrainConfig& config, const RunInputs& inputs) {
  const RunEnvironment here = current_environment();
  std::vector<Fingerprint> prints = {{"version", here.version},
                                     {"commit", here.commit},
                                     {"training data's checksum", fingerprint(inputs)},
                                     {"instruction set", here.simd},
                                     {"GEMM", here.gemm}};
  for (const ConfigKey& key : config_keys()) prints.push_back({key.name(), toml_text(key, config)});
  for (const Phase& phase : phases_of(config))
    for (const ConfigKey& key : phase_keys())
      prints.push_back({phase.label() + "." + key.key, toml_text(key, phase.config)});
  return prints;
}

/// Who sums over ranks, as WorldOptions has it.
std::string backend_of(const TrainConfig& config) {
  const bool cuda = config.device == "cuda";
  const std::string& asked = config.collectives;
  MB_CHECK(asked != (cuda ? "gloo" : "nccl"),
           "ranks.collectives is {} with train.device {}, expected {} or ring. Use --collectives "
           "auto.",
           asked, config.device, cuda ? "nccl" : "gloo");
  if (asked == "auto") return cuda ? "nccl" : "gloo";
  return cuda && asked == "ring" ? "nccl-ring" : asked;
}

}  // namespace

WorldOptions world_options(const TrainConfig& config, const Launch& launch,
                           const RunInputs& inputs) {
  if (launch.world == 1) return {};
  return {.backend = backend_of(config),
          .fingerprints = fingerprints(config, inputs),
          .interface = config.interface,
          .timeout = config.communication_timeout,
          .start_timeout = config.start_timeout,
          .say = [rank = launch.rank](const std::string& line) {
            std::fputs(fmt::format("rank {}: {}\n", rank, line).c_str(), stderr);
          }};
}

int threads_of(const TrainConfig& config, const Launch& launch) {
  if (config.threads > 0) return static_cast<int>(config.threads);
  if (std::getenv("OMP_NUM_THREADS") || launch.local_world <= 1) return num_threads();
  const bool binds = launch.by == "Open MPI" || launch.by == "srun";
  const bool bound = binds && available_cpus() < ::sysconf(_SC_NPROCESSORS_ONLN);
  return bound ? available_cpus() : std::max(1, available_cpus() / launch.local_world);
}

}  // namespace minibert
