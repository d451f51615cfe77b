// compare_runs.h: whether two runs are the same run: weights, moments, the trainer's state and the
// curves, of their newest checkpoints. Called by the verb verify-resume. Easy to break: what may differ
// is named here and nothing else may: times, the machine and, where ranks added losses up in another
// order, the last digits of those. Test: ctest -R compare_runs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "models/training/metrics.h"

namespace minibert {

/// Where the run's newest checkpoint stands, and the checksums of what it holds, as hexadecimal digits.
struct RunState {
  int64_t step = 0;
  std::string weights, moments;
};
/// Of the checkpoint that `latest` names; nothing if there is none. Errors: CheckpointError if it is
/// damaged.
std::optional<RunState> newest_state(const std::filesystem::path& run);

/// The first thing in which `run` differs from `expected`, down to tensor and element: nothing if they
/// are equal. `loss_tolerance`: how far apart training losses may be, as a share: 0 for the same bits.
/// Errors: CheckpointError if one has no checkpoint; DataError for a damaged file.
std::optional<std::string> first_difference(const std::filesystem::path& run,
                                            const std::filesystem::path& expected,
                                            double loss_tolerance = 0);

/// The first field of two steps' records in which they differ, times apart, and evaluations last.
/// Numbers as JSON has them. `loss_tolerance` as above.
struct FieldDifference {
  std::string field, value, expected;
};
std::optional<FieldDifference> field_difference(const StepRecord& record,
                                                const StepRecord& expected,
                                                double loss_tolerance = 0);

/// Losses that several ranks have added up, in double: roundings of a sum of thousands.
inline constexpr double kRankLossTolerance = 1e-12;

}  // namespace minibert
