// report.cpp: `minibert report`: runs as one HTML page with plots, to be opened in any browser and sent
// to anybody. The page is made in models/curves/report_page.h. Try: minibert report --help.
// Easy to break: a file that is no report of ours is never overwritten. Test: ctest -R report.
#include <filesystem>
#include <fstream>
#include <memory>

#include <fmt/format.h>

#include "core/error.h"
#include "models/curves/report_page.h"
#include "models/curves/run_summary.h"
#include "models/text/atomic_file.h"
#include "tools/minibert/report_output.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

struct ReportFlags {
  std::vector<std::string> runs;
  std::string output = "report.html";
  bool json = false, dry_run = false;
};

void run(const ReportFlags& flags) {
  check_report_output(flags.output);
  const std::vector<RunData> runs =
      read_runs(std::vector<fs::path>(flags.runs.begin(), flags.runs.end()));
  const std::string page = report_page(runs);
  if (!flags.dry_run) write_report(flags.output, page);
  for (const RunData& run : runs) {
    fmt::print("{}\n", flags.json ? summary_json(run) : summary_line(run));
    if (flags.json) continue;
    for (const std::string& note : run.notes) fmt::print("  note: {}\n", note);
  }
  if (!flags.json)
    fmt::print("{} {} ({:.0f} kB)\n", flags.dry_run ? "would write" : "wrote", flags.output,
               static_cast<double>(page.size()) / 1e3);
}

}  // namespace

void check_report_output(const fs::path& output) {
  if (!fs::exists(output)) return;
  const std::string_view expected(kReportStart);
  std::string start(expected.size(), '\0');
  std::ifstream file(output, std::ios::binary);
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  MB_CHECK(!fs::is_directory(output) && start == expected,
           "{}: is there and is no page of `minibert report`, which it would overwrite. Choose "
           "another --output.",
           output.string());
}

void write_report(const fs::path& output, const std::string& page) {
  write_file_atomically(output, page);
}

void add_report_verb(CLI::App& app) {
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* verb = app.add_subcommand(
      "report",
      "draw runs, finished or still going, as one HTML page with plots: loss, accuracy, learning "
      "rate, gradient norm, trust ratios, loss scale, throughput; settings, machine, checkpoints");
  verb->add_option("runs", flags->runs, "run folders; several share each plot")
      ->required()
      ->type_name("RUN");
  verb->add_option("--output", flags->output, "the page; an older page of this verb is replaced")
      ->capture_default_str();
  verb->add_flag("--dry-run", flags->dry_run, "read the runs, write nothing");
  verb->add_flag("--json", flags->json, "print one JSON object a run instead of lines");
  verb->callback([flags] { run(*flags); });
}

}  // namespace minibert
