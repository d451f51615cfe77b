// compare.cpp: `minibert compare A B`: what differs between two runs, from which step on, and whether
// their curves are farther apart than chance explains. The comparison, with its formula, is
// models/curves/compare_curves.h. Try: minibert compare --help. Test: ctest -R report.
#include <algorithm>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/curves/compare_curves.h"
#include "models/curves/report_page.h"
#include "models/curves/run_summary.h"
#include "models/text/json_text.h"
#include "tools/minibert/report_output.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

struct CompareFlags {
  std::string a, b, output;
  CompareOptions options;
  bool json = false, dry_run = false;
};

std::string quoted(const std::string& text) {
  return json_text(nlohmann::json(text));
}

// ---- JSON --------------------------------------------------------------------------------------

std::string optional_step(const std::optional<int64_t>& step) {
  return step ? fmt::format("{}", *step) : "null";
}

std::string settings_json(const std::vector<SettingDifference>& settings) {
  std::string text;
  for (const SettingDifference& row : settings)
    text += fmt::format("{}{{\"name\": {}, \"a\": {}, \"b\": {}}}", text.empty() ? "" : ", ",
                        quoted(row.name), quoted(row.values[0]), quoted(row.values[1]));
  return "[" + text + "]";
}

std::string windows_json(const std::vector<CurveWindow>& windows) {
  std::string text;
  for (const CurveWindow& w : windows)
    text += fmt::format(
        "{}{{\"first\": {}, \"last\": {}, \"steps\": {}, \"a\": {}, \"b\": {}, \"difference\": {}, "
        "\"band\": {}, \"outside\": {}}}",
        text.empty() ? "" : ", ", w.first, w.last, w.steps, json_number(w.a), json_number(w.b),
        json_number(w.difference), json_number(w.band), w.outside);
  return "[" + text + "]";
}

std::string differing_step_json(const std::optional<DifferingStep>& any) {
  if (!any) return "null";
  const auto value = [&](const std::string& text) {  // of an evaluation: what metrics.jsonl has
    return any->field == "eval" ? quoted(text) : text;
  };
  return fmt::format("{{\"step\": {}, \"field\": {}, \"a\": {}, \"b\": {}}}", any->step,
                     quoted(any->field), value(any->a), value(any->b));
}

void print_json(const std::vector<RunData>& runs, const std::vector<SettingDifference>& settings,
                const CurveComparison& comparison) {
  fmt::print(
      "{{\"agree\": {}, \"common_steps\": {}, \"first_difference\": {}, "
      "\"first_loss_difference\": {}, \"first_loss_beyond_tolerance\": {}, "
      "\"not_finite_in_one\": {}, \"not_finite_in_both\": {}, \"windows_outside\": {}, "
      "\"windows\": {}, \"settings\": {}, \"a\": {}, \"b\": {}}}\n",
      comparison.agree(), comparison.common_steps, differing_step_json(comparison.any),
      optional_step(comparison.loss_bits), optional_step(comparison.loss_tolerance),
      comparison.not_finite_in_one, comparison.not_finite_in_both, comparison.outside(),
      windows_json(comparison.windows), settings_json(settings), summary_json(runs[0]),
      summary_json(runs[1]));
}

// ---- Lines -------------------------------------------------------------------------------------

void print_steps(const CurveComparison& c, const CompareOptions& options) {
  if (!c.any) {
    fmt::print("records: all {} common steps are equal, bit for bit\n", c.common_steps);
    return;
  }
  fmt::print("records: differ from step {} on: {} is {} in a, {} in b\n", c.any->step, c.any->field,
             c.any->a, c.any->b);
  if (c.loss_bits) fmt::print("loss: differs from step {} on", *c.loss_bits);
  if (c.loss_tolerance)
    fmt::print(", by more than {:g} % from step {} on", 100 * options.tolerance, *c.loss_tolerance);
  fmt::print("{}", c.loss_bits ? "\n" : "loss: equal, bit for bit\n");
}

void print_settings(const std::vector<SettingDifference>& settings) {
  fmt::print("settings that differ: {}\n", settings.size());
  size_t name = 0, value = 0;
  for (const SettingDifference& row : settings) {
    name = std::max(name, row.name.size());
    value = std::max(value, row.values[0].size());
  }
  const auto shown = [](const std::string& text) { return text.empty() ? "(not set)" : text; };
  for (const SettingDifference& row : settings)
    fmt::print("  {:<{}}  {:<{}}  {}\n", row.name, name, shown(row.values[0]),
               std::max<size_t>(value, 9), shown(row.values[1]));
}

void print_windows(const CurveComparison& comparison) {
  fmt::print("{}, means of windows:\n  {:>15}  {:>9}  {:>9}  {:>9}  {:>9}\n",
             comparison.fine_tuning ? "loss" : "MLM loss", "steps", "a", "b", "b - a", "band");
  for (const CurveWindow& w : comparison.windows)
    fmt::print("  {:>15}  {:>9.4f}  {:>9.4f}  {:>+9.4f}  {:>9.4f}{}\n",
               fmt::format("{}-{}", w.first, w.last), w.a, w.b, w.difference, w.band,
               w.outside ? "  outside" : "");
}

void print_verdict(const CurveComparison& c) {
  if (c.not_finite_in_one + c.not_finite_in_both > 0)
    fmt::print("not finite: {} steps in one run alone, {} in both\n", c.not_finite_in_one,
               c.not_finite_in_both);
  if (c.agree()) {
    fmt::print("agree: all {} windows are within the band\n", c.windows.size());
    return;
  }
  const auto first = std::find_if(c.windows.begin(), c.windows.end(),
                                  [](const CurveWindow& window) { return window.outside; });
  fmt::print("differ: {} of {} windows are outside of the band, the first is steps {}-{}\n",
             c.outside(), c.windows.size(), first->first, first->last);
}

void print_lines(const std::vector<RunData>& runs, const std::vector<SettingDifference>& settings,
                 const CurveComparison& comparison, const CompareOptions& options) {
  for (size_t i = 0; i < runs.size(); ++i) {
    fmt::print("{}: {}\n", i == 0 ? "a" : "b", summary_line(runs[i]));
    for (const std::string& note : runs[i].notes) fmt::print("  note: {}\n", note);
  }
  print_steps(comparison, options);
  print_settings(settings);
  print_windows(comparison);
  print_verdict(comparison);
}

void run(const CompareFlags& flags) {
  if (!flags.output.empty()) check_report_output(flags.output);
  const std::vector<RunData> runs = read_runs({flags.a, flags.b});
  const CurveComparison comparison = compare_curves(runs[0], runs[1], flags.options);
  const std::vector<SettingDifference> settings = differing_settings({&runs[0], &runs[1]});
  if (flags.json) {
    print_json(runs, settings, comparison);
  } else {
    print_lines(runs, settings, comparison, flags.options);
  }
  if (!flags.output.empty() && !flags.dry_run)
    write_report(flags.output, report_page(runs, {difference_plot(comparison)}));
  if (!comparison.agree()) throw CLI::RuntimeError(static_cast<int>(ErrorCategory::numeric));
}

}  // namespace

void add_compare_verb(CLI::App& app) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* verb = app.add_subcommand(
      "compare",
      "compare two runs' curves: the first step that differs, the settings that differ, and "
      "whether MLM losses are farther apart than chance explains; exit code 0 if they agree, 4 if "
      "a window of steps is outside of the band");
  verb->add_option("a", flags->a, "run folder")->required()->type_name("A");
  verb->add_option("b", flags->b, "run folder to compare with it")->required()->type_name("B");
  verb->add_option("--deviations", flags->options.deviations,
                   "half width of the band in standard deviations of a window's mean, measured "
                   "from the steps' noise in both runs")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  verb->add_option("--tolerance", flags->options.tolerance,
                   "added to the band, as a share of the loss: how far apart runs may stay")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str();
  verb->add_option("--windows", flags->options.windows,
                   "windows at most; each has 10 steps or more, or there is one")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  verb->add_option("--output", flags->output,
                   "also write the page of `report` for both, with the difference and its band");
  verb->add_flag("--dry-run", flags->dry_run, "write no page");
  verb->add_flag("--json", flags->json, "print one JSON object");
  verb->callback([flags] { run(*flags); });
}

}  // namespace minibert
