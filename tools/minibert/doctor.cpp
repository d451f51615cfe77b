// doctor.cpp: `minibert doctor`: what on this machine would slow a run down, stop it or lose it, a
// line a check, with the fix below. Exit code 2 if a check failed. The checks: models/training/doctor.h.
// Test: ctest -R doctor.
#include "models/training/doctor.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

constexpr Verdict kVerdicts[] = {Verdict::ok, Verdict::warn, Verdict::fail};

int64_t count(const std::vector<Finding>& findings, Verdict verdict) {
  return std::count_if(findings.begin(), findings.end(),
                       [&](const Finding& finding) { return finding.verdict == verdict; });
}

void print_json(const std::vector<Finding>& findings) {
  nlohmann::ordered_json report;
  report["checks"] = nlohmann::json::array();
  for (const Finding& finding : findings)
    report["checks"].push_back(nlohmann::ordered_json{{"check", finding.check},
                                                      {"verdict", name_of(finding.verdict)},
                                                      {"found", finding.found},
                                                      {"fix", finding.fix}});
  for (const Verdict verdict : kVerdicts) report[name_of(verdict)] = count(findings, verdict);
  fmt::print("{}\n", report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_lines(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    fmt::print("{:<4}  {:<13}  {}\n", name_of(finding.verdict), finding.check, finding.found);
    if (!finding.fix.empty()) fmt::print("{:<19}  fix: {}\n", "", finding.fix);
  }
  const auto of = [&](Verdict verdict) { return count(findings, verdict); };
  fmt::print("{} checks: {} ok, {} warn, {} fail\n", findings.size(), of(Verdict::ok),
             of(Verdict::warn), of(Verdict::fail));
}

}  // namespace

void add_doctor_verb(CLI::App& app) {
  auto* sub = app.add_subcommand("doctor", "check this machine for what would hinder a run");
  auto request = std::make_shared<DoctorRequest>();
  auto json = std::make_shared<bool>(false);
  sub->add_option("--output-dir", request->output_dir, "where runs will be written")
      ->capture_default_str();
  sub->add_option("--data", request->data, "folder of shards that will be read");
  sub->add_option("--port", request->port, "where ranks will meet (else MASTER_PORT, else 29500)")
      ->check(CLI::Range(1, 65535));
  sub->add_flag("--json", *json, "one JSON object");
  sub->callback([request, json] {
    const std::vector<Finding> findings = examine(this_machine(), *request);
    *json ? print_json(findings) : print_lines(findings);
    if (count(findings, Verdict::fail) > 0)
      throw CLI::RuntimeError(static_cast<int>(ErrorCategory::usage));
  });
}

}  // namespace minibert
