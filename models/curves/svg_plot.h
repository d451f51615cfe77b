// svg_plot.h: a plot of lines over steps as an SVG element, with axes, ticks and marks, and its numbers
// as JSON beside it, for the readout under the pointer and for whoever wants them.
// Called by report_plots.cpp. Colours are classes (s0 to s7, a series each) that the page's style
// sheet has for light and dark. Easy to break: gaps stay gaps; a number that is not finite is a mark at
// the upper edge. Test: ctest -R curves_svg_plot.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/curves/series.h"

namespace minibert {

enum class LineStyle {
  line,    // through all points
  faint,   // the same, pale: what a smooth line is the mean of
  dashed,  // the same, dashed
  steps,   // each value lasts until the next
  dots,    // a thin line with a dot at each point: few points
  ticks,   // a short stroke at the lower edge for each point, whatever its y
};

inline constexpr size_t kPlotColours = 8;
inline constexpr int kPlotRamp = 100;

struct PlotLine {
  std::string label;
  int colour = 0;  // class s0 to s7; -1: grey; kPlotRamp + n: r0 to r15, from blue to red
  LineStyle style = LineStyle::line;
  Series points = {};
  double max_gap = 0;   // farther apart in x: a gap; 0: never
  bool readout = true;  // its numbers stand in the JSON
  bool legend = true;   // its label stands above the plot
};

/// A line from the lower to the upper edge.
struct PlotMark {
  double x = 0;
  std::string label;
  bool strong = true;  // else pale and without its label, which is its tooltip
};

struct Plot {
  std::string title, unit;   // "MLM loss", "nats"
  std::string caption = {};  // what is drawn, where the title does not say it
  bool log_scale = false;  // of y; values of 0 and less have no place and are left out of the line
  bool from_zero = false;  // y begins at 0
  std::vector<PlotLine> lines = {};
  std::vector<PlotMark> marks = {};
};

/// Ticks for [low, high]: about `wanted` multiples of 1, 2 or 5 times a power of ten.
std::vector<double> linear_ticks(double low, double high, int wanted);
/// Powers of ten in [low, high], or of their 1, 2 and 5 folds if they are few.
std::vector<double> log_ticks(double low, double high);
/// "0.002", "1.5e-5", "12,000"
std::string tick_text(double value);

/// Text for HTML and SVG: & < > " as entities.
std::string escaped(const std::string& text);

/// A <figure> with the <svg> and a <script type="application/json">: {"x": [low, high], "y": [low,
/// high], "log": false, "box": [left, top, right, bottom], "lines": [{"label", "colour", "points":
/// [[step, value], ...]}]}. Numbers are exact; those that are not finite are "NaN", "Infinity",
/// "-Infinity". `x_low` and `x_high`: the ends of the step axis, the same for all plots of a page.
std::string svg_figure(const Plot& plot, double x_low, double x_high);

}  // namespace minibert
