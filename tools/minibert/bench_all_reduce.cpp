// bench_all_reduce.cpp: `minibert bench all-reduce`: what the ranks' collectives reach, beside what the
// wire between two of them does. Definitions are those of NVIDIA's nccl-tests (doc/PERFORMANCE.md),
// n bytes of data on each rank, R ranks, t seconds of the slowest rank:
//   algorithm bandwidth   n / t
//   bus bandwidth         n / t * 2 (R - 1) / R of all_reduce, n / t * (R - 1) / R of the others: the
//                         bytes that every rank must send, so it compares with a link whatever R is
//   wire                  n / t of a plain TCP stream from rank 0 to the last rank, which acknowledges
//                         its end with a byte; the others are silent
// Works with --nproc and under any launcher that dist/launch.h knows; over NCCL on GPUs, one a
// rank. The timing: rank_timing.h. Test: ctest -R bench_ranks.
#include <cstdio>
#include <map>
#include <memory>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/version.h"
#include "dist/world.h"
#include "tools/minibert/bench.h"
#include "tools/minibert/local_ranks.h"
#include "tools/minibert/rank_timing.h"
#include "tools/minibert/size_flag.h"

namespace minibert {
namespace {

struct Options {
  int ranks = 0;                                               // --nproc; 0: not given
  std::vector<int64_t> sizes = {64 << 10, 1 << 20, 25 << 20};  // bytes
  std::vector<std::string> operations = {"all_reduce", "reduce_scatter", "all_gather"};
  std::vector<std::string> dtypes = {"f32", "bf16", "f16"};
  std::string collectives = "gloo", interface;
  double seconds = 0.3, timeout = 60, start_timeout = 60;
  bool json = false;
};

const std::map<std::string, CollectiveKind> kOperations = {
    {"all_reduce", CollectiveKind::all_reduce},
    {"reduce_scatter", CollectiveKind::reduce_scatter},
    {"all_gather", CollectiveKind::all_gather}};
const std::map<std::string, ElementType> kTypes = {
    {"f32", ElementType::f32}, {"bf16", ElementType::bf16}, {"f16", ElementType::f16}};

template <typename Map>
std::vector<std::string> names_of(const Map& map) {
  std::vector<std::string> names;
  for (const auto& [name, value] : map) names.push_back(name);
  return names;
}

// ---- Rows --------------------------------------------------------------------------------------

struct Row {
  CollectiveKind operation;
  std::string dtype;
  int64_t bytes;
  Timing timing, wire;
};

void print(const Row& row, const ProcessGroup& group, bool json) {
  const auto bytes = static_cast<double>(row.bytes);
  const double algorithm = bytes / row.timing.median,
               bus = algorithm * bus_factor(row.operation, group.world()),
               wire = bytes / row.wire.median;
  if (!json) {
    fmt::print(
        "{:<15} {:<5} {:>10} {:>10.3f} {:>10.3f} {:>10.3f} {:>8.3f} {:>8.3f} {:>8.3f} {:>5.0f}%\n",
        name_of(row.operation), row.dtype, row.bytes, 1e3 * row.timing.median, 1e3 * row.timing.min,
        1e3 * row.timing.max, algorithm / 1e9, bus / 1e9, wire / 1e9, 100 * bus / wire);
  } else {
    const nlohmann::ordered_json line = {
        {"collective", name_of(row.operation)},
        {"by", group.name()},
        {"ranks", group.world()},
        {"dtype", row.dtype},
        {"bytes", row.bytes},
        {"seconds",
         {{"min", row.timing.min}, {"median", row.timing.median}, {"max", row.timing.max}}},
        {"runs", row.timing.runs},
        {"algorithm_gb_per_s", algorithm / 1e9},
        {"bus_gb_per_s", bus / 1e9},
        {"wire_seconds",
         {{"min", row.wire.min}, {"median", row.wire.median}, {"max", row.wire.max}}},
        {"wire_gb_per_s", wire / 1e9},
        {"share_of_wire", bus / wire}};
    fmt::print("{}\n", line.dump());
  }
  std::fflush(stdout);
}

void print_head(const ProcessGroup& group) {
  fmt::print("{} ranks over {}; wire: TCP from rank 0 to rank {}\n", group.world(), group.name(),
             group.world() - 1);
  fmt::print("{:<15} {:<5} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8} {:>6}\n", "collective",
             "type", "bytes", "median ms", "min", "max", "alg GB/s", "bus GB/s", "wire", "share");
}

WorldOptions world_options(const Options& o, int rank) {
  return {.backend = o.collectives,
          .fingerprints = {{"version", version()},
                           {"commit", git_commit()},
                           {"sizes", fmt::format("{}", fmt::join(o.sizes, ","))},
                           {"operations", fmt::format("{}", fmt::join(o.operations, ","))},
                           {"types", fmt::format("{}", fmt::join(o.dtypes, ","))},
                           {"collectives", o.collectives}},
          .interface = o.interface,
          .timeout = o.timeout,
          .start_timeout = o.start_timeout,
          .say = [rank](const std::string& line) {
            std::fputs(fmt::format("rank {}: {}\n", rank, line).c_str(), stderr);
          }};
}

void check(const Options& options) {
  MB_CHECK(options.seconds > 0, "bench all-reduce: --seconds is {}, expected more than 0",
           options.seconds);
  for (const int64_t size : options.sizes)
    MB_CHECK(size >= 4 && size <= int64_t{1} << 40,
             "bench all-reduce: --sizes has {}, expected 4 to 2^40 bytes", size);
}

void run(const Options& options) {
  check(options);
  const Launch launch = launch_here();
  const bool alone = launch.by.empty();
  start_ranks(alone && options.ranks == 0 ? 2 : options.ranks, launch, own_arguments(),
              1.5 * options.timeout + 30);
  MB_CHECK(launch.world > 1,
           "bench all-reduce: there is 1 rank, expected 2 or more. Use --nproc 2.");
  World world(launch, world_options(options, launch.rank));
  ProcessGroup& group = world.group();
  const bool cuda = options.collectives.starts_with("nccl");
  DeviceStream stream_of_rank(compute_options(Precision::fp32, cuda ? Device::cuda : Device::cpu));
  Wire wire(world, options.timeout);
  if (launch.rank == 0 && !options.json) print_head(group);
  for (const int64_t size : options.sizes) {
    const int64_t bytes = size / 4 * 4;  // whole elements of every type
    std::vector<std::byte> stream_bytes(static_cast<size_t>(bytes));
    const Tensor data = data_for(options.collectives, bytes);
    const Timing stream = time_on_ranks(
        world.control(), [&] { wire.move(stream_bytes); }, options.seconds);
    for (const std::string& operation : options.operations) {
      for (const std::string& dtype : options.dtypes) {
        const CollectiveKind kind = kOperations.at(operation);
        const ElementType type = kTypes.at(dtype);
        const Elements elements(data.raw(), bytes / static_cast<int64_t>(size_of(type)), type,
                                data.device());
        const Timing timing = time_collective(world, kind, elements, options.seconds);
        if (launch.rank == 0) print({kind, dtype, bytes, timing, stream}, group, options.json);
      }
    }
  }
  world.control().barrier().wait();
}

}  // namespace

void add_bench_all_reduce(CLI::App& bench) {
  auto* sub = bench.add_subcommand(
      "all-reduce", "collectives of the ranks, with their bus bandwidth beside the wire's");
  auto options = std::make_shared<Options>();
  sub->add_option("--nproc", options->ranks, "ranks on this machine [2, without a launcher]")
      ->check(CLI::Range(1, 1024));
  sub->add_option("--sizes", options->sizes, "bytes of data on each rank, such as 64K,25M")
      ->delimiter(',')
      ->transform(as_bytes("--sizes"))
      ->capture_default_str();
  sub->add_option("--operations", options->operations, "what to time")
      ->delimiter(',')
      ->check(CLI::IsMember(names_of(kOperations)))
      ->capture_default_str();
  sub->add_option("--dtypes", options->dtypes, "of the elements")
      ->delimiter(',')
      ->check(CLI::IsMember(names_of(kTypes)))
      ->capture_default_str();
  sub->add_option("--collectives", options->collectives, "who sums")
      ->check(CLI::IsMember({"gloo", "ring", "nccl", "nccl-ring"}))
      ->capture_default_str();
  sub->add_option("--interface", options->interface,
                  "network interface or address by which ranks reach one another");
  sub->add_option("--seconds", options->seconds, "to spend on each row, about")
      ->capture_default_str();
  sub->add_option("--timeout", options->timeout, "seconds without progress that end it")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
  sub->add_option("--start-timeout", options->start_timeout, "seconds for all ranks to come")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
  sub->add_flag("--json", options->json, "one JSON object a row");
  sub->callback([options] { run(*options); });
}

}  // namespace minibert
