// environment.cpp: what this build and this machine are.
#include "models/training/environment.h"

#include <fstream>

#include <fmt/format.h>
#include <unistd.h>

#include "core/device_marks.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "core/version.h"

namespace minibert {
namespace {

int64_t read_number(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : 0;
}

}  // namespace

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

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return "unknown";
}

int64_t memory_limit() {
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  int64_t limit = physical;
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const int64_t value = read_number(path);
    if (value > 0 && value < limit) limit = value;
  }
  return limit;
}

}  // namespace minibert
