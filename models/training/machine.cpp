// machine.cpp: asks the system.
#include "models/training/machine.h"

#include <algorithm>
#include <chrono>
#include <fstream>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "models/training/environment.h"

extern char** environ;

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// "192.0.2.1", "2001:db8::1"; "" for addresses of other families.
std::string text_of(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address && address->sa_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof text);
  if (address && address->sa_family == AF_INET6)
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text,
              sizeof text);
  return text;
}

std::vector<NetworkInterface> read_interfaces() {
  std::vector<NetworkInterface> found;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return found;
  for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
    const std::string address = entry->ifa_flags & IFF_UP ? text_of(entry->ifa_addr) : "";
    auto same = std::find_if(found.begin(), found.end(),
                             [&](const auto& known) { return known.name == entry->ifa_name; });
    if (same == found.end()) same = found.insert(found.end(), {entry->ifa_name, {}});
    if (!address.empty()) same->addresses.push_back(address);
  }
  freeifaddrs(list);
  return found;
}

std::vector<std::string> resolve(const std::string& name) {
  std::vector<std::string> found;
  if (name.empty()) return found;
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(name.c_str(), nullptr, &hints, &list) != 0) return found;
  for (const addrinfo* entry = list; entry; entry = entry->ai_next)
    found.push_back(text_of(entry->ai_addr));
  freeaddrinfo(list);
  return found;
}

uint64_t soft_limit(int resource) {
  rlimit limit{};
  return getrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0 ? limit.rlim_cur
                                                                          : RLIM_INFINITY;
}

int allowed_cpus(int otherwise) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : otherwise;
}

/// When this binary was written.
std::time_t build_time() {
  std::error_code error;
  const auto written = fs::last_write_time("/proc/self/exe", error);
  if (error) return 0;
  return std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::system_clock::duration>(
          std::chrono::file_clock::to_sys(written)));
}

}  // namespace

std::string Machine::variable(const std::string& name) const {
  const auto found = variables.find(name);
  return found == variables.end() ? "" : found->second;
}

int64_t Machine::meminfo(const std::string& key) const {
  std::ifstream file(root / "proc/meminfo");
  int64_t kilobytes = 0;
  for (std::string line; std::getline(file, line);)
    if (line.rfind(key + ":", 0) == 0) kilobytes = std::atoll(line.c_str() + key.size() + 1);
  return kilobytes * 1024;
}

bool Machine::has_address(const std::string& address) const {
  return address.rfind("127.", 0) == 0 ||
         std::any_of(interfaces.begin(), interfaces.end(), [&](const NetworkInterface& one) {
           return std::find(one.addresses.begin(), one.addresses.end(), address) !=
                  one.addresses.end();
         });
}

Machine this_machine() {
  Machine machine;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos)
      machine.variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  machine.cpus_online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  machine.cpus_allowed = allowed_cpus(machine.cpus_online);
  machine.host_name = host_name();
  machine.interfaces = read_interfaces();
  machine.resolve = resolve;
  machine.space = [](const fs::path& path) { return fs::space(path); };
  machine.limit = soft_limit;
  machine.is_root = geteuid() == 0;
  machine.now = std::time(nullptr);
  machine.built = build_time();
  machine.cuda = cuda_machine();
  return machine;
}

}  // namespace minibert
