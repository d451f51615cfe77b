// doctor_test.cpp: each check of doctor.h on planted machines: files under a root of our own, system
// calls' answers in Machine. What the checks do themselves (listen, write) they do here for real.
#include "models/training/doctor.h"

#include <algorithm>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/simd.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kGiB = uint64_t{1} << 30;

class Doctor : public ::testing::Test {
 protected:
  Doctor()
      : root_(fs::canonical(fs::temp_directory_path()) /
              fmt::format("minibert_doctor_{}_{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(root_ / "runs");
    fs::create_directories(root_ / "dev/shm");
    plant("proc/cpuinfo", "model name\t: Planted CPU\nflags\t\t: fpu avx2\n");
    plant("proc/meminfo",
          "MemTotal:       16777216 kB\nMemAvailable:   12582912 kB\n"
          "SwapTotal:       8388608 kB\nSwapFree:        8388608 kB\n");
    plant("proc/self/mountinfo", "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n");
    machine_.root = root_;
    machine_.cpus_online = machine_.cpus_allowed = 4;
    machine_.host_name = "node1";
    machine_.interfaces = {{"lo", {"127.0.0.1", "::1"}}, {"eth0", {"192.0.2.7"}}, {"ib0", {}}};
    machine_.resolve = [this](const std::string& name) { return names_[name]; };
    machine_.space = [this](const fs::path& path) {
      const uintmax_t bytes = path == root_ / "dev/shm" ? shm_ : disk_;
      return fs::space_info{bytes, bytes, bytes};
    };
    machine_.limit = [this](int resource) {
      return limits_.count(resource) ? limits_[resource] : RLIM_INFINITY;
    };
    machine_.disk_probe_bytes = 4096;
    machine_.now = machine_.built = 1'700'000'000;
    request_.output_dir = root_ / "runs";
    request_.port = free_port();
  }
  ~Doctor() override { fs::remove_all(root_); }

  void plant(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void set(const std::map<std::string, std::string>& variables) { machine_.variables = variables; }
  /// A finding; its check is "" if the check didn't concern the machine.
  Finding look(const std::string& check) {
    for (const Finding& finding : examine(machine_, request_))
      if (finding.check == check) return finding;
    return {};
  }
  void expect(const std::string& check, Verdict verdict, const std::string& found,
              const std::string& fix = "") {
    const Finding finding = look(check);
    EXPECT_EQ(finding.check, check);
    EXPECT_STREQ(name_of(finding.verdict), name_of(verdict)) << finding.found;
    EXPECT_NE(finding.found.find(found), std::string::npos) << finding.found;
    EXPECT_NE(finding.fix.find(fix), std::string::npos) << finding.fix;
    EXPECT_EQ(finding.fix.empty(), fix.empty()) << finding.fix;
  }
  void expect_ok(const std::string& check, const std::string& found) {
    expect(check, Verdict::ok, found);
  }
  void expect_warn(const std::string& check, const std::string& found, const std::string& fix) {
    expect(check, Verdict::warn, found, fix);
  }
  void expect_fail(const std::string& check, const std::string& found, const std::string& fix) {
    expect(check, Verdict::fail, found, fix);
  }

  /// Listens at a port of the kernel's choice as long as it lives.
  struct Listener {
    int socket = ::socket(AF_INET, SOCK_STREAM, 0), port = 0;
    Listener() {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      socklen_t length = sizeof address;
      auto* plain = reinterpret_cast<sockaddr*>(&address);
      EXPECT_EQ(::bind(socket, plain, length), 0);
      EXPECT_EQ(::listen(socket, 1), 0);
      EXPECT_EQ(::getsockname(socket, plain, &length), 0);
      port = ntohs(address.sin_port);
    }
    ~Listener() { ::close(socket); }
  };
  static int free_port() { return Listener().port; }

  const fs::path root_;
  Machine machine_;
  DoctorRequest request_;
  std::map<std::string, std::vector<std::string>> names_ = {
      {"node1", {"192.0.2.7"}}, {"node2", {"192.0.2.8"}}, {"localhost", {"127.0.0.1"}}};
  std::map<int, uint64_t> limits_;
  uintmax_t disk_ = 500 * kGiB, shm_ = 8 * kGiB;
};

const std::map<std::string, std::string> kTorchrun = {{"TORCHELASTIC_RUN_ID", "none"},
                                                      {"RANK", "1"},
                                                      {"WORLD_SIZE", "4"},
                                                      {"LOCAL_WORLD_SIZE", "2"},
                                                      {"OMP_NUM_THREADS", "2"}};

std::map<std::string, std::string> with(std::map<std::string, std::string> variables,
                                        const std::map<std::string, std::string>& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST_F(Doctor, AWellMachineHasNothingToFix) {
  for (const Finding& finding : examine(machine_, request_)) {
    if (finding.check == "build") continue;  // sanitizers' builds are no Release
    EXPECT_EQ(finding.verdict, Verdict::ok) << finding.check << ": " << finding.found;
    EXPECT_EQ(finding.fix, "") << finding.check;
    EXPECT_NE(finding.found, "") << finding.check;
  }
  EXPECT_TRUE(fs::is_empty(root_ / "runs"));
}

TEST_F(Doctor, ThisMachineIsSeen) {
  const Machine here = this_machine();
  EXPECT_GE(here.cpus_online, here.cpus_allowed);
  EXPECT_GT(here.meminfo("MemTotal"), int64_t{1} << 20);
  EXPECT_FALSE(here.host_name.empty());
  EXPECT_FALSE(here.variable("PATH").empty());
  EXPECT_GE(here.now, here.built);
  EXPECT_GT(here.space("/").capacity, 0u);
  EXPECT_TRUE(here.has_address("127.0.0.1"));
  EXPECT_FALSE(here.has_address("192.0.2.99"));
  EXPECT_EQ(here.resolve("127.0.0.1"), std::vector<std::string>{"127.0.0.1"});
  EXPECT_TRUE(here.resolve("no such name").empty());
}

TEST_F(Doctor, CpuSaysWhatIsNotUsed) {
  expect_ok("cpu", "Planted CPU: kernels for v");
  expect_ok("cpu", "no instructions for them");
  set({{"ONEDNN_MAX_CPU_ISA", "AVX2"}});
  expect_warn("cpu", "limits oneDNN to AVX2", "unset ONEDNN_MAX_CPU_ISA");
  set({});
  const SimdLevel best = simd_level();
  if (best == SimdLevel::v2) return;
  set_simd_level(SimdLevel::v2);
  expect_warn("cpu", "kernels for v2 (it has v2 v3", "unset MINIBERT_SIMD");
  set_simd_level(best);
}

TEST_F(Doctor, CpusBelowThreadsAreReported) {
  expect_ok("cpus", "4 of 4 CPUs allowed, no quota");
  plant("sys/fs/cgroup/cpu.max", "250000 100000");
  expect_warn("cpus", "quota is 2.5", "export OMP_NUM_THREADS=2");
  set({{"OMP_NUM_THREADS", "2"}});
  expect_ok("cpus", "quota is 2.5");  // the fix
  set({{"MINIBERT_THREADS", "3"}});
  expect_warn("cpus", "quota is 2.5", "export MINIBERT_THREADS=2");
  plant("sys/fs/cgroup/cpu.max", "50000 100000");
  expect_warn("cpus", "quota is 0.5", "--cpus=1");
}

TEST_F(Doctor, AProcessBoundToOneCpuIsReported) {
  machine_.cpus_allowed = 1;
  expect_warn("cpus", "1 of 4 CPUs allowed", "taskset -pc 0-3 $$");
  set({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}});
  expect_warn("cpus", "bound to one CPU", "mpirun --bind-to none");
  set({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}});
  expect_warn("cpus", "bound to one CPU", "srun --cpus-per-task=N");
}

TEST_F(Doctor, ThreadsThatDisagreeAreReported) {
  expect_ok("threads", "4 a rank, 1 rank here (no variable set)");
  set({{"OMP_NUM_THREADS", "4,2"}});
  expect_warn("threads", "not a number", "unset MINIBERT_THREADS OMP_NUM_THREADS");
  set({{"OMP_NUM_THREADS", "8"}});
  expect_warn("threads", "more than the 4 CPUs", "export OMP_NUM_THREADS=4");
  set({{"OMP_NUM_THREADS", "1"}});
  expect_warn("threads", "half or more idle", "export OMP_NUM_THREADS=4");
  set({{"OMP_NUM_THREADS", "3"}, {"MINIBERT_THREADS", "4"}});
  expect_warn("threads", "the first wins", "unset OMP_NUM_THREADS");
  set({{"OMP_THREAD_LIMIT", "2"}});
  expect_warn("threads", "OpenMP may not start as many", "unset OMP_THREAD_LIMIT");
  set({{"MKL_NUM_THREADS", "2"}});
  expect_warn("threads", "MKL_NUM_THREADS=2 has no effect", "unset MKL_NUM_THREADS");
}

TEST_F(Doctor, RanksShareTheCpusOfAMachine) {
  set(kTorchrun);
  expect_ok("threads", "2 a rank, 2 ranks here");
  set(with(kTorchrun, {{"OMP_NUM_THREADS", "4"}}));
  expect_warn("threads", "more than the 2 CPUs for each", "export OMP_NUM_THREADS=2");
  set(with(kTorchrun, {{"OMP_PROC_BIND", "true"}}));
  expect_warn("threads", "to the same CPUs", "unset OMP_PROC_BIND");
  machine_.cpus_allowed = 2;  // each has its own
  expect_ok("threads", "2 a rank");
}

TEST_F(Doctor, MemoryAndItsLimitsAreReported) {
  expect_ok("memory", "12.0 GiB free of 16.0 GiB, no limit below");
  plant("sys/fs/cgroup/memory.max", "2147483648");
  expect_warn("memory", "limit is 2.0 GiB", "docker run --memory=16g");
  set({{"SLURM_JOB_ID", "7"}});
  expect_warn("memory", "limit is 2.0 GiB", "--mem=16G");
  plant("sys/fs/cgroup/memory.max", "8589934592");
  expect_ok("memory", "limit is 8.0 GiB");
  expect_ok("swap", "0.0 MiB of 8.0 GiB in use");
  plant("proc/meminfo",
        "MemTotal: 8388608 kB\nMemAvailable: 1048576 kB\nSwapTotal: 8388608 kB\n"
        "SwapFree: 2097152 kB\n");
  expect_warn("memory", "1.0 GiB free of 8.0 GiB", "ps aux");
  expect_warn("swap", "6.0 GiB of 8.0 GiB in use", "swapoff");
  plant("proc/meminfo", "");
  expect_ok("swap", "none");
}

TEST_F(Doctor, LimitsAreReportedWithTheirCommand) {
  expect_ok("limits", "open files unlimited, processes unlimited, file size unlimited");
  limits_ = {{RLIMIT_NOFILE, 256},
             {RLIMIT_FSIZE, 1 << 20},
             {RLIMIT_MEMLOCK, 8 << 20},
             {RLIMIT_CORE, 0},
             {RLIMIT_AS, kGiB}};
  expect_warn("limits", "open files 256, processes unlimited, file size 1024 KiB",
              "ulimit -n 1024; ulimit -f unlimited   #");
  limits_ = {{RLIMIT_MEMLOCK, 8 << 20}, {RLIMIT_AS, kGiB}};
  expect_ok("limits", "locked memory 8192 KiB");
  plant("dev/infiniband/uverbs0", "");
  expect_warn("limits", "locked memory expected unlimited", "ulimit -l unlimited");
  machine_.cuda.in_build = true;
  expect_warn("limits", "address space expected unlimited", "ulimit -v unlimited; ulimit -l");
}

TEST_F(Doctor, AClockBeforeTheBuildIsReported) {
  expect_ok("clock", "2023-11-14 22:13:20 UTC");
  machine_.now = 0;
  expect_warn("clock", "1970-01-01 00:00:00 UTC, but this binary was built on 2023-11-14",
              "timedatectl set-ntp true");
  machine_.now = machine_.built + 3'000'000'000;
  expect_warn("clock", "but this binary", "timedatectl");
}

TEST_F(Doctor, OutputFolderIsMeasuredAndItsKindSaid) {
  expect_ok("output folder", "runs (ext4): 500.0 GiB free, writes ");
  request_.output_dir = root_ / "runs/new/run";  // need not exist
  expect_ok("output folder", "runs/new/run (ext4)");
  EXPECT_TRUE(fs::is_empty(root_ / "runs"));
  disk_ = kGiB / 2;
  expect_warn("output folder", "512.0 MiB free", "--output-dir of a larger disk");
  disk_ = 500 * kGiB;
  const std::string mount = "\n30 22 0:9 / {} rw,relatime shared:1 - {} server:/x rw\n";
  const std::string top = "22 1 8:1 / / rw - overlay overlay rw";
  plant("proc/self/mountinfo", top);
  expect_warn("output folder", "lost with it", "docker run -v");
  plant("proc/self/mountinfo", top + fmt::format(fmt::runtime(mount), root_.string(), "nfs4"));
  expect_ok("output folder", "(nfs4 over a network)");
  plant("proc/self/mountinfo", top + fmt::format(fmt::runtime(mount), root_.string(), "tmpfs"));
  expect_warn("output folder", "in memory", "--output-dir of a disk");
  plant("proc/self/mountinfo",
        top + fmt::format(fmt::runtime(mount), root_.string() + "/ru", "tmpfs"));  // not above it
  expect_warn("output folder", "(overlay)", "docker run -v");
  plant("file", "");
  request_.output_dir = root_ / "file/run";
  expect_fail("output folder", "file is a file", "another --output-dir");
  request_.output_dir = "/proc";
  expect_fail("output folder", "can't be created", "--output-dir of a local disk");
}

// As another user where the test runs as root, who may write anywhere.
TEST_F(Doctor, AFolderThatIsClosedOpensByTheFix) {
  const fs::path runs = root_ / "runs";
  const bool was_root = ::geteuid() == 0;
  if (was_root) {
    ASSERT_EQ(::chown(runs.c_str(), 65534, 65534), 0);
    ASSERT_EQ(::seteuid(65534), 0);
  }
  ASSERT_EQ(::chmod(runs.c_str(), 0500), 0);
  const Finding closed = look("output folder");
  const int carried_out = std::system(closed.fix.c_str());
  const Finding open = look("output folder");
  if (was_root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  EXPECT_EQ(carried_out, 0);
  EXPECT_EQ(closed.verdict, Verdict::fail);
  EXPECT_EQ(closed.fix, fmt::format("chmod u+rwx '{}'", runs.string()));
  EXPECT_EQ(open.verdict, Verdict::ok) << open.found;
}

TEST_F(Doctor, DataIsReadOnlyIfAskedFor) {
  EXPECT_EQ(look("data").check, "");
  request_.data = root_ / "none";
  expect_fail("data", "none: can't be read: No such file", "minibert data build --output");
  request_.data = root_ / "data";
  fs::create_directories(request_.data);
  expect_fail("data", "no shards", "minibert data build --output");
  plant("data/shard", std::string(1 << 20, 'x'));
  expect_ok("data", "data (ext4): 1 files, 1.0 MiB; 500.0 GiB free");
}

TEST_F(Doctor, DockersSharedMemoryIsReported) {
  expect_ok("/dev/shm", "8.0 GiB free of 8.0 GiB");
  shm_ = 64 << 20;
  expect_warn("/dev/shm", "64.0 MiB free of 64.0 MiB", "docker run --shm-size=1g, or --ipc=host");
  shm_ = 8 * kGiB;
  machine_.space = [](const fs::path&) { return fs::space_info{8 * kGiB, 1 << 20, 1 << 20}; };
  expect_warn("/dev/shm", "1.0 MiB free of 8.0 GiB: full", "ls -lS /dev/shm");
  fs::remove_all(root_ / "dev/shm");
  expect_warn("/dev/shm", "there is none", "mount -t tmpfs");
}

TEST_F(Doctor, LaunchersAreRead) {
  expect_ok("launcher", "none: one process");
  set(kTorchrun);
  expect_ok("launcher", "torchrun: rank 1 of 4, 2 on this machine");
  set({{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  expect_ok("launcher", "RANK: rank 0 of 2, not said how many on this machine");
  set({{"OMPI_COMM_WORLD_RANK", "3"},
       {"OMPI_COMM_WORLD_SIZE", "4"},
       {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}});
  expect_ok("launcher", "Open MPI: rank 3 of 4, 4 on this machine");
  set({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}});  // a batch script outside of srun
  expect_ok("launcher", "none: one process");
}

TEST_F(Doctor, VariablesThatMakeNoSenseAreReported) {
  for (const auto& variables :
       {with(kTorchrun, {{"RANK", "4"}}), with(kTorchrun, {{"RANK", "one"}}),
        with(kTorchrun, {{"WORLD_SIZE", "0"}}), with(kTorchrun, {{"RANK", "-1"}})}) {
    set(variables);
    expect_fail("launcher", "the first below the second", "unset RANK TORCHELASTIC_RUN_ID");
  }
  set({{"WORLD_SIZE", "2"}});
  expect_fail("launcher", "rank is \"\" and their number \"2\"", "unset RANK WORLD_SIZE");
}

TEST_F(Doctor, UnevenRanksAreReported) {
  set(with(kTorchrun, {{"WORLD_SIZE", "5"}}));
  expect_warn("launcher", "uneven", "torchrun --nproc-per-node=N");
  const std::map<std::string, std::string> step = {{"SLURM_STEP_ID", "0"},
                                                   {"SLURM_PROCID", "2"},
                                                   {"SLURM_STEP_NUM_TASKS", "7"},
                                                   {"OMP_NUM_THREADS", "4"}};
  set(with(step, {{"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"}}));
  expect_warn("launcher", "uneven: 2(x3),1 ranks a node", "srun --ntasks-per-node=N");
  set(with(step, {{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_STEP_TASKS_PER_NODE", "2(x4)"}}));
  expect_ok("launcher", "srun: rank 2 of 8");
  set(with(step, {{"SLURM_CPUS_PER_TASK", "2"}}));
  expect_warn("launcher", "4 threads on the 2 CPUs of a task", "export OMP_NUM_THREADS=2");
}

TEST_F(Doctor, APortInUseIsReportedWithAnotherThatIsFree) {
  expect_ok("port", fmt::format("{} is free", request_.port));
  const Listener taken;
  request_.port = taken.port;
  expect_fail("port", "Address already in use", "another --port");
  request_.port = 0;
  set({{"MASTER_PORT", std::to_string(taken.port)}});
  expect_fail("port", "Address already in use", "export MASTER_PORT=");
  const std::string fix = look("port").fix;
  set({{"MASTER_PORT", std::to_string(std::atoi(fix.c_str() + fix.find('=') + 1))}});
  expect_ok("port", "is free");  // the fix
  set({{"MASTER_PORT", std::to_string(taken.port - 1)}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  expect_fail("port", fmt::format("{} can't", taken.port), "torchrun --master-port ");
  set({{"MASTER_PORT", std::to_string(taken.port)}, {"MASTER_ADDR", "node2"}});
  expect_ok("port", "is for the machine of rank 0, 192.0.2.8");
  for (const char* port : {"0", "65536", "http", "-1"}) {
    set({{"MASTER_PORT", port}});
    expect_fail("port", "expected 1 to 65535", "export MASTER_PORT=");
  }
}

TEST_F(Doctor, AHostNameThatMisleadsIsReported) {
  expect_ok("host name", "node1 is 192.0.2.7");
  names_["node1"] = {"127.0.1.1"};  // Debian's /etc/hosts
  expect_ok("host name", "node1 is 127.0.1.1, which serves ranks of one machine only");
  set(kTorchrun);
  expect_warn("host name", "can't reach it",
              "edit /etc/hosts: its line with node1 becomes: 192.0.2.7 node1");
  names_["node1"] = {"192.0.2.9"};
  expect_warn("host name", "192.0.2.9 is not of this machine", "export MASTER_ADDR=192.0.2.7");
  names_["node1"] = {};
  expect_warn("host name", "node1 has no address", "echo '192.0.2.7 node1' >> /etc/hosts");
  machine_.interfaces.resize(1);
  expect_warn("host name", "node1 has no address", "echo '127.0.0.1 node1' >> /etc/hosts");
}

TEST_F(Doctor, TheMastersAddressMustBeReachable) {
  EXPECT_EQ(look("master").check, "");
  const auto look_at = [&](const std::string& address, const std::string& rank) {
    set(with(kTorchrun, {{"MASTER_ADDR", address}, {"RANK", rank}}));
  };
  look_at("node1", "0");
  expect_ok("master", "MASTER_ADDR=node1 is 192.0.2.7, this machine");
  look_at("node2", "1");
  expect_ok("master", "another machine");
  look_at("node2", "0");
  expect_fail("master", "which has rank 0", "export MASTER_ADDR=192.0.2.7");
  look_at("nowhere", "0");
  expect_fail("master", "has no address", "export MASTER_ADDR=");
  look_at("localhost", "0");
  expect_fail("master", "each machine would wait for itself", "export MASTER_ADDR=");
  set({{"MASTER_ADDR", "localhost"}});
  expect_ok("master", "this machine");
}

TEST_F(Doctor, NetworkInterfacesAreListed) {
  expect_ok("network", "lo 127.0.0.1 ::1, eth0 192.0.2.7");
  set({{"NCCL_SOCKET_IFNAME", "eth"}, {"GLOO_SOCKET_IFNAME", "^docker"}});  // a prefix; all but
  expect_ok("network", "eth0");
  set({{"NCCL_SOCKET_IFNAME", "=ib0,eth0"}});
  expect_fail("network", "NCCL_SOCKET_IFNAME=ib0 is none of them", "unset NCCL_SOCKET_IFNAME");
  set(kTorchrun);
  machine_.interfaces.resize(1);
  expect_fail("network", "other machines can't be reached", "--network=host");
  machine_.interfaces.clear();
  expect_warn("network", "no interface is up", "ip link set lo up");
}

TEST_F(Doctor, AGpuThatThisBuildCanNotUseIsReported) {
  expect_ok("gpus", "none");
  plant("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
  plant("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
  plant("sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n");
  plant("sys/bus/pci/devices/0000:01:00.1/class", "0x040300\n");  // its sound
  expect_warn("gpus", "1 on the bus, 0 with a driver", "docker run --gpus all");
  plant("dev/nvidia0", "");
  expect_warn("gpus", "this build has CPU kernels only", "tools/build cuda");
  machine_.cuda = {.in_build = true, .driver = 12040, .runtime = 13020, .error = "too old"};
  expect_warn("gpus", "too old, CUDA 12.4 of the driver, 13.2 of this build",
              "a driver for CUDA 13 or newer");
  set({{"CUDA_VISIBLE_DEVICES", ""}});
  expect_warn("gpus", "too old", "unset CUDA_VISIBLE_DEVICES");
}

TEST_F(Doctor, GpusAndTheirLinksAreReported) {
  const CudaGpu gpu = {"Planted GPU", 9, 0, 80 * int64_t{kGiB}, 79 * int64_t{kGiB}};
  machine_.cuda = {.in_build = true, .driver = 13020, .runtime = 13000, .gpus = {gpu}};
  expect_ok("gpus", "1 x Planted GPU (80.0 GiB, sm_90); CUDA 13.2 of the driver, 13.0 of this");
  EXPECT_EQ(look("gpu links").check, "");
  machine_.cuda.gpus = {gpu, gpu, gpu};
  expect_ok("gpus", "3 x Planted GPU");
  expect_ok("gpu links", "3 of 3 pairs");
  machine_.cuda.apart = {{0, 2}};
  expect_warn("gpu links", "2 of 3 pairs of GPUs read each other's memory; not 0 and 2",
              "nvidia-smi topo -p2p r");
  set(with(kTorchrun, {{"LOCAL_WORLD_SIZE", "4"}}));
  expect_fail("gpus", "4 ranks on this machine", "at most 3 ranks");
  set({});
  machine_.cuda.gpus[1].free_bytes = 10 * int64_t{kGiB};
  expect_warn("gpus", "GPU 1 has 10.0 GiB free", "nvidia-smi shows who has it");
  machine_.cuda.gpus[1] = {"Old GPU", 7, 0, 16 * int64_t{kGiB}, 16 * int64_t{kGiB}};
  expect_fail("gpus", "GPU 1 is older than sm_80", "CUDA_VISIBLE_DEVICES");
  expect_fail("gpus", "wait for the slowest", "those of one kind");
}

TEST_F(Doctor, CountersThatOnlyRootMayReadAreReported) {
  EXPECT_EQ(look("gpu counters").check, "");
  plant("proc/driver/nvidia/params", "Mobile: 4294967295\nRmProfilingAdminOnly: 1\nOther: \"\"\n");
  expect_warn("gpu counters", "only root", "NVreg_RestrictProfilingToAdminUsers=0");
  machine_.is_root = true;
  expect_ok("gpu counters", "root may read them");
  plant("proc/driver/nvidia/params", "Mobile: 4294967295\nRmProfilingAdminOnly: 0\n");
  expect_ok("gpu counters", "every user");
}

TEST_F(Doctor, ACheckThatThrowsHasFailed) {
  machine_.space = [](const fs::path&) -> fs::space_info { throw std::runtime_error("planted"); };
  expect_fail("/dev/shm", "planted", "");
}

}  // namespace
}  // namespace minibert
