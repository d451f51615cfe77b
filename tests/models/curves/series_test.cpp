// series_test.cpp: means and thinning against brute force; what is not finite stays.
#include "models/curves/series.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace minibert {
namespace {

Series noise(size_t n, uint32_t seed) {
  std::mt19937 draw(seed);
  Series series;
  for (size_t i = 0; i < n; ++i)
    series.push_back({static_cast<double>(i + 1), static_cast<double>(draw() % 1000)});
  return series;
}

TEST(Series, MovingMeanIsTheMeanOfNeighbours) {
  const Series series = noise(50, 1), mean = moving_mean(series, 3);
  ASSERT_EQ(mean.size(), 50u);
  EXPECT_DOUBLE_EQ(mean[0].y, (series[0].y + series[1].y + series[2].y + series[3].y) / 4);
  double sum = 0;
  for (size_t i = 17; i <= 23; ++i) sum += series[i].y;
  EXPECT_DOUBLE_EQ(mean[20].y, sum / 7);
  EXPECT_DOUBLE_EQ(mean[49].y, (series[46].y + series[47].y + series[48].y + series[49].y) / 4);
}

TEST(Series, MovingMeanKeepsWhatIsNotFiniteAndLeavesItOut) {
  const Series mean = moving_mean({{1, 1}, {2, NAN}, {3, 5}, {4, INFINITY}, {5, 9}}, 1);
  EXPECT_DOUBLE_EQ(mean[0].y, 3);  // 1 and 5
  EXPECT_TRUE(std::isnan(mean[1].y));
  EXPECT_DOUBLE_EQ(mean[2].y, 5);
  EXPECT_EQ(mean[3].y, INFINITY);
  EXPECT_DOUBLE_EQ(mean[4].y, 7);
  EXPECT_EQ(mean[4].x, 5);
}

TEST(Series, ThinnedKeepsEverySpikeOfEveryColumn) {
  Series series = noise(10000, 2);
  series[4321].y = 1e9;
  series[8765].y = -1e9;
  series[5000].y = NAN;
  const Series thin = thinned(series, 0, 10000, 100);
  EXPECT_LE(thin.size(), 4u * 101 + 1);
  for (int column = 0; column < 100; ++column) {
    double low = 1e18, high = -1e18, thin_low = 1e18, thin_high = -1e18;
    const auto inside = [&](const Point& p) { return std::floor(p.x / 100) == column; };
    for (const Point& p : series)
      if (inside(p) && std::isfinite(p.y)) low = std::min(low, p.y), high = std::max(high, p.y);
    for (const Point& p : thin)
      if (inside(p) && std::isfinite(p.y))
        thin_low = std::min(thin_low, p.y), thin_high = std::max(thin_high, p.y);
    ASSERT_EQ(thin_low, low) << "column " << column;
    ASSERT_EQ(thin_high, high) << "column " << column;
  }
  for (size_t i = 1; i < thin.size(); ++i) ASSERT_LT(thin[i - 1].x, thin[i].x) << "in order";
  EXPECT_EQ(std::count_if(thin.begin(), thin.end(), [](const Point& p) { return std::isnan(p.y); }),
            1);
}

TEST(Series, ShortSeriesStayAsTheyAre) {
  EXPECT_EQ(thinned(noise(200, 3), 0, 200, 100).size(), 200u);
  EXPECT_TRUE(thinned({}, 0, 1, 100).empty());
}

TEST(Series, PartsEndAtGapsAndAtWhatIsNotFinite) {
  const Series series = {{1, 1}, {2, 2}, {3, NAN}, {4, 4}, {7, 5}, {8, INFINITY}};
  const auto parts = unbroken(series, 1);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].size(), 2u);
  EXPECT_EQ(parts[1].front().x, 4);
  EXPECT_EQ(parts[2].front().x, 7);
  EXPECT_EQ(unbroken(series, 0).size(), 2u) << "0: no gap is too wide";
}

}  // namespace
}  // namespace minibert
