// launch.cpp: the launchers, one function each, then what they must agree on.
#include "dist/launch.h"

#include <charconv>
#include <cstdlib>
#include <optional>

#include "core/error.h"

namespace minibert {
namespace {

constexpr int kDefaultPort = 29500;  // PyTorch's
// Ports for jobs of Slurm, by job number: below those that systems give to outgoing connections.
constexpr int kFirstJobPort = 12000, kJobPorts = 20000;

/// Variables, and what they say.
class Variables {
 public:
  explicit Variables(const Environment& environment) : environment_(environment) {}

  /// Empty if it isn't set.
  std::string text(const char* name) const {
    const char* value = environment_(name);
    return value ? value : "";
  }
  bool has(const char* name) const { return !text(name).empty(); }
  std::optional<int> number(const char* name) const {
    const std::string value = text(name);
    if (value.empty()) return std::nullopt;
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    MB_CHECK(error == std::errc() && end == value.data() + value.size() && number >= 0,
             "{} is '{}', expected a whole number from 0", name, value);
    return number;
  }
  /// Of a variable that its launcher always sets; `because` is another one of it.
  int needed(const char* name, const char* because) const {
    const auto value = number(name);
    MB_CHECK(value, "{} is set, but {} is not: set both or none", because, name);
    return *value;
  }

 private:
  const Environment& environment_;
};

/// A launcher's names for rank and world.
struct Names {
  const char *rank, *world;
};
constexpr Names kPlain = {"RANK", "WORLD_SIZE"};
constexpr Names kOpenMpi = {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"};
constexpr Names kSlurm = {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"};

std::optional<Launch> by_plain(const Variables& v) {
  if (!v.has(kPlain.rank) && !v.has(kPlain.world)) return std::nullopt;
  Launch launch{.by = v.has("TORCHELASTIC_RUN_ID") ? "torchrun" : "RANK"};
  launch.rank = v.needed(kPlain.rank, kPlain.world);
  launch.world = v.needed(kPlain.world, kPlain.rank);
  launch.local_rank = v.number("LOCAL_RANK").value_or(0);
  launch.local_world = v.number("LOCAL_WORLD_SIZE").value_or(0);
  launch.run_id = v.text("TORCHELASTIC_RUN_ID");
  return launch;
}

std::optional<Launch> by_open_mpi(const Variables& v) {
  if (!v.has(kOpenMpi.rank) && !v.has(kOpenMpi.world)) return std::nullopt;
  Launch launch{.by = "Open MPI"};
  launch.rank = v.needed(kOpenMpi.rank, kOpenMpi.world);
  launch.world = v.needed(kOpenMpi.world, kOpenMpi.rank);
  launch.local_rank = v.number("OMPI_COMM_WORLD_LOCAL_RANK").value_or(0);
  launch.local_world = v.number("OMPI_COMM_WORLD_LOCAL_SIZE").value_or(0);
  if (launch.local_world == launch.world) launch.master = {"127.0.0.1", kDefaultPort};
  return launch;
}

/// "node[07-09,12],login" -> "node07"
std::string first_host(const std::string& list) {
  const size_t bracket = list.find('['), comma = list.find(',');
  if (bracket == list.npos || comma < bracket) return list.substr(0, comma);
  const size_t first = bracket + 1;
  const size_t end = list.find_first_of("-,]", first), close = list.find(']', first);
  MB_CHECK(close != list.npos, "SLURM_STEP_NODELIST is '{}', expected a ] after the [", list);
  const size_t next = list.find(',', close);
  return list.substr(0, bracket) + list.substr(first, end - first) +
         list.substr(close + 1, next == list.npos ? next : next - close - 1);
}

std::optional<Launch> by_slurm(const Variables& v) {
  if (!v.has("SLURM_STEP_ID") || !v.has(kSlurm.rank)) return std::nullopt;
  Launch launch{.by = "srun"};
  launch.rank = v.needed(kSlurm.rank, "SLURM_STEP_ID");
  launch.world = v.needed(kSlurm.world, kSlurm.rank);
  launch.local_rank = v.number("SLURM_LOCALID").value_or(0);
  launch.local_world = v.number("SLURM_NTASKS_PER_NODE").value_or(0);
  launch.run_id = v.text("SLURM_JOB_ID") + "." + v.text("SLURM_STEP_ID");
  const int job = v.number("SLURM_JOB_ID").value_or(0);
  launch.master = {first_host(v.text("SLURM_STEP_NODELIST")), kFirstJobPort + job % kJobPorts};
  return launch;
}

/// Somebody's RANK and WORLD_SIZE against a launcher's.
void check_agreement(const Launch& plain, const Launch& launcher, const Names& names) {
  const auto check = [&](const char* name, int value, const char* other, int other_value) {
    MB_CHECK(value == other_value,
             "{} is {}, but {} is {} ({}): two launchers disagree about this process. Unset one of "
             "the two",
             name, value, other, other_value, launcher.by);
  };
  check(kPlain.rank, plain.rank, names.rank, launcher.rank);
  check(kPlain.world, plain.world, names.world, launcher.world);
}

void check_range(const Launch& launch) {
  MB_CHECK(launch.world >= 1 && launch.rank < launch.world,
           "rank {} of {} ({}), expected 0 to world size - 1", launch.rank, launch.world,
           launch.by);
  MB_CHECK(
      launch.local_world == 0 ||
          (launch.local_rank < launch.local_world && launch.local_world <= launch.world),
      "local rank {} of {} on this machine, {} in all ({}): expected local rank < ranks of the "
      "machine <= all",
      launch.local_rank, launch.local_world, launch.world, launch.by);
}

Endpoint master_of(const Launch& launch, const Variables& v) {
  Endpoint master = launch.master;
  if (v.has("MASTER_ADDR")) master.host = v.text("MASTER_ADDR");
  MB_CHECK(!master.host.empty(),
           "there are {} ranks ({}), but MASTER_ADDR is not set. Set it to the name or the address "
           "of rank 0's machine, on every rank",
           launch.world, launch.by);
  if (master.port == 0) master.port = kDefaultPort;
  master.port = v.number("MASTER_PORT").value_or(master.port);
  if (launch.by == "torchrun" && v.text("TORCHELASTIC_USE_AGENT_STORE") == "True") ++master.port;
  MB_CHECK(master.port >= 1 && master.port <= 65535, "MASTER_PORT is {}, expected 1 to 65535",
           master.port);
  return master;
}

}  // namespace

Launch launch_of(const Environment& environment) {
  const Variables v(environment);
  const auto plain = by_plain(v), mpi = by_open_mpi(v), slurm = by_slurm(v);
  if (plain && plain->by != "torchrun") {
    if (mpi) {
      check_agreement(*plain, *mpi, kOpenMpi);
    } else if (slurm) {
      check_agreement(*plain, *slurm, kSlurm);
    }
  }
  Launch launch;
  if (plain && plain->by == "torchrun") {
    launch = *plain;
  } else if (mpi || slurm) {
    launch = mpi ? *mpi : *slurm;
  } else if (plain) {
    launch = *plain;
  }
  check_range(launch);
  launch.secret = v.text("MINIBERT_SECRET");
  if (v.has("MINIBERT_RUN_ID")) launch.run_id = v.text("MINIBERT_RUN_ID");
  launch.listener = v.number("MINIBERT_LISTENER").value_or(-1);
  launch.master = launch.world > 1 ? master_of(launch, v) : Endpoint();
  return launch;
}

Launch launch_here() {
  return launch_of([](const char* name) { return std::getenv(name); });
}

std::vector<std::string> variables_of(const Launch& launch) {
  std::vector<std::string> all;
  const auto set = [&](const char* name, const auto& value) {
    all.push_back(fmt::format("{}={}", name, value));
  };
  set(kPlain.rank, launch.rank);
  set(kPlain.world, launch.world);
  set("LOCAL_RANK", launch.local_rank);
  set("LOCAL_WORLD_SIZE", launch.local_world);
  set("MASTER_ADDR", launch.master.host);
  set("MASTER_PORT", launch.master.port == 0 ? "" : std::to_string(launch.master.port));
  set("MINIBERT_RUN_ID", launch.run_id);
  set("MINIBERT_SECRET", launch.secret);
  set("MINIBERT_LISTENER", launch.listener < 0 ? "" : std::to_string(launch.listener));
  for (const char* outer : {"TORCHELASTIC_RUN_ID", kOpenMpi.rank, kOpenMpi.world, "SLURM_STEP_ID"})
    set(outer, "");
  return all;
}

}  // namespace minibert
