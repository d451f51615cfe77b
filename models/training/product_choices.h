// product_choices.h: who multiplies on device cuda: decided before the first step, for the whole run.
// Called by trainer.cpp. gemm_choices.txt in the run folder holds the decisions, below a line that says
// for which device and sizes they were made; a resumed run reads them, so that it repeats its bits.
// Easy to break: nothing is timed once a step runs, because a timing waits for the device.
// Test: ctest -R cuda_errors.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "dist/process_group.h"
#include "models/training/file_system.h"
#include "models/training/run_setup.h"

namespace minibert {

/// Device cuda: sets who multiplies (train.gemm); where both may, takes the choices of `file`, or, if
/// they are of another device or other sizes, or there are none, those that `rehearse`, which queues
/// the products of a step, makes, and writes them there. A checkpoint given by --resume is looked for
/// its run's file first. Returns lines for the log. Errors: DataError for a damaged file.
std::vector<std::string> choose_products(const TrainConfig& config, const RunInputs& inputs,
                                         const std::filesystem::path& file, FileSystem& files,
                                         const std::function<void()>& rehearse);

/// Device cuda: rank 0's choices, on all ranks: timings differ, and bits with them. Errors: CommError.
void share_products(const TrainConfig& config, ProcessGroup& ranks);

}  // namespace minibert
