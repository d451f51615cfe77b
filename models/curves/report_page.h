// report_page.h: runs as one HTML page that needs nothing else: no network, no other file. Called by
// the verb report. Plots: report_plots.cpp; the look, and the readout under the pointer:
// report_style.cpp. Easy to break: whatever comes from a run (names, settings, notes) is escaped.
// Test: ctest -R report.
#pragma once

#include <string>
#include <vector>

#include "models/curves/run_data.h"
#include "models/curves/svg_plot.h"

namespace minibert {

/// How a report of ours begins: the verb overwrites no other file.
inline constexpr const char* kReportStart =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"generator\" content=\"minibert report\">\n";

/// The whole page: figures of each run, plots, trust ratios by tensor, settings (those in which the
/// runs differ first), machine and build, checkpoints, notes.
/// `more`: plots before the others.
std::string report_page(const std::vector<RunData>& runs, const std::vector<Plot>& more = {});

/// The page's style sheet and script.
const char* report_style();
const char* report_script();

}  // namespace minibert
