// doctor_gpu.cpp: checks of GPUs: as the CUDA runtime has them, or, in a build without it, whether
// there is one that this build can't use.
#include <algorithm>
#include <fstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "models/training/doctor_checks.h"

namespace minibert::doctor {
namespace fs = std::filesystem;
namespace {

/// NVIDIA's GPUs on the PCI bus, whether or not they have a driver.
int on_bus(const Machine& machine) {
  int count = 0;
  std::error_code error;
  for (const auto& device : fs::directory_iterator(machine.root / "sys/bus/pci/devices", error)) {
    std::string vendor, type;
    std::ifstream(device.path() / "vendor") >> vendor;
    std::ifstream(device.path() / "class") >> type;
    count += vendor == "0x10de" && type.rfind("0x03", 0) == 0;
  }
  return count;
}

/// /dev/nvidia0, /dev/nvidia1, ...
int device_files(const Machine& machine) {
  int count = 0;
  while (fs::exists(machine.root / fmt::format("dev/nvidia{}", count))) ++count;
  return count;
}

/// 13020: "13.2"
std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

/// GPUs that no library is needed to see.
Result seen_only(const Machine& machine, const std::string& why, const std::string& fix) {
  const int bus = on_bus(machine), files = device_files(machine);
  if (bus == 0 && files == 0) return ok("none");
  const std::string found =
      fmt::format("{} on the bus, {} with a driver's /dev/nvidiaN", bus, files);
  if (files == 0)
    return warn(found + ": no driver, or a container that was given none",
                "docker run --gpus all; on the host, NVIDIA's driver (Debian: apt-get install "
                "nvidia-driver, then reboot)");
  return warn(found + ": " + why, fix);
}

/// "2 x NVIDIA H100 80GB HBM3 (79.2 GiB, sm_90)"
std::string list_of(const std::vector<CudaGpu>& gpus) {
  std::vector<std::string> parts;
  for (size_t i = 0, count = 0; i < gpus.size(); ++i) {
    ++count;
    if (i + 1 < gpus.size() && gpus[i + 1].name == gpus[i].name) continue;
    parts.push_back(fmt::format("{} x {} ({}, sm_{}{})", count, gpus[i].name,
                                size_text(static_cast<double>(gpus[i].memory_bytes)), gpus[i].major,
                                gpus[i].minor));
    count = 0;
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

Result gpus(const Machine& machine, const DoctorRequest&) {
  const CudaMachine& cuda = machine.cuda;
  if (!cuda.in_build)
    return seen_only(machine, "this build has CPU kernels only",
                     "tools/build cuda, then build/cuda/bin/minibert doctor");
  const std::string versions =
      fmt::format("CUDA {} of the driver, {} of this build",
                  cuda.driver > 0 ? version_text(cuda.driver) : "none", version_text(cuda.runtime));
  if (cuda.gpus.empty()) {
    const auto visible = machine.variables.find("CUDA_VISIBLE_DEVICES");
    const bool hidden = visible != machine.variables.end();
    Result seen = seen_only(machine, cuda.error,
                            hidden ? "unset CUDA_VISIBLE_DEVICES"
                            : cuda.driver < cuda.runtime / 1000 * 1000
                                ? fmt::format("a driver for CUDA {} or newer", cuda.runtime / 1000)
                                : "nvidia-smi says what is wrong with it");
    seen->found += ", " + versions;
    return seen;
  }
  Faults faults;
  const Ranks ranks = ranks_of(machine);
  for (size_t i = 0; i < cuda.gpus.size(); ++i) {
    const CudaGpu& gpu = cuda.gpus[i];
    if (gpu.major < 8)
      faults.add(fail(fmt::format("GPU {} is older than sm_80, for which kernels are built", i),
                      "export CUDA_VISIBLE_DEVICES=N   # the others; or --device cpu"));
    else if (gpu.free_bytes < gpu.memory_bytes / 10 * 8)
      faults.add(
          warn(fmt::format("GPU {} has {} free", i, size_text(static_cast<double>(gpu.free_bytes))),
               "nvidia-smi shows who has it: end that process"));
  }
  const bool mixed = std::any_of(cuda.gpus.begin(), cuda.gpus.end(),
                                 [&](const CudaGpu& gpu) { return gpu.name != cuda.gpus[0].name; });
  if (mixed)
    faults.add(warn("ranks on different GPUs wait for the slowest",
                    "export CUDA_VISIBLE_DEVICES=N,...   # those of one kind"));
  if (ranks.local_world > static_cast<int>(cuda.gpus.size()))
    faults.add(fail(fmt::format("{} ranks on this machine", ranks.local_world),
                    fmt::format("at most {} ranks a machine", cuda.gpus.size())));
  return faults.with(fmt::format("{}; {}", list_of(cuda.gpus), versions));
}

Result gpu_links(const Machine& machine, const DoctorRequest&) {
  const size_t count = machine.cuda.gpus.size();
  if (count < 2) return std::nullopt;
  const size_t pairs = count * (count - 1) / 2, apart = machine.cuda.apart.size();
  const std::string found =
      fmt::format("{} of {} pairs of GPUs read each other's memory", pairs - apart, pairs);
  if (apart == 0) return ok(found);
  return warn(
      fmt::format("{}; not {} and {}: their ranks talk through the host's memory", found,
                  machine.cuda.apart[0].first, machine.cuda.apart[0].second),
      "nvidia-smi topo -p2p r says why; usual: IOMMU or ACS on (BIOS), or a virtual machine");
}

Result gpu_counters(const Machine& machine, const DoctorRequest&) {
  std::ifstream file(machine.root / "proc/driver/nvidia/params");
  if (!file) return std::nullopt;
  std::string only_admin = "not said";
  for (std::string key, value; file >> key && std::getline(file, value);)
    if (key == "RmProfilingAdminOnly:") only_admin = value.substr(value.find_first_not_of(' '));
  if (only_admin != "1")
    return ok("every user may read them (RmProfilingAdminOnly: " + only_admin + ")");
  if (machine.is_root) return ok("root may read them, others not (RmProfilingAdminOnly: 1)");
  return warn("only root may read them (RmProfilingAdminOnly: 1): no ncu for this user",
              "as root: echo 'options nvidia NVreg_RestrictProfilingToAdminUsers=0' "
              "> /etc/modprobe.d/nvidia-profiling.conf, then reboot");
}

}  // namespace minibert::doctor
