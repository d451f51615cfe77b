// series.cpp: moving means, thinning, gaps.
#include "models/curves/series.h"

#include <algorithm>
#include <cmath>

namespace minibert {

Series moving_mean(const Series& series, size_t half) {
  // Sums over a window by differences of running sums lose digits; a window is short enough to add.
  std::vector<Point> finite;
  for (const Point& point : series)
    if (std::isfinite(point.y)) finite.push_back(point);
  std::vector<double> means(finite.size());
  for (size_t i = 0; i < finite.size(); ++i) {
    const size_t begin = i - std::min(i, half), end = std::min(finite.size(), i + half + 1);
    double sum = 0;
    for (size_t k = begin; k < end; ++k) sum += finite[k].y;
    means[i] = sum / static_cast<double>(end - begin);
  }
  Series result = series;
  size_t next = 0;
  for (Point& point : result)
    if (std::isfinite(point.y)) point.y = means[next++];
  return result;
}

Series thinned(const Series& series, double x_low, double x_high, size_t columns) {
  if (series.size() <= 2 * columns || x_high <= x_low) return series;
  const double scale = static_cast<double>(columns) / (x_high - x_low);
  const auto column_of = [&](size_t i) { return std::floor((series[i].x - x_low) * scale); };
  Series result;
  for (size_t begin = 0; begin < series.size();) {
    size_t end = begin, least = begin, greatest = begin;
    std::vector<size_t> kept;
    for (; end < series.size() && column_of(end) == column_of(begin); ++end) {
      if (!std::isfinite(series[end].y)) kept.push_back(end);
      if (!(series[end].y >= series[least].y)) least = end;
      if (!(series[end].y <= series[greatest].y)) greatest = end;
    }
    kept.insert(kept.end(), {begin, least, greatest, end - 1});
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const size_t i : kept) result.push_back(series[i]);
    begin = end;
  }
  return result;
}

std::vector<Series> unbroken(const Series& series, double max_gap) {
  std::vector<Series> parts;
  bool begin = true;
  for (const Point& point : series) {
    if (!std::isfinite(point.y)) {
      begin = true;
      continue;
    }
    if (begin || (max_gap > 0 && point.x - parts.back().back().x > max_gap)) parts.emplace_back();
    parts.back().push_back(point);
    begin = false;
  }
  return parts;
}

}  // namespace minibert
