// environment.h: the build and the machine under a run: what its bits depend on, and what run.json
// records. Called by run_folder.cpp, trainer.cpp, resume.cpp and `minibert env`. Easy to break: a
// new field of RunEnvironment must be compared in differences() and stored by checkpoint.cpp.
// Test: ctest -R training_environment.
#pragma once

#include <cstdint>
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

/// "AMD EPYC 9B45", as /proc/cpuinfo has it.
std::string cpu_name();
/// Bytes of memory that this process may use: the machine's, or its cgroup's limit if smaller.
int64_t memory_limit();

}  // namespace minibert
