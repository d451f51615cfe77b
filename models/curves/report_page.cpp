// report_page.cpp: the parts of the page, from top to bottom.
#include "models/curves/report_page.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/version.h"
#include "models/curves/report_plots.h"
#include "models/curves/run_summary.h"
#include "models/training/run_log.h"

namespace minibert {
namespace {

using Runs = std::vector<RunData>;

std::string cell(const std::string& text, const char* kind = "td") {
  return fmt::format("<{}>{}</{}>", kind, escaped(text), kind);
}

/// A run's name with its colour.
std::string name_html(const Runs& runs, size_t run) {
  return fmt::format("<span class=\"name s{}\"><i></i>{}</span>", run % 8, escaped(runs[run].name));
}

std::string name_columns(const Runs& runs) {
  std::string html;
  for (size_t i = 0; i < runs.size(); ++i) html += "<th>" + name_html(runs, i) + "</th>";
  return html;
}

// ---- Figures -----------------------------------------------------------------------------------

std::string rate(double count, double seconds) {
  return seconds > 0 ? fmt::format("{:.4g}", count / seconds) : "";
}

std::string evaluation_text(const std::optional<RecordedEvaluation>& evaluation) {
  if (!evaluation) return "";
  return fmt::format("{:.4f} ({}, step {})", evaluation->result.mlm_loss, evaluation->set,
                     evaluation->step);
}

/// Name and value of each figure of a run; "" where it has none.
std::vector<std::pair<std::string, std::string>> figures_of(const RunData& run) {
  const RunSummary s = summary_of(run);
  const auto accuracy = [](const auto& evaluation) {
    return evaluation ? fmt::format("{:.1f} %", 100 * evaluation->result.mlm_accuracy) : "";
  };
  return {
      {"steps",
       s.max_steps ? fmt::format("{} of {}", s.steps, *s.max_steps) : fmt::format("{}", s.steps)},
      {s.fine_tuning ? "loss, training" : "MLM loss, training",
       s.mlm_loss ? fmt::format("{:.4f}", *s.mlm_loss) : ""},
      {"scores, last evaluation", scores_text(s)},
      {"MLM loss, last evaluation", evaluation_text(s.last)},
      {"MLM loss, best evaluation", evaluation_text(s.best)},
      {"MLM accuracy, last evaluation", accuracy(s.last)},
      {"sequences", tick_text(static_cast<double>(s.sequences))},
      {"time in steps", format_duration(s.seconds)},
      {"sequences per second", rate(static_cast<double>(s.sequences), s.seconds)},
      {"skipped steps", fmt::format("{}", s.skipped_steps)},
      {"steps that are not finite", fmt::format("{}", s.non_finite_steps)},
  };
}

std::string figures_html(const Runs& runs) {
  std::vector<std::vector<std::pair<std::string, std::string>>> figures;
  for (const RunData& run : runs) figures.push_back(figures_of(run));
  std::string html;
  if (runs.size() == 1) {
    for (const auto& [name, value] : figures[0]) {
      const size_t rest = std::min(value.find(" ("), value.size());  // of an evaluation: when
      if (!value.empty())
        html +=
            fmt::format("<div class=\"tile\"><b>{}</b><span>{}{}</span></div>",
                        escaped(value.substr(0, rest)), escaped(name), escaped(value.substr(rest)));
    }
    return "<section class=\"tiles\">" + html + "</section>\n";
  }
  html = "<section class=\"card wide scroll\"><table class=\"figures\"><thead><tr><th></th>" +
         name_columns(runs) + "</tr></thead>";
  for (size_t row = 0; row < figures[0].size(); ++row) {
    html += "<tr>" + cell(figures[0][row].first, "th");
    for (const auto& column : figures) html += cell(column[row].second);
    html += "</tr>";
  }
  return html + "</table></section>\n";
}

std::string notes_html(const Runs& runs) {
  std::string items;
  for (const RunData& run : runs)
    for (const std::string& note : run.notes) items += "<li>" + escaped(note) + "</li>";
  return items.empty()
             ? ""
             : "<section class=\"card notes\"><h3>Notes</h3><ul>" + items + "</ul></section>\n";
}

std::string plots_html(const Runs& runs, const std::vector<Plot>& more) {
  double low = 0, high = 1;
  for (const RunData& run : runs)
    if (!run.records.empty()) high = std::max(high, static_cast<double>(run.records.back().step));
  std::string html;
  for (const Plot& plot : more) html += svg_figure(plot, low, high);
  for (const Plot& plot : report_plots(runs)) html += svg_figure(plot, low, high);
  std::string maps;
  for (const RunData& run : runs) maps += trust_ratio_map(run);
  return "<section class=\"plots\">" + html + "</section>\n" + maps;
}

// ---- Tables ------------------------------------------------------------------------------------

std::string setting_cell(const RunData& run, const std::string& name) {
  const Setting* found = run.setting(name);
  if (!found) return "<td class=\"absent\">not set</td>";
  return fmt::format("<td title=\"{}\"{}>{}</td>", escaped(found->origin),
                     found->origin == "default" ? " class=\"default\"" : "", escaped(found->value));
}

std::string setting_rows(const Runs& runs, const std::vector<std::string>& names, bool differ) {
  std::string html;
  for (const std::string& name : names) {
    html += fmt::format("<tr{}>", differ ? " class=\"differs\"" : "") + cell(name, "th");
    for (const RunData& run : runs) html += setting_cell(run, name);
    html += "</tr>";
  }
  return html;
}

/// What somebody looks for: the differences between runs, or, of one run, what is not a default.
/// The rest is folded. Each in the files' order.
std::string settings_html(const Runs& runs) {
  std::vector<const RunData*> pointers;
  for (const RunData& run : runs) pointers.push_back(&run);
  std::vector<std::string> shown, folded;
  for (const SettingDifference& row : differing_settings(pointers)) shown.push_back(row.name);
  const size_t differing = shown.size();
  for (const RunData& run : runs) {
    for (const Setting& setting : run.settings) {
      const auto has = [&](const auto& names) {
        return std::count(names.begin(), names.end(), setting.name) > 0;
      };
      if (has(shown) || has(folded)) continue;
      const bool chosen = runs.size() == 1 && setting.origin != "default";
      (chosen ? shown : folded).push_back(setting.name);
    }
  }
  if (shown.empty() && folded.empty()) return "";
  const std::string head = "<thead><tr><th></th>" + name_columns(runs) + "</tr></thead>";
  const auto table = [&](const std::vector<std::string>& names, bool differ) {
    return "<div class=\"scroll\"><table>" + head + setting_rows(runs, names, differ) +
           "</table></div>";
  };
  std::string html = "<section class=\"card wide\"><h3>Settings</h3>";
  if (runs.size() > 1)
    html += fmt::format("<p class=\"caption\">{} of {} differ.</p>", differing,
                        shown.size() + folded.size());
  if (!shown.empty()) html += table(shown, runs.size() > 1);
  if (!folded.empty())
    html += fmt::format("<details><summary>{}: {}</summary>{}</details>",
                        runs.size() > 1 ? "Equal in all runs" : "Defaults", folded.size(),
                        table(folded, false));
  return html + "</section>\n";
}

/// What run.json says of each launch, a column a launch.
std::string launches_html(const Runs& runs) {
  std::vector<std::string> keys;
  std::string head;
  std::vector<const RecordedLaunch*> launches;
  for (size_t i = 0; i < runs.size(); ++i) {
    for (const RecordedLaunch& launch : runs[i].launches) {
      launches.push_back(&launch);
      head += "<th>" + name_html(runs, i) + "</th>";
      for (const auto& [key, value] : launch.facts)
        if (!std::count(keys.begin(), keys.end(), key)) keys.push_back(key);
    }
  }
  if (launches.empty()) return "";
  std::string rows;
  for (const std::string& key : keys) {
    std::string cells;
    for (const RecordedLaunch* launch : launches) {
      const auto found = std::find_if(launch->facts.begin(), launch->facts.end(),
                                      [&](const auto& fact) { return fact.first == key; });
      cells += cell(found == launch->facts.end() ? "" : found->second);
    }
    rows += "<tr>" + cell(key, "th") + cells + "</tr>";
  }
  return fmt::format(
      "<section class=\"card wide\"><h3>Machine and build</h3><div class=\"scroll\">"
      "<table><thead><tr><th></th>{}</tr></thead>{}</table></div></section>\n",
      head, rows);
}

std::string checkpoints_html(const Runs& runs) {
  std::string rows;
  for (size_t i = 0; i < runs.size(); ++i)
    for (const RecordedCheckpoint& c : runs[i].checkpoints)
      rows += fmt::format(
          "<tr><td>{}</td><td>checkpoint-{}</td><td class=\"number\">{:.1f} "
          "MB</td><td>{}{}{}</td></tr>",
          name_html(runs, i), c.step, static_cast<double>(c.bytes) / 1e6, c.latest ? "latest" : "",
          c.latest && c.best ? ", " : "", c.best ? "best by evaluation" : "");
  if (rows.empty()) return "";
  return "<section class=\"card wide\"><h3>Checkpoints</h3><div class=\"scroll\"><table>" + rows +
         "</table></div></section>\n";
}

}  // namespace

std::string report_page(const Runs& runs, const std::vector<Plot>& more) {
  std::string names, title;
  for (size_t i = 0; i < runs.size(); ++i) {
    names += name_html(runs, i);
    title += (i == 0 ? "" : ", ") + runs[i].name;
  }
  return fmt::format(
      "{}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n"
      "<title>{}: training report</title>\n<style>{}</style>\n</head>\n<body>\n"
      "<header><h1>Training report</h1><p "
      "class=\"runs\">{}</p></header>\n<main>\n{}{}{}{}{}{}</main>\n"
      "<footer>minibert {} ({})</footer>\n<script>{}</script>\n</body>\n</html>\n",
      kReportStart, escaped(title), report_style(), names, figures_html(runs), notes_html(runs),
      plots_html(runs, more), settings_html(runs), launches_html(runs), checkpoints_html(runs),
      version(), git_commit(), report_script());
}

}  // namespace minibert
