// doctor.cpp: the table of checks, and what all of them share.
#include "models/training/doctor.h"

#include <algorithm>
#include <charconv>
#include <exception>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "models/training/doctor_checks.h"

namespace minibert {
namespace {

struct Row {
  const char* name;
  doctor::Check look;
};
constexpr Row kChecks[] = {
    {"build", doctor::build},
    {"cpu", doctor::cpu},
    {"cpus", doctor::cpus},
    {"threads", doctor::threads},
    {"memory", doctor::memory},
    {"swap", doctor::swap},
    {"limits", doctor::limits},
    {"clock", doctor::clock},
    {"output folder", doctor::output_folder},
    {"data", doctor::data_folder},
    {"/dev/shm", doctor::shared_memory},
    {"launcher", doctor::launcher},
    {"port", doctor::port},
    {"host name", doctor::host},
    {"master", doctor::master},
    {"network", doctor::network},
    {"gpus", doctor::gpus},
    {"gpu links", doctor::gpu_links},
    {"gpu counters", doctor::gpu_counters},
};

doctor::Result look(const Row& row, const Machine& machine, const DoctorRequest& request) {
  try {
    return row.look(machine, request);
  } catch (const std::exception& error) {
    return doctor::fail(error.what(), "");  // our messages have their fix
  }
}

}  // namespace

const char* name_of(Verdict verdict) {
  return verdict == Verdict::ok ? "ok" : verdict == Verdict::warn ? "warn" : "fail";
}

std::vector<Finding> examine(const Machine& machine, const DoctorRequest& request) {
  std::vector<Finding> findings;
  for (const Row& row : kChecks) {
    doctor::Result result = look(row, machine, request);
    if (!result) continue;
    result->check = row.name;
    findings.push_back(*std::move(result));
  }
  return findings;
}

namespace doctor {

void Faults::add(Finding fault) {
  worst_ = std::max(worst_, fault.verdict);
  found_.push_back(std::move(fault.found));
  fixes_.push_back(std::move(fault.fix));
}

Finding Faults::with(const std::string& found) const {
  if (worst_ == Verdict::ok) return ok(found);
  return {.verdict = worst_,
          .found = fmt::format("{}: {}", found, fmt::join(found_, "; ")),
          .fix = fmt::format("{}", fmt::join(fixes_, "; "))};
}

std::string size_text(double bytes) {
  if (bytes >= 1 << 30) return fmt::format("{:.1f} GiB", bytes / (1 << 30));
  return fmt::format("{:.1f} MiB", bytes / (1 << 20));
}

std::optional<int> whole_number(const std::string& text) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 0) return std::nullopt;
  return value;
}

}  // namespace doctor
}  // namespace minibert
