// svg_plot_test.cpp: ticks, and that a path's points are the numbers on the axes' scales.
#include "models/curves/svg_plot.h"

#include <cmath>
#include <regex>

#include <gtest/gtest.h>

#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has;

TEST(SvgPlot, LinearTicksAreRoundNumbers) {
  EXPECT_EQ(linear_ticks(0, 500, 5), (std::vector<double>{0, 100, 200, 300, 400, 500}));
  EXPECT_EQ(linear_ticks(5.4, 8.6, 5), (std::vector<double>{6, 7, 8}));
  EXPECT_EQ(linear_ticks(-1, 1, 4), (std::vector<double>{-1, -0.5, 0, 0.5, 1}));
  for (const double high : {1e-9, 0.37, 3.0, 77.0, 1e12}) {
    const auto ticks = linear_ticks(0, high, 5);
    EXPECT_GE(ticks.size(), 3u) << high;
    EXPECT_LE(ticks.size(), 7u) << high;
  }
}

TEST(SvgPlot, LogTicksArePowersOfTenOrFoldsOfThem) {
  EXPECT_EQ(log_ticks(0.05, 200).size(), 4u);  // 0.1, 1, 10, 100
  EXPECT_EQ(log_ticks(0.9, 6), (std::vector<double>{1, 2, 5}));
  EXPECT_GE(log_ticks(3, 4).size(), 2u) << "no power of ten nor fold inside";
  EXPECT_LE(log_ticks(1, 1e37).size(), 9u);
}

TEST(SvgPlot, TickTexts) {
  EXPECT_EQ(tick_text(0), "0");
  EXPECT_EQ(tick_text(0.002), "0.002");
  EXPECT_EQ(tick_text(1.5e-5), "1.5e-5");
  EXPECT_EQ(tick_text(2500), "2500");
  EXPECT_EQ(tick_text(12000), "12,000");
  EXPECT_EQ(tick_text(1250000), "1,250,000");
  EXPECT_EQ(tick_text(-12000), "-12,000");
  EXPECT_EQ(tick_text(65536.0 * 65536), "4.29e9");
}

TEST(SvgPlot, TextIsEscaped) {
  EXPECT_EQ(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
}

nlohmann::json data_of(const std::string& figure) {
  std::smatch match;
  const std::regex script("<script type=\"application/json\">([^<]*)</script>");
  EXPECT_TRUE(std::regex_search(figure, match, script));
  return nlohmann::json::parse(match[1].str());
}

/// The points of the first path of the class.
std::vector<std::pair<double, double>> path_of(const std::string& figure, const std::string& kind) {
  std::smatch match;
  const std::regex path("<path class=\"" + kind + "\" d=\"([^\"]*)\"");
  EXPECT_TRUE(std::regex_search(figure, match, path)) << kind;
  const std::string d = match[1];
  std::vector<std::pair<double, double>> points;
  const std::regex point("[ML]([-\\d.]+) ([-\\d.]+)");
  for (std::sregex_iterator it(d.begin(), d.end(), point), end; it != end; ++it)
    points.emplace_back(std::stod((*it)[1]), std::stod((*it)[2]));
  return points;
}

TEST(SvgPlot, PathsAreTheNumbersOnTheScales) {
  for (const bool log : {false, true}) {
    const Plot plot{.title = "t",
                    .unit = "u",
                    .log_scale = log,
                    .lines = {{.label = "a", .points = {{1, 3.5}, {2, 0.25}, {10, 70}}}}};
    const std::string figure = svg_figure(plot, 0, 10);
    const nlohmann::json data = data_of(figure);
    const auto points = path_of(figure, "line s0");
    ASSERT_EQ(points.size(), 3u);
    const std::vector<double> box = data["box"], x = data["x"], y = data["y"];
    for (size_t i = 0; i < 3; ++i) {
      const double value = plot.lines[0].points[i].y, step = plot.lines[0].points[i].x;
      const double share =
          log ? (std::log(value) - std::log(y[0])) / (std::log(y[1]) - std::log(y[0]))
              : (value - y[0]) / (y[1] - y[0]);
      EXPECT_NEAR(points[i].first, box[0] + (box[2] - box[0]) * (step - x[0]) / (x[1] - x[0]),
                  0.006);
      EXPECT_NEAR(points[i].second, box[3] - (box[3] - box[1]) * share, 0.006);
      EXPECT_EQ(data["lines"][0]["points"][i][1].get<double>(), value);
    }
  }
}

TEST(SvgPlot, WhatIsNotFiniteIsAGapAndAMark) {
  const Plot plot{
      .title = "t",
      .unit = "u",
      .lines = {{.label = "loss", .points = {{1, 3}, {2, 4}, {3, NAN}, {4, 5}, {5, -INFINITY}}}}};
  const std::string figure = svg_figure(plot, 0, 5);
  EXPECT_TRUE(has(figure, "<title>loss: NaN at step 3</title>"));
  EXPECT_TRUE(has(figure, "<title>loss: -Infinity at step 5</title>"));
  EXPECT_EQ(path_of(figure, "line s0").size(), 3u);
  EXPECT_EQ(data_of(figure)["lines"][0]["points"][2][1], "NaN");
  const std::regex moves("<path class=\"line s0\" d=\"(M[^M\"]*){2}\"");
  EXPECT_TRUE(std::regex_search(figure, moves)) << "two parts";
}

TEST(SvgPlot, NamesCanNotBreakThePage) {
  const Plot plot{.title = "</script><b>",
                  .unit = "\"",
                  .lines = {{.label = "</script>\\\"", .points = {{1, 2}}}}};
  const std::string figure = svg_figure(plot, 0, 1);
  EXPECT_EQ(data_of(figure)["lines"][0]["label"], "</script>\\\"");
  EXPECT_FALSE(has(figure, "<b>"));
}

TEST(SvgPlot, EmptyAndConstantPlotsHaveAnAxis) {
  for (const bool log : {false, true}) {
    Plot plot{.title = "t", .unit = "u", .log_scale = log, .lines = {{.label = "a", .points = {}}}};
    EXPECT_FALSE(has(svg_figure(plot, 0, 0), "nan")) << log;
    plot.lines[0].points = {{1, 5}, {2, 5}};
    const std::string figure = svg_figure(plot, 0, 2);
    EXPECT_FALSE(has(figure, "nan")) << log;
    EXPECT_FALSE(has(figure, "inf")) << log;
  }
}

}  // namespace
}  // namespace minibert
