// report_plots.h: which plots a report has, and what they show of the runs' records. Called by
// report_page.cpp. Lines that are means are drawn over the numbers that they are means of; under the
// pointer are always the numbers of metrics.jsonl. Easy to break: a figure that no run has gets no
// plot, but a figure that one run lacks is not a zero in the others' plot. Test: ctest -R report.
#pragma once

#include <string>
#include <vector>

#include "models/curves/run_data.h"
#include "models/curves/svg_plot.h"

namespace minibert {

/// Neighbours on either side that a mean over a run of so many steps has: a hundredth of them.
size_t smoothing_half(size_t steps);

/// Whether a tensor's trust ratio is computed at all: tensors without decay have 1 throughout.
bool adapts(const RunData& run, size_t tensor);
/// "embeddings", "layer 0", ..., "heads": where a tensor belongs.
std::string layer_of(const std::string& tensor);

/// Loss, accuracy, learning rate, gradient norm, trust ratios by layer (of each run), loss scale,
/// throughput, waiting for data, communication: those that the runs have.
std::vector<Plot> report_plots(const std::vector<RunData>& runs);

/// Trust ratios as a map of colours: rows are tensors in the model's order, columns the recorded
/// steps (at most 120, evenly taken), colour the ratio on a log scale. "" if the run has none.
std::string trust_ratio_map(const RunData& run);

}  // namespace minibert
