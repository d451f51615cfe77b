// environment.cpp: what this build and this machine are.
#include "models/training/environment.h"

#include <algorithm>
#include <fstream>

#include <fmt/format.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/device_marks.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "core/version.h"

namespace minibert {
namespace fs = std::filesystem;

RunEnvironment current_environment(Device device) {
  const std::string gemm =
      device == Device::cpu
          ? gemm_implementation()
          : fmt::format("{} on {}", gemm_cuda_implementation(), cuda_device().name);
  return {version(), git_commit(), compiler(), libraries(), name_of(simd_level()),
          gemm,      num_threads()};
}

std::string differences(const RunEnvironment& before, const RunEnvironment& now) {
  std::string text;
  const auto add = [&text](const char* what, const auto& a, const auto& b) {
    if (a != b) text += fmt::format("{}{} {} -> {}", text.empty() ? "" : ", ", what, a, b);
  };
  add("version", before.version, now.version);
  add("commit", before.commit, now.commit);
  add("compiler", before.compiler, now.compiler);
  add("libraries", before.libraries, now.libraries);
  add("instruction set", before.simd, now.simd);
  add("GEMM", before.gemm, now.gemm);
  add("threads", before.threads, now.threads);
  return text;
}

std::string cpu_info(const std::string& key, const fs::path& root) {
  std::ifstream file(root / "proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind(key, 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

std::string cpu_name(const fs::path& root) {
  const std::string name = cpu_info("model name", root);
  return name.empty() ? "unknown" : name;
}

std::string supported_simd_levels() {
  std::string text;
  for (SimdLevel level : {SimdLevel::v2, SimdLevel::v3, SimdLevel::v4}) {
    if (simd_level_supported(level)) text += std::string(text.empty() ? "" : " ") + name_of(level);
  }
  return text;
}

std::string host_name() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

int64_t physical_memory() {
  return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
}

int64_t memory_limit() {
  return std::min(physical_memory(), cgroup_memory());
}

}  // namespace minibert
