// rank_setup.h: what a run's settings ask of its ranks: who sums for them, what must be equal on all,
// how many threads each has. Called by trainer.cpp at the start. Easy to break: whatever changes a
// run's bits or shapes must be a fingerprint, so that ranks that differ are refused at the start.
// Test: ctest -R "training_trainer|train_ranks".
#pragma once

#include "dist/launch.h"
#include "dist/world.h"
#include "models/training/config.h"
#include "models/training/run_setup.h"

namespace minibert {

/// Errors: UsageError if the collectives asked for are not the device's.
WorldOptions world_options(const TrainConfig& config, const Launch& launch,
                           const RunInputs& inputs);

/// Of the kernels of one rank: its share of the machine, unless it was told or bound to its CPUs.
int threads_of(const TrainConfig& config, const Launch& launch);

}  // namespace minibert
