// svg_plot.cpp: scales, ticks, paths.
#include "models/curves/svg_plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "models/training/metrics.h"

namespace minibert {
namespace {

// The drawing's own units, which the page scales to the width that it has.
constexpr double kWidth = 640, kHeight = 300, kLeft = 58, kRight = 626, kTop = 14, kBottom = 262;
constexpr size_t kColumns = 568;  // one a unit

// ---- Scales ------------------------------------------------------------------------------------

struct Scale {
  double low = 0, high = 1;
  bool log = false;

  double share(double value) const {  // 0 at low, 1 at high
    if (log) return std::log(value / low) / std::log(high / low);
    return (value - low) / (high - low);
  }
};

bool has_place(double y, bool log) {
  return std::isfinite(y) && (!log || y > 0);
}

/// All numbers of the lines, with some room.
Scale y_scale(const Plot& plot) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const PlotLine& line : plot.lines) {
    if (line.style == LineStyle::ticks) continue;
    for (const Point& point : line.points) {
      if (!has_place(point.y, plot.log_scale)) continue;
      low = std::min(low, point.y);
      high = std::max(high, point.y);
    }
  }
  if (low > high) low = plot.log_scale ? 1 : 0, high = 1;
  if (plot.log_scale) {
    const double room = high > low ? std::pow(high / low, 0.05) : 2;
    return {low / room, high * room, true};
  }
  if (plot.from_zero) low = std::min(low, 0.0);
  const double room = high > low ? 0.05 * (high - low) : std::max(0.5 * std::abs(high), 0.5);
  return {plot.from_zero && low == 0 ? 0 : low - room, high + room, false};
}

struct Frame {
  Scale x, y;

  double px(double value) const { return kLeft + (kRight - kLeft) * x.share(value); }
  double py(double value) const { return kBottom - (kBottom - kTop) * y.share(value); }
};

// ---- Lines -------------------------------------------------------------------------------------

/// "M12.5 30L13 31": straight lines, or, with `steps`, each value until the next x.
std::string path_of(const std::vector<Series>& parts, const Frame& frame, bool steps) {
  std::string path;
  for (const Series& part : parts) {
    double last = 0;
    for (size_t i = 0; i < part.size(); ++i) {
      const double x = frame.px(part[i].x), y = frame.py(part[i].y);
      if (steps && i > 0) path += fmt::format("L{:.2f} {:.2f}", x, last);
      path += fmt::format("{}{:.2f} {:.2f}", i == 0 ? "M" : "L", x, y);
      last = y;
    }
    if (part.size() == 1) path += "h0.01";  // a round end makes it a dot
  }
  return path;
}

std::string colour_class(int colour) {
  if (colour >= kPlotRamp) return fmt::format("r{}", colour - kPlotRamp);
  return colour < 0 ? "grey" : fmt::format("s{}", static_cast<size_t>(colour) % kPlotColours);
}

std::string ticks_svg(const PlotLine& line, const Frame& frame) {
  std::string path;
  for (const Point& point : line.points)
    path += fmt::format("M{:.2f} {}v-7", frame.px(point.x), kBottom);
  return fmt::format("<path class=\"ticks {}\" d=\"{}\"/>", colour_class(line.colour), path);
}

/// A triangle at the upper edge for each number that is not finite.
std::string not_finite_svg(const PlotLine& line, const Frame& frame) {
  std::string svg;
  for (const Point& point : line.points) {
    if (std::isfinite(point.y)) continue;
    const double x = frame.px(point.x);
    svg += fmt::format(
        "<path class=\"bad\" d=\"M{:.2f} {}l-4 -8h8z\"><title>{}: {} at step {}</title></path>", x,
        kTop + 8, escaped(line.label), json_number(point.y), point.x);
  }
  return svg;
}

std::string line_svg(const PlotLine& line, const Frame& frame) {
  if (line.style == LineStyle::ticks) return ticks_svg(line, frame);
  Series points = thinned(line.points, frame.x.low, frame.x.high, kColumns);
  if (frame.y.log)
    for (Point& point : points)
      if (point.y <= 0) point.y = std::numeric_limits<double>::quiet_NaN();
  static constexpr const char* kStyles[] = {"line", "faint", "dashed", "line", "thin"};
  const std::string colour = colour_class(line.colour);
  std::string svg =
      fmt::format("<path class=\"{} {}\" d=\"{}\"/>", kStyles[static_cast<int>(line.style)], colour,
                  path_of(unbroken(points, line.max_gap), frame, line.style == LineStyle::steps));
  if (line.style == LineStyle::dots)
    for (const Point& point : points)
      if (std::isfinite(point.y))
        svg += fmt::format("<circle class=\"dot {}\" cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"3.2\"/>",
                           colour, frame.px(point.x), frame.py(point.y));
  return line.readout ? svg + not_finite_svg(line, frame) : svg;
}

// ---- Axes --------------------------------------------------------------------------------------

std::string axes_svg(const Plot& plot, const Frame& frame) {
  std::string svg;
  const std::vector<double> y_ticks = frame.y.log ? log_ticks(frame.y.low, frame.y.high)
                                                  : linear_ticks(frame.y.low, frame.y.high, 5);
  for (const double tick : y_ticks)
    svg += fmt::format(
        "<path class=\"grid\" d=\"M{} {:.2f}H{}\"/><text class=\"tick\" x=\"{}\" y=\"{:.2f}\" "
        "text-anchor=\"end\">{}</text>",
        kLeft, frame.py(tick), kRight, kLeft - 7, frame.py(tick) + 3.8, tick_text(tick));
  for (const double tick : linear_ticks(frame.x.low, frame.x.high, 6))
    svg += fmt::format(
        "<path class=\"axis\" d=\"M{0:.2f} {1}v4\"/><text class=\"tick\" x=\"{0:.2f}\" y=\"{2}\" "
        "text-anchor=\"middle\">{3}</text>",
        frame.px(tick), kBottom, kBottom + 17, tick_text(tick));
  svg += fmt::format("<path class=\"axis\" d=\"M{} {}H{}\"/>", kLeft, kBottom, kRight);
  svg += fmt::format(
      "<text class=\"unit\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>"
      "<text class=\"unit\" transform=\"translate(13 {}) rotate(-90)\" "
      "text-anchor=\"middle\">{}{}</text>",
      (kLeft + kRight) / 2, kHeight - 4, (kTop + kBottom) / 2, escaped(plot.unit),
      plot.log_scale ? ", log scale" : "");
  return svg;
}

std::string marks_svg(const Plot& plot, const Frame& frame) {
  std::string svg;
  for (const PlotMark& mark : plot.marks) {
    const double x = frame.px(mark.x);
    svg += fmt::format("<path class=\"{}\" d=\"M{:.2f} {}V{}\"><title>{}</title></path>",
                       mark.strong ? "mark" : "mark pale", x, kTop, kBottom, escaped(mark.label));
    if (mark.strong)
      svg += fmt::format("<text class=\"tick\" x=\"{:.2f}\" y=\"{}\">{}</text>", x + 4, kTop + 9,
                         escaped(mark.label));
  }
  return svg;
}

// ---- Numbers -----------------------------------------------------------------------------------

/// JSON without bare NaN, which a browser's parser refuses, and without "</", which would end the
/// script.
std::string json_text_of(double value) {
  const std::string text = json_number(value);
  return std::isfinite(value) ? text : "\"" + text + "\"";
}

std::string json_string(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == '<') {
      result += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      result += c;
    }
  }
  return result + "\"";
}

std::string data_json(const Plot& plot, const Frame& frame) {
  std::string lines;
  for (const PlotLine& line : plot.lines) {
    if (!line.readout) continue;
    std::string points;
    for (const Point& point : thinned(line.points, frame.x.low, frame.x.high, kColumns))
      points += fmt::format("{}[{},{}]", points.empty() ? "" : ",", json_text_of(point.x),
                            json_text_of(point.y));
    lines += fmt::format("{}{{\"label\":{},\"colour\":\"{}\",\"points\":[{}]}}",
                         lines.empty() ? "" : ",", json_string(line.label),
                         colour_class(line.colour), points);
  }
  return fmt::format(
      "{{\"title\":{},\"x\":[{},{}],\"y\":[{},{}],\"log\":{},\"box\":[{},{},{},{}],\"lines\":[{}]}"
      "}",
      json_string(plot.title), json_text_of(frame.x.low), json_text_of(frame.x.high),
      json_text_of(frame.y.low), json_text_of(frame.y.high), plot.log_scale, kLeft, kTop, kRight,
      kBottom, lines);
}

/// The names of the lines, each once.
std::string legend_html(const Plot& plot) {
  std::string items;
  std::vector<std::pair<std::string, int>> seen;
  for (const PlotLine& line : plot.lines) {
    const std::pair item(line.label, line.colour);
    if (!line.legend || line.label.empty() || std::count(seen.begin(), seen.end(), item)) continue;
    seen.push_back(item);
    const bool dots = line.style == LineStyle::dots, dashed = line.style == LineStyle::dashed;
    items += fmt::format("<li class=\"{}\"><i class=\"{}\"></i>{}</li>", colour_class(line.colour),
                         dots     ? "round"
                         : dashed ? "broken"
                                  : "",
                         escaped(line.label));
  }
  return "<ul class=\"legend\">" + items + "</ul>";
}

}  // namespace

std::vector<double> linear_ticks(double low, double high, int wanted) {
  if (!(high > low)) return {low};
  const double power = std::pow(10, std::floor(std::log10((high - low) / wanted)));
  double step = 10 * power;
  for (const double fold : {1.0, 2.0, 5.0})
    if ((high - low) / (fold * power) <= wanted + 0.5) {
      step = fold * power;
      break;
    }
  std::vector<double> ticks;
  const double slack = 1e-9 * step;
  for (double n = std::ceil((low - slack) / step); n * step <= high + slack; ++n)
    ticks.push_back(n == 0 ? 0 : n * step);
  return ticks;
}

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> tens, folds;
  const auto first = static_cast<int>(std::floor(std::log10(low)));
  const auto last = static_cast<int>(std::ceil(std::log10(high)));
  const int stride = std::max(1, (last - first) / 7);
  for (int exponent = first; exponent <= last; ++exponent) {
    for (const int fold : {1, 2, 5}) {
      const double tick = fold * std::pow(10, exponent);
      if (tick < low || tick > high) continue;
      folds.push_back(tick);
      if (fold == 1 && (exponent - first) % stride == 0) tens.push_back(tick);
    }
  }
  if (tens.size() >= 3) return tens;
  return folds.size() >= 2 ? folds : linear_ticks(low, high, 4);
}

std::string tick_text(double value) {
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-3 || size >= 1e7)) {
    const std::string text = fmt::format("{:.3g}", value);  // "1.5e-05": without sign + and zeros
    const size_t e = text.find('e');
    if (e == std::string::npos) return text;
    return text.substr(0, e) + fmt::format("e{}", std::stoi(text.substr(e + 1)));
  }
  if (size < 1e4) return fmt::format("{:.6g}", value);
  std::string text = fmt::format("{:.0f}", value);
  for (size_t i = text.size(); i > 3 && text[i - 4] != '-'; i -= 3) text.insert(i - 3, ",");
  return text;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else if (c == '"') {
      result += "&quot;";
    } else {
      result += c;
    }
  }
  return result;
}

std::string svg_figure(const Plot& plot, double x_low, double x_high) {
  const Frame frame{{x_low, x_high > x_low ? x_high : x_low + 1, false}, y_scale(plot)};
  std::string lines;
  for (const PlotLine& line : plot.lines) lines += line_svg(line, frame);
  return fmt::format(
      "<figure class=\"card plot\"><figcaption><h3>{}</h3>{}</figcaption>\n"
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}{}{}</svg>\n"
      "<p class=\"caption\">{}</p>\n<script type=\"application/json\">{}</script></figure>\n",
      escaped(plot.title), legend_html(plot), kWidth, kHeight, escaped(plot.title),
      axes_svg(plot, frame), marks_svg(plot, frame), lines, escaped(plot.caption),
      data_json(plot, frame));
}

}  // namespace minibert
