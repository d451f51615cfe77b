// report_plots.cpp: one function a plot.
#include "models/curves/report_plots.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/curves/run_summary.h"

namespace minibert {
namespace {

constexpr int kShades = 16;  // of the style sheet's ramp
using Figure = std::function<std::optional<double>(const StepRecord&)>;
using EvaluationFigure = std::function<std::optional<double>(const EvaluationResult&)>;

// ---- Series of records -------------------------------------------------------------------------

Series series_of(const RunData& run, const Figure& figure) {
  Series series;
  for (const StepRecord& record : run.records)
    if (const auto value = figure(record))
      series.push_back({static_cast<double>(record.step), *value});
  return series;
}

/// The figure by evaluation set, in the order of first appearance.
std::vector<std::pair<std::string, Series>> evaluations_of(const RunData& run,
                                                           const EvaluationFigure& figure) {
  std::vector<std::pair<std::string, Series>> sets;
  for (const StepRecord& record : run.records) {
    for (const auto& [name, result] : record.evaluations) {
      const auto value = figure(result);
      if (!value) continue;
      auto found = std::find_if(sets.begin(), sets.end(), [&, &wanted = name](const auto& set) {
        return set.first == wanted;
      });
      if (found == sets.end()) found = sets.insert(sets.end(), {name, {}});
      found->second.push_back({static_cast<double>(record.step), *value});
    }
  }
  return sets;
}

/// What a line of a run is called: with one run there is no need to name it.
std::string label_of(const std::vector<RunData>& runs, size_t run, const std::string& what) {
  if (runs.size() == 1) return what;
  return what.empty() ? runs[run].name : fmt::format("{} {}", runs[run].name, what);
}

/// "; changed: optim.learning_rate 0.001 -> 0.005": what a resumed run's first step records.
std::string changes_after(const RunData& run, int64_t step) {
  const auto record = std::ranges::find(run.records, step + 1, &StepRecord::step);
  if (record == run.records.end() || record->changed_settings.empty()) return "";
  const auto changes = nlohmann::json::parse(record->changed_settings, nullptr, false);
  if (!changes.is_object()) return "";
  std::string text;
  for (const auto& [name, values] : changes.items())
    text += fmt::format("{}{} {} -> {}", text.empty() ? "; changed: " : ", ", name,
                        values.value("before", ""), values.value("now", ""));
  return text;
}

/// Borders of phases and, pale, the steps from which a run was resumed.
std::vector<PlotMark> marks_of(const std::vector<RunData>& runs) {
  std::vector<PlotMark> marks;
  std::set<std::pair<double, int64_t>> borders;
  for (const RunData& run : runs) {
    for (size_t i = 1; i < run.records.size(); ++i) {
      const StepRecord &before = run.records[i - 1], &record = run.records[i];
      const double border = 0.5 * static_cast<double>(before.step + record.step);
      if (record.phase != before.phase && borders.insert({border, record.phase}).second)
        marks.push_back({border, run.phase_name(record.phase), true});
    }
    for (const RecordedLaunch& launch : run.launches)
      if (launch.first_step > 0)
        marks.push_back({static_cast<double>(launch.first_step) + 0.5,
                         fmt::format("{}: resumed at step {}{}", run.name, launch.first_step,
                                     changes_after(run, launch.first_step)),
                         false});
  }
  return marks;
}

/// The numbers, pale, and over them their mean.
void add_smoothed(Plot& plot, Series series, const std::string& label, int colour) {
  const size_t half = smoothing_half(series.size());
  Series mean = moving_mean(series, half);
  plot.lines.push_back({.label = label,
                        .colour = colour,
                        .style = half > 0 ? LineStyle::faint : LineStyle::line,
                        .points = std::move(series),
                        .max_gap = 1});
  if (half == 0) return;
  plot.lines.push_back({.label = label,
                        .colour = colour,
                        .style = LineStyle::line,
                        .points = std::move(mean),
                        .max_gap = 1,
                        .readout = false});
  plot.caption = "Pale: each step; line: mean over a hundredth of the run on either side.";
}

/// A figure of each step of each run.
Plot step_plot(const std::vector<RunData>& runs, const std::string& title, const std::string& unit,
               const Figure& figure, bool smooth) {
  Plot plot{.title = title, .unit = unit};
  for (size_t i = 0; i < runs.size(); ++i) {
    Series series = series_of(runs[i], figure);
    if (series.empty()) continue;
    const std::string label = label_of(runs, i, "");
    const int colour = static_cast<int>(i);
    if (smooth) {
      add_smoothed(plot, std::move(series), label, colour);
    } else {
      plot.lines.push_back(
          {.label = label, .colour = colour, .points = std::move(series), .max_gap = 1});
    }
  }
  return plot;
}

/// A figure of each step, with the evaluations' beside it.
Plot training_plot(const std::vector<RunData>& runs, const std::string& title,
                   const std::string& unit, const Figure& figure,
                   const EvaluationFigure& evaluation) {
  Plot plot{.title = title, .unit = unit};
  for (size_t i = 0; i < runs.size(); ++i) {
    Series series = series_of(runs[i], figure);
    if (!series.empty())
      add_smoothed(plot, std::move(series), label_of(runs, i, runs.size() == 1 ? "training" : ""),
                   static_cast<int>(i));
    int set = 0;
    for (auto& [name, points] : evaluations_of(runs[i], evaluation))
      plot.lines.push_back({.label = label_of(runs, i, "evaluation " + name),
                            .colour = runs.size() == 1 ? ++set : static_cast<int>(i),
                            .style = LineStyle::dots,
                            .points = std::move(points),
                            .legend = runs.size() == 1});
  }
  const auto is_hidden = [](const PlotLine& line) { return !line.legend; };
  if (std::any_of(plot.lines.begin(), plot.lines.end(), is_hidden))
    plot.caption += " Dots: evaluations.";
  return plot;
}

// ---- The plots ---------------------------------------------------------------------------------

/// The cross-entropy of word frequencies, which a model must fall below.
void add_unigram(Plot& plot, const std::vector<RunData>& runs) {
  std::set<double> seen;
  for (const RunData& run : runs) {
    for (const StepRecord& record : run.records) {
      for (const auto& [name, result] : record.evaluations) {
        if (!seen.insert(result.unigram_cross_entropy).second) continue;
        const double first = static_cast<double>(run.records.front().step);
        const double last = static_cast<double>(run.records.back().step);
        plot.lines.push_back({.label = "word frequencies alone, " + name,
                              .colour = -1,
                              .style = LineStyle::dashed,
                              .points = {{first, result.unigram_cross_entropy},
                                         {last, result.unigram_cross_entropy}},
                              .readout = false});
      }
    }
  }
}

/// Scores of fine-tuned models on held-out data, a line of dots a score.
Plot scores_plot(const std::vector<RunData>& runs) {
  Plot plot{.title = "Held-out scores", .unit = "%"};
  for (size_t i = 0; i < runs.size(); ++i) {
    std::map<std::string, Series> scores;
    for (const StepRecord& record : runs[i].records)
      for (const auto& [name, percent] : percentages(record))
        scores[name].push_back({static_cast<double>(record.step), percent});
    int number = 0;
    for (auto& [name, points] : scores)
      plot.lines.push_back({.label = label_of(runs, i, name),
                            .colour = runs.size() == 1 ? number++ : static_cast<int>(i),
                            .style = LineStyle::dots,
                            .points = std::move(points)});
  }
  return plot;
}

std::vector<Plot> loss_plots(const std::vector<RunData>& runs) {
  using S = const StepRecord&;
  using E = const EvaluationResult&;
  const auto percent = [](std::optional<double> share) {
    return share ? std::optional(100 * *share) : std::nullopt;
  };
  // In fine-tuning they are of labels: no figure of masked tokens, and no line among these.
  const auto of_kind = [](S r, bool fine_tuning, double value) {
    return r.fine_tuning == fine_tuning ? std::optional(value) : std::nullopt;
  };
  const auto none = [](E) { return std::optional<double>(); };
  Plot mlm = training_plot(
      runs, "MLM loss", "nats per masked token", [&](S r) { return of_kind(r, false, r.mlm_loss); },
      [](E e) { return e.mlm_loss; });
  add_unigram(mlm, runs);
  return {
      std::move(mlm),
      training_plot(
          runs, "MLM accuracy", "%",
          [&](S r) { return percent(of_kind(r, false, r.mlm_accuracy)); },
          [&](E e) { return percent(e.mlm_accuracy); }),
      training_plot(
          runs, "Loss", "nats per label", [&](S r) { return of_kind(r, true, r.mlm_loss); }, none),
      training_plot(
          runs, "Accuracy", "%", [&](S r) { return percent(of_kind(r, true, r.mlm_accuracy)); },
          none),
      scores_plot(runs),
      training_plot(
          runs, "NSP loss", "nats per pair", [](S r) { return r.nsp_loss; },
          [](E e) { return e.nsp_loss; }),
      training_plot(
          runs, "NSP accuracy", "%", [&](S r) { return percent(r.nsp_accuracy); },
          [&](E e) { return percent(e.nsp_accuracy); })};
}

/// The scale of each step, and a stroke at each step that was skipped.
Plot scale_plot(const std::vector<RunData>& runs) {
  Plot plot{.title = "Loss scale", .unit = "factor", .log_scale = true};
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunData& run = runs[i];
    const auto scaled = [](const StepRecord& r) {
      return r.loss_scale != 1 || r.skipped_steps > 0;
    };
    if (std::none_of(run.records.begin(), run.records.end(), scaled)) continue;
    Series skipped;
    int64_t before = run.records.front().step == 1 ? 0 : run.records.front().skipped_steps;
    for (const StepRecord& record : run.records) {
      if (record.skipped_steps > before) skipped.push_back({static_cast<double>(record.step), 1});
      before = record.skipped_steps;
    }
    const int colour = static_cast<int>(i);
    plot.lines.push_back(
        {.label = label_of(runs, i, "scale"),
         .colour = colour,
         .style = LineStyle::steps,
         .points = series_of(run, [](const StepRecord& r) { return r.loss_scale; }),
         .max_gap = 1});
    if (skipped.empty()) continue;
    plot.lines.push_back({.label = label_of(runs, i, fmt::format("skipped steps: {}", before)),
                          .colour = runs.size() == 1 ? 5 : colour,
                          .style = LineStyle::ticks,
                          .points = std::move(skipped),
                          .readout = false});
    plot.caption = "Strokes at the lower edge: steps that were skipped.";
  }
  return plot;
}

/// Geometric mean of the ratios of a layer's adapted tensors, a line a layer.
Plot trust_ratio_plot(const std::vector<RunData>& runs, size_t index) {
  const RunData& run = runs[index];
  Plot plot{.title = runs.size() == 1 ? "Trust ratios" : "Trust ratios of " + run.name,
            .unit = "|weight| / |update|",
            .log_scale = true};
  if (run.trust_ratios.empty()) return plot;
  std::vector<std::string> layers;
  std::map<std::string, std::vector<size_t>> tensors;
  for (size_t t = 0; t < run.tensors.size(); ++t) {
    if (!adapts(run, t)) continue;
    const std::string layer = layer_of(run.tensors[t]);
    if (tensors[layer].empty()) layers.push_back(layer);
    tensors[layer].push_back(t);
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool many = layers.size() > kPlotColours;  // then neighbours have like colours
    PlotLine line{
        .label = layers[i],
        .colour = many ? kPlotRamp + static_cast<int>(i * (kShades - 1) / (layers.size() - 1))
                       : static_cast<int>(i)};
    for (const TrustRatios& at : run.trust_ratios) {
      double sum = 0;
      for (const size_t t : tensors[layers[i]]) sum += std::log(at.ratios[t]);
      const auto count = static_cast<double>(tensors[layers[i]].size());
      line.points.push_back({static_cast<double>(at.step), std::exp(sum / count)});
    }
    plot.lines.push_back(std::move(line));
  }
  plot.caption =
      "Geometric mean over the tensors of a layer, but for those without decay, whose ratio is 1.";
  return plot;
}

Plot communication_plot(const std::vector<RunData>& runs) {
  Plot plot{.title = "Communication", .unit = "ms a step", .from_zero = true};
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto& records = runs[i].records;
    if (std::none_of(records.begin(), records.end(),
                     [](const auto& r) { return r.communication_seconds > 0; }))
      continue;
    const int colour = static_cast<int>(i);
    add_smoothed(plot,
                 series_of(runs[i], [](const auto& r) { return 1000 * r.communication_seconds; }),
                 label_of(runs, i, "sums over ranks"), colour);
    add_smoothed(
        plot,
        series_of(runs[i], [](const auto& r) { return 1000 * r.exposed_communication_seconds; }),
        label_of(runs, i, "of them, not hidden"), runs.size() == 1 ? 1 : colour);
    plot.lines.back().style = LineStyle::dashed;
  }
  return plot;
}

}  // namespace

size_t smoothing_half(size_t steps) {
  return steps / 100;
}

bool adapts(const RunData& run, size_t tensor) {
  return std::any_of(run.trust_ratios.begin(), run.trust_ratios.end(),
                     [&](const TrustRatios& at) { return at.ratios[tensor] != 1; });
}

std::string layer_of(const std::string& tensor) {
  constexpr std::string_view kLayer = "encoder.layer.";
  const size_t at = tensor.find(kLayer);
  if (at != std::string::npos) {
    const size_t begin = at + kLayer.size();
    return "layer " + tensor.substr(begin, tensor.find('.', begin) - begin);
  }
  return tensor.find("embeddings.") != std::string::npos ? "embeddings" : "heads";
}

std::vector<Plot> report_plots(const std::vector<RunData>& runs) {
  std::vector<Plot> plots = loss_plots(runs);
  using S = const StepRecord&;
  plots.push_back(step_plot(
      runs, "Learning rate", "rate", [](S r) { return r.learning_rate; }, false));
  plots.back().from_zero = true;
  plots.push_back(step_plot(
      runs, "Gradient norm", "global norm before clipping", [](S r) { return r.grad_norm; }, true));
  plots.back().log_scale = true;
  for (size_t i = 0; i < runs.size(); ++i) plots.push_back(trust_ratio_plot(runs, i));
  plots.push_back(scale_plot(runs));
  plots.push_back(step_plot(
      runs, "Throughput", "sequences per second",
      [](S r) { return static_cast<double>(r.sequences) / r.step_seconds; }, true));
  plots.back().from_zero = true;
  plots.push_back(step_plot(
      runs, "Waiting for data", "ms a step", [](S r) { return 1000 * r.data_seconds; }, true));
  plots.back().from_zero = true;
  plots.push_back(communication_plot(runs));
  std::erase_if(plots, [](const Plot& plot) { return plot.lines.empty(); });
  const std::vector<PlotMark> marks = marks_of(runs);
  for (Plot& plot : plots) plot.marks = marks;
  return plots;
}

// ---- The map of trust ratios -------------------------------------------------------------------

namespace {

constexpr size_t kMapColumns = 120;

/// "layer.0.attention.self.query.weight"
std::string short_name(const std::string& tensor) {
  for (const std::string_view prefix : {"bert.encoder.", "bert.", "cls.predictions.", "cls."})
    if (tensor.rfind(prefix, 0) == 0) return tensor.substr(prefix.size());
  return tensor;
}

/// The recorded steps that have a column, the first and the last among them.
std::vector<size_t> map_columns(size_t recorded) {
  const size_t columns = std::min(recorded, kMapColumns);
  std::vector<size_t> taken;
  for (size_t i = 0; i < columns; ++i)
    taken.push_back(columns == 1 ? 0 : i * (recorded - 1) / (columns - 1));
  return taken;
}

struct MapShape {
  std::vector<size_t> tensors, columns;
  double low = 0, high = 0;  // of finite ratios above zero

  int shade(double ratio) const {  // -1: not finite, or zero
    if (!std::isfinite(ratio) || ratio <= 0) return -1;
    if (high <= low) return kShades / 2;
    const double share = std::log(ratio / low) / std::log(high / low);
    return std::clamp(static_cast<int>(share * kShades), 0, kShades - 1);
  }
};

MapShape shape_of(const RunData& run) {
  MapShape shape{{}, map_columns(run.trust_ratios.size())};
  for (size_t t = 0; t < run.tensors.size(); ++t)
    if (adapts(run, t)) shape.tensors.push_back(t);
  shape.low = std::numeric_limits<double>::infinity();
  for (const size_t column : shape.columns) {
    for (const size_t t : shape.tensors) {
      const double ratio = run.trust_ratios[column].ratios[t];
      if (!std::isfinite(ratio) || ratio <= 0) continue;
      shape.low = std::min(shape.low, ratio);
      shape.high = std::max(shape.high, ratio);
    }
  }
  return shape;
}

/// One path a shade: a map of a large model has tens of thousands of cells.
std::string cells_svg(const RunData& run, const MapShape& shape, double left, double cell_width,
                      double cell_height) {
  std::map<int, std::string> paths;
  for (size_t row = 0; row < shape.tensors.size(); ++row) {
    const auto shade_at = [&](size_t column) {
      return shape.shade(run.trust_ratios[shape.columns[column]].ratios[shape.tensors[row]]);
    };
    for (size_t column = 0; column < shape.columns.size();) {
      size_t end = column + 1;  // neighbours of one shade are one cell
      while (end < shape.columns.size() && shade_at(end) == shade_at(column)) ++end;
      paths[shade_at(column)] += fmt::format(
          "M{:.1f} {:.1f}h{:.1f}v{:.1f}H{:.1f}z", left + cell_width * static_cast<double>(column),
          cell_height * static_cast<double>(row), cell_width * static_cast<double>(end - column),
          cell_height, left + cell_width * static_cast<double>(column));
      column = end;
    }
  }
  std::string svg;
  for (const auto& [shade, path] : paths)
    svg += fmt::format("<path class=\"{}\" d=\"{}\"/>",
                       shade < 0 ? "bad" : fmt::format("h{}", shade), path);
  return svg;
}

}  // namespace

std::string trust_ratio_map(const RunData& run) {
  const MapShape shape = run.trust_ratios.empty() ? MapShape{} : shape_of(run);
  if (shape.tensors.empty()) return "";
  constexpr double kLeft = 330, kWidth = 1300, kAxis = 26;
  const auto rows = static_cast<double>(shape.tensors.size());
  const double cell_width = (kWidth - kLeft - 10) / static_cast<double>(shape.columns.size());
  const double cell_height = rows > 120 ? 6 : 15;
  const double height = cell_height * rows;
  std::string svg = cells_svg(run, shape, kLeft, cell_width, cell_height);
  for (size_t row = 0; row < shape.tensors.size(); ++row)
    svg += fmt::format(
        "<text class=\"tick\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\" "
        "font-size=\"{}\">{}</text>",
        kLeft - 8, cell_height * (static_cast<double>(row) + 0.75), cell_height > 10 ? 11 : 5.5,
        escaped(short_name(run.tensors[shape.tensors[row]])));
  const size_t stride = std::max<size_t>(1, shape.columns.size() / 10);
  for (size_t column = 0; column < shape.columns.size(); column += stride)
    svg += fmt::format(
        "<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>",
        kLeft + cell_width * (static_cast<double>(column) + 0.5), height + 17,
        tick_text(static_cast<double>(run.trust_ratios[shape.columns[column]].step)));
  std::string legend;
  for (int shade = 0; shade < kShades; ++shade)
    legend += fmt::format("<i class=\"b{}\"></i>", shade);
  return fmt::format(
      "<figure class=\"card wide\"><figcaption><h3>Trust ratio of each tensor: {}</h3>"
      "<span class=\"shades\">{:.3g} {} {:.3g}</span></figcaption>\n"
      "<svg viewBox=\"0 0 {} {:.1f}\" role=\"img\" aria-label=\"trust ratios\">{}</svg>\n"
      "<p class=\"caption\">A row a tensor, a column a recorded step, colours on a log scale. "
      "Tensors "
      "without decay have ratio 1 and no row.</p></figure>\n",
      escaped(run.name), shape.low, legend, shape.high, kWidth, height + kAxis, svg);
}

}  // namespace minibert
