// doctor.cpp: `minibert doctor`: what on this machine would slow a run down, stop it or lose it, a
// line a check, with the fix below. Exit code 2 if a check failed. The checks:
// models/training/doctor.h. With --nproc, or under a launcher, the first rank of each machine
// examines it, and the ranks time an all-reduce: doctor_ranks.h. Test: ctest -R doctor.
#include "models/training/doctor.h"

#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tools/minibert/doctor_ranks.h"
#include "tools/minibert/local_ranks.h"
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

/// Where this process is among the ranks, if any. Nothing if the launcher's variables make no sense,
/// which is a finding of its own.
std::optional<Launch> launch_if_sound() {
  try {
    return launch_here();
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

void run(const DoctorRequest& request, const RankCheck& ranks, bool json) {
  const std::optional<Launch> launch = launch_if_sound();
  if (launch) start_ranks(ranks.ranks, *launch, own_arguments(), 1.5 * ranks.timeout + 30);
  std::vector<Finding> findings;
  const bool first_here = !launch || launch->local_rank == 0;
  if (first_here) findings = examine(this_machine(), request);
  if (launch && launch->world > 1) {
    const Finding together = examine_ranks(*launch, ranks);
    if (launch->rank == 0) findings.push_back(together);
  }
  if (first_here) json ? print_json(findings) : print_lines(findings);
  if (count(findings, Verdict::fail) > 0)
    throw CLI::RuntimeError(static_cast<int>(ErrorCategory::usage));
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
  auto ranks = std::make_shared<RankCheck>();
  sub->add_option("--nproc", ranks->ranks, "ranks on this machine that time an all-reduce")
      ->check(CLI::Range(1, 1024));
  sub->add_option("--collectives", ranks->collectives, "who sums over the ranks")
      ->check(CLI::IsMember({"gloo", "ring", "nccl"}))
      ->capture_default_str();
  sub->add_option("--interface", ranks->interface,
                  "network interface or address by which ranks reach one another");
  sub->add_option("--timeout", ranks->timeout, "seconds that ranks wait for each other")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
  sub->add_flag("--json", *json, "one JSON object");
  sub->callback([request, ranks, json] { run(*request, *ranks, *json); });
}

}  // namespace minibert
