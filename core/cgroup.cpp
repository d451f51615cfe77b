// cgroup.cpp: reads the limits of both versions of control groups, and takes the smallest.
#include "core/cgroup.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// The folders where limits of a controller may stand: from the process's own up to the top. A line of
/// /proc/self/cgroup is "0::/job.slice/run" (version 2) or "4:cpu,cpuacct:/docker/1f" (version 1).
std::vector<fs::path> folders(const fs::path& root, const std::string& controller) {
  const fs::path v2 = root / "sys/fs/cgroup", v1 = v2 / controller;
  std::vector<fs::path> found = {v2, v1};
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool is_v1 = ("," + controllers + ",").find("," + controller + ",") != std::string::npos;
    if (!controllers.empty() && !is_v1) continue;
    const fs::path top = is_v1 ? v1 : v2;
    fs::path path = top / fs::path(line.substr(second + 1)).relative_path();
    for (; path != top && path.has_relative_path(); path = path.parent_path())
      found.push_back(path);
  }
  return found;
}

/// The number that a file begins with; `otherwise` if it has none ("max") or is absent.
double number_in(const fs::path& path, double otherwise) {
  std::ifstream file(path);
  double value = 0;
  return file >> value ? value : otherwise;
}

double quota_v2(const fs::path& folder) {  // "150000 100000", "max 100000"
  std::ifstream file(folder / "cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period && period > 0 ? quota / period : INFINITY;
}

double quota_v1(const fs::path& folder) {  // -1: none
  const double quota = number_in(folder / "cpu.cfs_quota_us", -1);
  const double period = number_in(folder / "cpu.cfs_period_us", 0);
  return quota > 0 && period > 0 ? quota / period : INFINITY;
}

}  // namespace

double cgroup_cpus(const fs::path& root) {
  double cpus = INFINITY;
  for (const fs::path& folder : folders(root, "cpu"))
    cpus = std::min({cpus, quota_v2(folder), quota_v1(folder)});
  return cpus;
}

int64_t cgroup_memory(const fs::path& root) {
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  constexpr double kNoLimit = 1e18;  // version 1 says 2^63, less a page, where there is none
  int64_t bytes = kNone;
  for (const fs::path& folder : folders(root, "memory")) {
    for (const char* name : {"memory.max", "memory.limit_in_bytes"}) {
      const double limit = number_in(folder / name, INFINITY);
      if (limit < kNoLimit) bytes = std::min(bytes, static_cast<int64_t>(limit));
    }
  }
  return bytes;
}

}  // namespace minibert
