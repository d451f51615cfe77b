// series.h: numbers over steps, and what a plot makes of them: a mean that moves along, and fewer
// points that look the same. Called by report_plots.cpp and svg_plot.cpp. Easy to break: a number
// that is not finite is a gap and a mark, and never goes into a mean or out of the plot without one.
// Test: ctest -R curves_series.
#pragma once

#include <cstddef>
#include <vector>

namespace minibert {

struct Point {
  double x = 0;  // step
  double y = 0;  // may be NaN or infinite
};
using Series = std::vector<Point>;  // x ascends

/// Mean of each point and its `half` neighbours on either side, as many as there are. Numbers that
/// are not finite are no neighbours, and stay as they are. Time: linear.
Series moving_mean(const Series& series, size_t half);

/// At most four points of each of `columns` equal parts of [x_low, x_high]: the first, the least,
/// the greatest, the last, in their order; so a plot as wide as that looks as it would with all. Keeps
/// every point that is not finite. A series of at most two points a column stays as it is.
Series thinned(const Series& series, double x_low, double x_high, size_t columns);

/// Parts between points that are not finite or, where `max_gap` > 0, farther apart than that in x.
std::vector<Series> unbroken(const Series& series, double max_gap);

}  // namespace minibert
