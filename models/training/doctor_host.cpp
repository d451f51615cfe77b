// doctor_host.cpp: checks of the build, the processor, memory, limits and the clock.
#include <algorithm>
#include <cmath>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include "core/cgroup.h"
#include "core/kernels/gemm.h"
#include "core/simd.h"
#include "core/version.h"
#include "models/training/doctor_checks.h"
#include "models/training/environment.h"

namespace minibert::doctor {
namespace {

constexpr double kGiB = 1 << 30;

bool has_flag(const Machine& machine, const std::string& flag) {
  return (cpu_info("flags", machine.root) + " ").find(" " + flag + " ") != std::string::npos;
}

/// The variable that decides the number of threads.
std::string threads_variable(const Machine& machine) {
  const bool own = whole_number(machine.variable("MINIBERT_THREADS")).value_or(0) > 0;
  return own ? "MINIBERT_THREADS" : "OMP_NUM_THREADS";
}

/// How a limit of memory is raised, by who set it.
std::string more_memory(const Machine& machine) {
  if (!machine.variable("SLURM_JOB_ID").empty()) return "sbatch --mem=16G (or srun)";
  return "docker run --memory=16g (Kubernetes: resources.limits.memory)";
}

}  // namespace

int usable_cpus(const Machine& machine) {
  const double quota = std::ceil(cgroup_cpus(machine.root));
  return std::max(1, quota < machine.cpus_allowed ? static_cast<int>(quota) : machine.cpus_allowed);
}

int threads_wanted(const Machine& machine) {
  for (const char* name : {"MINIBERT_THREADS", "OMP_NUM_THREADS"}) {
    const std::string text = machine.variable(name);
    if (text.empty()) continue;
    const auto value = whole_number(text);
    if (!value) return 0;
    if (*value > 0) return *value;
  }
  return usable_cpus(machine);
}

Result build(const Machine&, const DoctorRequest&) {
  const std::string found =
      fmt::format("minibert {} ({}), {}, {}", version(), git_commit(), compiler(), libraries());
  if (compiler().find("Release") != std::string::npos) return ok(found);
  return warn(found + ": not optimised", "tools/build cpu, then build/cpu/bin/minibert");
}

Result cpu(const Machine& machine, const DoctorRequest&) {
  const SimdLevel chosen = simd_level();
  const std::string bf16 = gemm_implementation(DType::bf16);
  const bool has_bf16 = has_flag(machine, "avx512_bf16") || has_flag(machine, "amx_bf16");
  const std::string found =
      fmt::format("{}: kernels for {} (it has {}); bf16 products: {}, {} instructions for them",
                  cpu_name(machine.root), name_of(chosen), supported_simd_levels(), bf16,
                  has_flag(machine, "amx_bf16") ? "AMX"
                  : has_bf16                    ? "AVX512-BF16"
                                                : "no");
  Faults faults;
  if (chosen != SimdLevel::v4 &&
      simd_level_supported(static_cast<SimdLevel>(static_cast<int>(chosen) + 1)))
    faults.add(warn("a better level is not used", "unset MINIBERT_SIMD"));
  for (const char* name : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"})
    if (!machine.variable(name).empty())
      faults.add(warn(fmt::format("{} limits oneDNN to {}", name, machine.variable(name)),
                      fmt::format("unset {}", name)));
  if (has_bf16 && bf16.find("oneDNN") == std::string::npos)
    faults.add(warn("this build doesn't use them", "apt-get install libdnnl-dev; tools/build cpu"));
  return faults.with(found);
}

Result cpus(const Machine& machine, const DoctorRequest&) {
  const double quota = cgroup_cpus(machine.root);
  const std::string found =
      fmt::format("{} of {} CPUs allowed, {}", machine.cpus_allowed, machine.cpus_online,
                  std::isfinite(quota) ? fmt::format("the cgroup's quota is {:.3g}", quota)
                                       : std::string("no quota"));
  Faults faults;
  if (quota < threads_wanted(machine))
    faults.add(warn("less than a CPU for each thread: all are stopped for a part of the time",
                    quota >= 1
                        ? fmt::format("export {}={}", threads_variable(machine), std::floor(quota))
                        : "docker run --cpus=1   # or more"));
  if (machine.cpus_allowed == 1 && machine.cpus_online > 1) {
    const Ranks ranks = ranks_of(machine);
    faults.add(warn("this process is bound to one CPU",
                    ranks.launcher == "Open MPI" ? "mpirun --bind-to none"
                    : ranks.launcher == "srun"
                        ? "srun --cpus-per-task=N   # CPUs of a machine over its ranks"
                        : fmt::format("taskset -pc 0-{} $$   # or docker run without --cpuset-cpus",
                                      machine.cpus_online - 1)));
  }
  return faults.with(found);
}

Result threads(const Machine& machine, const DoctorRequest&) {
  const int cpus = usable_cpus(machine), threads = threads_wanted(machine);
  const int ranks = std::max(1, ranks_of(machine).local_world);
  // srun and mpirun bind each rank to CPUs of its own; elsewhere the ranks of a machine share them
  const bool shared = machine.cpus_allowed == machine.cpus_online;
  const int share = shared ? std::max(1, cpus / ranks) : cpus;
  const std::string set_share = fmt::format("export {}={}", threads_variable(machine), share);
  Faults faults;
  std::vector<std::string> set;
  for (const char* name : {"MINIBERT_THREADS", "OMP_NUM_THREADS", "OMP_THREAD_LIMIT",
                           "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"})
    if (!machine.variable(name).empty())
      set.push_back(fmt::format("{}={}", name, machine.variable(name)));
  const std::string found =
      fmt::format("{} a rank, {} rank{} here ({})", threads, ranks, ranks == 1 ? "" : "s",
                  set.empty() ? "no variable set" : fmt::format("{}", fmt::join(set, " ")));
  if (threads == 0) return warn("not a number: " + found, "unset MINIBERT_THREADS OMP_NUM_THREADS");

  const auto own = whole_number(machine.variable("MINIBERT_THREADS"));
  const auto openmp = whole_number(machine.variable("OMP_NUM_THREADS"));
  const auto limit = whole_number(machine.variable("OMP_THREAD_LIMIT"));
  if (own && openmp && *own > 0 && *own != *openmp)
    faults.add(warn("the first wins", "unset OMP_NUM_THREADS"));
  if (threads > share)
    faults.add(warn(fmt::format("more than the {} CPUs for each", share), set_share));
  if (2 * threads <= share)
    faults.add(warn(fmt::format("{} CPUs for each, half or more idle", share), set_share));
  if (limit && *limit < threads)
    faults.add(warn("OpenMP may not start as many", "unset OMP_THREAD_LIMIT"));
  const std::string bind = machine.variable("OMP_PROC_BIND");
  const bool binds = (!bind.empty() && bind != "false") ||
                     !machine.variable("GOMP_CPU_AFFINITY").empty() ||
                     !machine.variable("OMP_PLACES").empty();
  if (ranks > 1 && shared && binds)
    faults.add(warn("each rank binds its threads to the same CPUs",
                    "unset OMP_PROC_BIND OMP_PLACES GOMP_CPU_AFFINITY"));
  for (const char* name : {"MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}) {
    const auto other = whole_number(machine.variable(name));
    if (other && *other != threads)
      faults.add(warn(fmt::format("{}={} has no effect here", name, *other),
                      fmt::format("unset {}   # or export OMP_NUM_THREADS={}", name, *other)));
  }
  return faults.with(found);
}

Result memory(const Machine& machine, const DoctorRequest&) {
  const auto total = static_cast<double>(machine.meminfo("MemTotal"));
  const auto available = static_cast<double>(machine.meminfo("MemAvailable"));
  const auto limit = static_cast<double>(cgroup_memory(machine.root));
  const bool limited = limit < total;
  const std::string found =
      fmt::format("{} free of {}, {}", size_text(available), size_text(total),
                  limited ? "the cgroup's limit is " + size_text(limit) : "no limit below");
  constexpr double kLittle = 4 * kGiB;  // bert-base in f32: weights, gradients, moments take 1.8 GB
  if (limited && limit < kLittle)
    return warn(found + ": little for more than a small model",
                more_memory(machine) + ", or a smaller --recipe or --micro-batch-size");
  if (available < kLittle)
    return warn(found + ": little for more than a small model",
                "ps aux --sort=-rss | head shows who has it; or a smaller --recipe or "
                "--micro-batch-size");
  return ok(found);
}

Result swap(const Machine& machine, const DoctorRequest&) {
  const auto total = static_cast<double>(machine.meminfo("SwapTotal"));
  const double used = total - static_cast<double>(machine.meminfo("SwapFree"));
  if (total == 0) return ok("none: who asks for more memory than there is, is ended");
  const std::string found = fmt::format("{} of {} in use", size_text(used), size_text(total));
  if (used < kGiB) return ok(found);
  return warn(found + ": memory was short, and what is there is slow",
              "end what needs the memory, then as root: swapoff -a && swapon -a");
}

Result limits(const Machine& machine, const DoctorRequest&) {
  constexpr uint64_t kNone = RLIM_INFINITY;
  const bool rdma = std::filesystem::exists(machine.root / "dev/infiniband");
  struct Row {
    const char* name;
    int resource;
    char letter;      // of ulimit
    uint64_t unit;    // that ulimit counts in
    uint64_t enough;  // 0: said only
  };
  const Row rows[] = {
      {"open files", RLIMIT_NOFILE, 'n', 1, 1024},
      {"processes", RLIMIT_NPROC, 'u', 1, 1024},
      {"file size", RLIMIT_FSIZE, 'f', 1024, kNone},
      {"address space", RLIMIT_AS, 'v', 1024, machine.cuda.in_build ? kNone : 0},
      {"locked memory", RLIMIT_MEMLOCK, 'l', 1024, rdma ? kNone : 0},
      {"core files", RLIMIT_CORE, 'c', 1024, 0},
  };
  Faults faults;
  std::vector<std::string> found;
  for (const Row& row : rows) {
    const uint64_t soft = machine.limit(row.resource);
    found.push_back(soft == kNone   ? fmt::format("{} unlimited", row.name)
                    : row.unit == 1 ? fmt::format("{} {}", row.name, soft)
                                    : fmt::format("{} {} KiB", row.name, soft / row.unit));
    if (soft >= row.enough) continue;
    const std::string enough =
        row.enough == kNone ? "unlimited" : fmt::format("{}", row.enough / row.unit);
    faults.add(warn(fmt::format("{} expected {}", row.name, enough),
                    fmt::format("ulimit -{} {}", row.letter, enough)));
  }
  Finding finding = faults.with(fmt::format("{}", fmt::join(found, ", ")));
  if (finding.verdict != Verdict::ok)
    finding.fix += "   # if refused: /etc/security/limits.conf, or docker run --ulimit";
  return finding;
}

Result clock(const Machine& machine, const DoctorRequest&) {
  const std::string found = fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(machine.now));
  constexpr std::time_t kHour = 3600, kDecade = 10 * 365 * 24 * kHour;
  const bool sane = machine.built == 0 ||
                    (machine.now >= machine.built - kHour && machine.now < machine.built + kDecade);
  if (sane) return ok(found);
  return warn(fmt::format("{}, but this binary was built on {:%Y-%m-%d}", found,
                          fmt::gmtime(machine.built)),
              "on the host: timedatectl set-ntp true");
}

}  // namespace minibert::doctor
