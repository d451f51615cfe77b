// doctor_ranks.cpp: checks of what ranks need to meet: the launcher's variables, a port, names,
// network interfaces. Nothing here talks to another machine, but for the resolution of names.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "models/training/doctor_checks.h"

namespace minibert::doctor {
namespace {

constexpr int kDefaultPort = 29500;  // PyTorch's

struct Launcher {
  const char *name, *mark;  // mark: the variable that says that it started this process
  const char *rank, *world, *local_world;
};
constexpr Launcher kLaunchers[] = {
    {"torchrun", "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"srun", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE"},
    {"RANK", "RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"},
    {"RANK", "WORLD_SIZE", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"},
};

/// Whether ranks are, or may be, on other machines.
bool several_machines(const Ranks& ranks) {
  return ranks.world > 1 && ranks.local_world > 0 && ranks.local_world < ranks.world;
}

/// Listens for a moment, on both families where the machine has both. The port, or -errno.
int try_port(int port) {
  const int socket = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool v6 = socket >= 0;
  const int listener = v6 ? socket : ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1, off = 0;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (v6) ::setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  sockaddr_in6 any6{};
  any6.sin6_family = AF_INET6;
  any6.sin6_port = htons(static_cast<uint16_t>(port));
  sockaddr_in any4{};
  any4.sin_family = AF_INET;
  any4.sin_port = any6.sin6_port;  // the two have their port at the same place
  auto* address = v6 ? reinterpret_cast<sockaddr*>(&any6) : reinterpret_cast<sockaddr*>(&any4);
  socklen_t length = v6 ? sizeof any6 : sizeof any4;
  int result = port;
  if (::bind(listener, address, length) != 0 || ::listen(listener, 1) != 0) {
    result = -errno;
  } else if (::getsockname(listener, address, &length) == 0) {
    result = ntohs(v6 ? any6.sin6_port : any4.sin_port);
  }
  ::close(listener);
  return result;
}

/// "2(x3),1": how many of Slurm's tasks each node has, as the different numbers.
std::set<std::string> tasks_of_nodes(const std::string& text) {
  std::set<std::string> numbers;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');)
    numbers.insert(part.substr(0, part.find('(')));
  return numbers;
}

/// An address by which other machines reach this one; "" if there is none.
std::string outside_address(const Machine& machine) {
  for (const NetworkInterface& one : machine.interfaces)
    for (const std::string& address : one.addresses)
      if (address.rfind("127.", 0) != 0 && address != "::1" && address.rfind("fe80", 0) != 0)
        return address;
  return "";
}

}  // namespace

Ranks ranks_of(const Machine& machine) {
  for (const Launcher& one : kLaunchers) {
    if (machine.variable(one.mark).empty()) continue;
    Ranks ranks{.launcher = one.name,
                .rank_text = machine.variable(one.rank),
                .world_text = machine.variable(one.world),
                .names = fmt::format(
                    "{}", fmt::join(std::set<std::string>{one.mark, one.rank, one.world}, " "))};
    ranks.rank = whole_number(ranks.rank_text).value_or(-1);
    ranks.world = whole_number(ranks.world_text).value_or(0);
    ranks.local_world = whole_number(machine.variable(one.local_world)).value_or(0);
    return ranks;
  }
  return {};
}

Result launcher(const Machine& machine, const DoctorRequest&) {
  const Ranks ranks = ranks_of(machine);
  if (ranks.launcher.empty()) return ok("none: one process, no ranks");
  if (ranks.rank < 0 || ranks.world < 1 || ranks.rank >= ranks.world)
    return fail(fmt::format("{}: rank is \"{}\" and their number \"{}\", expected two numbers, the "
                            "first below the second",
                            ranks.launcher, ranks.rank_text, ranks.world_text),
                fmt::format("unset {}   # or let torchrun, mpirun or srun set them", ranks.names));
  const std::string found =
      fmt::format("{}: rank {} of {}, {} on this machine", ranks.launcher, ranks.rank, ranks.world,
                  ranks.local_world > 0 ? fmt::format("{}", ranks.local_world)
                                        : std::string("not said how many"));
  Faults faults;
  const std::string tasks = machine.variable("SLURM_STEP_TASKS_PER_NODE");
  if (ranks.launcher == "srun" && tasks_of_nodes(tasks).size() > 1)
    faults.add(warn(fmt::format("uneven: {} ranks a node", tasks),
                    "srun --ntasks-per-node=N with as many on each"));
  else if (ranks.local_world > 0 && ranks.world % ranks.local_world != 0)
    faults.add(warn("uneven: machines have different numbers of ranks",
                    fmt::format("{} with as many on each",
                                ranks.launcher == "Open MPI" ? "mpirun --map-by ppr:N:node"
                                : ranks.launcher == "srun"   ? "srun --ntasks-per-node=N"
                                                             : "torchrun --nproc-per-node=N")));
  const auto share = whole_number(machine.variable("SLURM_CPUS_PER_TASK"));
  const int threads = threads_wanted(machine);
  if (ranks.launcher == "srun" && share && *share > 0 && *share < threads)
    faults.add(warn(
        fmt::format("{} threads on the {} CPUs of a task", threads, *share),
        fmt::format("export OMP_NUM_THREADS={}   # or srun --cpus-per-task={}", *share, threads)));
  return faults.with(found);
}

Result port(const Machine& machine, const DoctorRequest& request) {
  const std::string text = machine.variable("MASTER_PORT");
  if (!machine.variable("MINIBERT_LISTENER").empty())  // dist/spawn.h opened it for rank 0
    return ok(fmt::format("{} is open for the ranks of this machine", text));
  const bool asked = request.port > 0 || !text.empty();
  const bool agent = machine.variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  const int from_variable = text.empty() ? kDefaultPort : whole_number(text).value_or(0);
  // torchrun's agent listens at MASTER_PORT itself; the ranks meet at the next one
  const int port = request.port > 0 ? request.port : from_variable + (agent ? 1 : 0);
  const auto other_port = [] { return fmt::format("export MASTER_PORT={}", try_port(0)); };
  if (from_variable < 1 || port > 65535)
    return fail(fmt::format("MASTER_PORT is \"{}\", expected 1 to 65535", text), other_port());
  const std::vector<std::string> master = machine.resolve(machine.variable("MASTER_ADDR"));
  if (!master.empty() && !machine.has_address(master.front()))
    return ok(fmt::format("{} is for the machine of rank 0, {}", port, master.front()));
  const int result = try_port(port);
  if (result > 0) return ok(fmt::format("{} is free on all addresses", port));
  const std::string found =
      fmt::format("{} can't be listened at: {}", port, std::strerror(-result));
  const std::string fix = agent ? fmt::format("torchrun --master-port {}", try_port(0))
                                : fmt::format("{}   # on each rank{}", other_port(),
                                              request.port > 0 ? ", or another --port" : "");
  return asked ? fail(found, fix) : warn(found, fix);
}

Result host(const Machine& machine, const DoctorRequest&) {
  const std::vector<std::string> addresses = machine.resolve(machine.host_name);
  const std::string outside = outside_address(machine);
  const std::string address = outside.empty() ? "127.0.0.1" : outside;
  const std::string line = fmt::format("{} {}", address, machine.host_name);
  const std::string variable = fmt::format("   # or export MASTER_ADDR={} on each rank", address);
  if (addresses.empty())
    return warn(fmt::format("{} has no address", machine.host_name),
                fmt::format("as root: echo '{}' >> /etc/hosts{}", line, variable));
  const std::string entry = fmt::format("edit /etc/hosts: its line with {} becomes: {}{}",
                                        machine.host_name, line, variable);
  const std::set<std::string> unique(addresses.begin(), addresses.end());
  const std::string found = fmt::format("{} is {}", machine.host_name, fmt::join(unique, ", "));
  for (const std::string& one : unique)
    if (!machine.has_address(one))
      return warn(fmt::format("{}: {} is not of this machine", found, one), entry);
  const bool loopback = std::all_of(unique.begin(), unique.end(), [](const std::string& one) {
    return one.rfind("127.", 0) == 0 || one == "::1";
  });
  if (loopback && several_machines(ranks_of(machine)))
    return warn(found + ": other machines that are told this name can't reach it", entry);
  return ok(found + (loopback ? ", which serves ranks of one machine only" : ""));
}

Result master(const Machine& machine, const DoctorRequest&) {
  const std::string name = machine.variable("MASTER_ADDR");
  if (name.empty()) return std::nullopt;
  const std::vector<std::string> addresses = machine.resolve(name);
  if (addresses.empty())
    return fail(fmt::format("MASTER_ADDR={} has no address", name),
                "export MASTER_ADDR=ADDRESS   # as hostname -I shows it on the machine of rank 0");
  const std::string found = fmt::format("MASTER_ADDR={} is {}", name, addresses.front());
  const bool here = machine.has_address(addresses.front());
  const Ranks ranks = ranks_of(machine);
  if (!here && !ranks.launcher.empty() && ranks.rank == 0)
    return fail(
        found + ": not of this machine, which has rank 0",
        fmt::format("export MASTER_ADDR={}   # on each rank",
                    outside_address(machine).empty() ? "127.0.0.1" : outside_address(machine)));
  const bool loopback = addresses.front().rfind("127.", 0) == 0 || addresses.front() == "::1";
  if (loopback && several_machines(ranks))
    return fail(found + ": each machine would wait for itself",
                "export MASTER_ADDR=ADDRESS   # as hostname -I shows it on the machine of rank 0");
  return ok(found + (here ? ", this machine" : ", another machine"));
}

Result network(const Machine& machine, const DoctorRequest&) {
  std::vector<std::string> found;
  for (const NetworkInterface& one : machine.interfaces)
    if (!one.addresses.empty())
      found.push_back(fmt::format("{} {}", one.name, fmt::join(one.addresses, " ")));
  const std::string text = fmt::format("{}", fmt::join(found, ", "));
  if (found.empty()) return warn("no interface is up, not even lo", "as root: ip link set lo up");
  Faults faults;
  for (const char* variable : {"NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"}) {
    std::string name = machine.variable(variable);
    if (name.empty() || name[0] == '^') continue;  // ^docker: all but these
    if (name[0] == '=') name.erase(0, 1);
    name = name.substr(0, name.find(','));
    const bool known = std::any_of(machine.interfaces.begin(), machine.interfaces.end(),
                                   [&](const NetworkInterface& one) {
                                     return one.name.rfind(name, 0) == 0 && !one.addresses.empty();
                                   });
    if (!known)
      faults.add(fail(fmt::format("{}={} is none of them", variable, name),
                      fmt::format("unset {}", variable)));
  }
  if (outside_address(machine).empty() && several_machines(ranks_of(machine)))
    faults.add(fail("other machines can't be reached", "docker run --network=host"));
  return faults.with(text);
}

}  // namespace minibert::doctor
