// environment.h: the build and the machine under a run: what its bits depend on, and what run.json
// records. Called by run_folder.cpp, trainer.cpp, resume.cpp, the checks of doctor.h and
// `minibert env`. Easy to break: a new field of RunEnvironment must be compared in differences() and
// stored by checkpoint.cpp.
// Test: ctest -R training_environment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/device.h"

namespace minibert {

/// What the bits of a run depend on besides its configuration. Stored in each checkpoint.
struct RunEnvironment {
  std::string version, commit, compiler, libraries, simd, gemm;
  int threads = 0;
  bool operator==(const RunEnvironment&) const = default;
};
/// `gemm` is what multiplies on that device.
RunEnvironment current_environment(Device device = Device::cpu);
/// "threads 2 -> 1, instruction set v4 -> v3"; "" if equal.
std::string differences(const RunEnvironment& before, const RunEnvironment& now);

/// The first CPU's line `key` of /proc/cpuinfo under `root`; "" if it has none.
std::string cpu_info(const std::string& key, const std::filesystem::path& root = "/");
/// "AMD EPYC 9B45", as /proc/cpuinfo has it.
std::string cpu_name(const std::filesystem::path& root = "/");
/// "v2 v3": those of core/simd.h that this CPU has.
std::string supported_simd_levels();
std::string host_name();
/// Bytes of memory that the machine has.
int64_t physical_memory();
/// Bytes of memory that this process may use: the machine's, or its cgroup's limit if smaller.
int64_t memory_limit();

}  // namespace minibert
