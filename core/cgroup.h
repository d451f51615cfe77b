// cgroup.h: what the control groups of this process grant it: the limits of a container, of a job or
// of a systemd slice. Called by parallel.cpp for the number of threads, by models/training for memory.
// Easy to break: a limit may stand in any folder above the process's own, and the smallest counts;
// inside a container /proc/self/cgroup may name folders that only its host has.
// Source: Linux, admin-guide/cgroup-v2 and cgroup-v1. Test: ctest -R core_cgroup.
#pragma once

#include <cstdint>
#include <filesystem>

namespace minibert {

/// The quota in CPUs, perhaps a fraction; infinity where there is none. `root` has /proc and /sys.
double cgroup_cpus(const std::filesystem::path& root = "/");
/// The memory limit in bytes; INT64_MAX where there is none.
int64_t cgroup_memory(const std::filesystem::path& root = "/");

}  // namespace minibert
