// local_ranks.h: --nproc and --gpus: a verb that starts its own command several times on this
// machine. Called by train.cpp and bench_all_reduce.cpp. Easy to break: call it before anything has
// started a thread (dist/spawn.h). Test: ctest -R train_ranks.
#pragma once

#include <string>
#include <vector>

#include "dist/launch.h"

namespace minibert {

/// The arguments of this process, as the system recorded them.
std::vector<std::string> own_arguments();

/// Starts `ranks` ranks of `command` (0: not asked for), waits for them and ends the verb with their
/// exit code; returns if this process is a rank itself, or the only one. `patience` as in
/// SpawnOptions; `flag` is what asked for them. Errors: UsageError if a launcher has started another
/// number of ranks.
void start_ranks(int ranks, const Launch& launch, const std::vector<std::string>& command,
                 double patience, const char* flag = "--nproc");

}  // namespace minibert
