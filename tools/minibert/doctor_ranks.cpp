// doctor_ranks.cpp: one World, two sizes of sum, and the rate of a plain TCP stream beside them.
#include "tools/minibert/doctor_ranks.h"

#include <cstdio>
#include <vector>

#include <fmt/format.h>

#include "core/device_stream.h"
#include "core/error.h"
#include "core/version.h"
#include "dist/world.h"
#include "tools/minibert/rank_timing.h"

namespace minibert {
namespace {

constexpr int64_t kBucket = 25 << 20;  // bytes
constexpr double kSeconds = 0.5;       // for each figure

WorldOptions world_options(const RankCheck& check, int rank) {
  return {.backend = check.collectives,
          .fingerprints = {{"version", version()},
                           {"commit", git_commit()},
                           {"collectives", check.collectives}},
          .interface = check.interface,
          .timeout = check.timeout,
          .start_timeout = check.timeout,
          .say = [rank](const std::string& line) {
            std::fputs(fmt::format("rank {}: {}\n", rank, line).c_str(), stderr);
          }};
}

std::string rates(World& world, const RankCheck& check) {
  ProcessGroup& group = world.group();
  const auto seconds_of = [&](int64_t bytes) {
    const Tensor data = data_for(check.collectives, bytes);
    const Elements sums(data.raw(), bytes / 4, ElementType::f32, data.device());
    return time_collective(world, CollectiveKind::all_reduce, sums, kSeconds).median;
  };
  const double shortest = seconds_of(4), bucket = seconds_of(kBucket);
  Wire wire(world, check.timeout);
  std::vector<std::byte> stream(kBucket);
  const double plain = time_on_ranks(
                           world.control(), [&] { wire.move(stream); }, kSeconds)
                           .median;
  const double bus = kBucket * bus_factor(CollectiveKind::all_reduce, group.world()) / bucket;
  return fmt::format(
      "{} ranks over {}: {} MiB summed in {:.1f} ms, {:.2f} GB/s of bus bandwidth; 4 bytes in "
      "{:.3f} "
      "ms; a TCP stream from rank 0 to rank {}: {:.2f} GB/s",
      group.world(), group.name(), kBucket >> 20, 1e3 * bucket, bus / 1e9, 1e3 * shortest,
      group.world() - 1, kBucket / plain / 1e9);
}

}  // namespace

Finding examine_ranks(const Launch& launch, const RankCheck& check) {
  Finding finding{.check = "all-reduce"};
  try {
    const DeviceStream stream(
        compute_options(Precision::fp32, check.collectives == "nccl" ? Device::cuda : Device::cpu));
    World world(launch, world_options(check, launch.rank));
    finding.found = rates(world, check);
    world.control().barrier().wait();
  } catch (const Error& error) {
    finding.verdict = Verdict::fail;
    finding.found = error.what();
    finding.fix =
        "see docs/ranks.md, and `minibert doctor` on the machine of the rank that it names";
  }
  return finding;
}

}  // namespace minibert
