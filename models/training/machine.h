// machine.h: the machine as `minibert doctor` sees it: files under `root`, and what only system calls
// tell. Tests plant another one. Filled by this_machine(), read by the checks of doctor.h. Easy to
// break: a check that asks the system past this struct can't be tested with a planted fault.
// Test: ctest -R training_doctor.
#pragma once

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/cuda_machine.h"

namespace minibert {

struct NetworkInterface {
  std::string name;
  std::vector<std::string> addresses;  // of IPv4 and IPv6; only if it is up
};

struct Machine {
  std::filesystem::path root = "/";  // of /proc, /sys and /dev
  std::map<std::string, std::string> variables = {};
  int cpus_online = 1, cpus_allowed = 1;  // allowed: by the affinity mask
  std::string host_name = {};
  std::vector<NetworkInterface> interfaces = {};
  /// Addresses of a name, empty if there are none.
  std::function<std::vector<std::string>(const std::string&)> resolve = {};
  std::function<std::filesystem::space_info(const std::filesystem::path&)> space = {};
  /// Soft limit of a resource (RLIMIT_...); RLIM_INFINITY where there is none.
  std::function<uint64_t(int)> limit = {};
  int64_t disk_probe_bytes = 16 << 20;  // written to time a disk
  bool is_root = false;
  std::time_t now = 0, built = 0;
  CudaMachine cuda = {};

  /// A variable, "" if it is not set.
  std::string variable(const std::string& name) const;
  /// Kilobytes that /proc/meminfo has for "MemAvailable", as bytes; 0 if it has none.
  int64_t meminfo(const std::string& key) const;
  bool has_address(const std::string& address) const;
};
Machine this_machine();

}  // namespace minibert
