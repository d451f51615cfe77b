// bench.cpp: `minibert bench [OP...]`: forward and backward of ops at the shapes of BERT-base with
// 8 sequences of 128 tokens (from OpInfo), compared with the limits of the machine. `bench gemm`
// and `bench step` have files of their own. Test: ctest -R tools_bench.
#include "tools/minibert/bench.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "autograd/op_info.h"
#include "autograd/tape.h"
#include "core/clock.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/gemm.h"
#include "core/parallel.h"
#include "core/profile.h"
#include "models/training/peak_flops.h"
#include "tools/minibert/compute_flags.h"

namespace minibert {

// ---- Timing and limits -------------------------------------------------------------------------

Timing time_of(const std::function<void()>& prepare, const std::function<void()>& run,
               double seconds) {
  prepare();
  run();
  std::vector<double> times;
  const double begin = seconds_now();
  while (times.size() < 3 || seconds_now() - begin < seconds) {
    prepare();
    const double start = seconds_now();
    run();
    times.push_back(seconds_now() - start);
  }
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2], times.back(), static_cast<int>(times.size())};
}

Timing device_time_of(const std::function<void()>& run, DeviceStream& stream, double seconds) {
  run();
  stream.wait();
  int in_a_row = 1;
  const auto batch = [&] {
    const double start = seconds_now();
    for (int i = 0; i < in_a_row; ++i) run();
    stream.wait();
    return seconds_now() - start;
  };
  while (batch() < 1e-3) in_a_row *= 2;
  Timing timing = time_of([] {}, [&] { batch(); }, seconds);
  for (double* each : {&timing.min, &timing.median, &timing.max}) *each /= in_a_row;
  return timing;
}

double MachineLimits::bound(double flop_count, double byte_count) const {
  return std::max(flop_count / flops, byte_count / bytes);
}

namespace {

double fastest_product(DType dtype, int64_t M, int64_t N, int64_t K) {
  const Tensor a = Tensor::zeros({M, K}, dtype), b = Tensor::zeros({N, K}, dtype),
               c = Tensor::empty({M, N}, dtype);
  GemmArgs args;
  args.a = a;
  args.b = b;
  args.transpose_b = true;
  args.c = c;
  const Timing timing = time_of([] {}, [&] { gemm(args); }, 0.2);
  return gemm_cost(args).flops / timing.min;
}

}  // namespace

MachineLimits probe_machine(DType dtype) {
  MachineLimits limits;
  for (const GemmBackend backend : {GemmBackend::fastest, GemmBackend::builtin}) {
    gemm_use(backend);
    for (const auto& [M, N, K] :
         {std::tuple{1024, 768, 768}, {1024, 3072, 768}, {1536, 1536, 1536}})
      limits.flops = std::max(limits.flops, fastest_product(dtype, M, N, K));
  }
  gemm_use(GemmBackend::fastest);
  const int64_t n = 32 << 20;  // 128 MiB per array
  const Tensor a = Tensor::zeros({n}), b = Tensor::zeros({n}), c = Tensor::zeros({n});
  // In place, no cache line is fetched only to be overwritten: the highest rate of the memory.
  const Timing in_place = time_of([] {}, [&] { scale(a, 1, a, /* accumulate= */ false); }, 0.3);
  const Timing sum = time_of([] {}, [&] { add_forward(a, b, c); }, 0.3);
  limits.bytes = std::max(8.0 * n / in_place.min, 12.0 * n / sum.min);
  Allocator::instance().release_cache();
  return limits;
}

MachineLimits probe_device(const ComputeOptions& compute, DeviceStream& stream) {
  MachineLimits limits;
  limits.flops = probe_peak_flops(compute);
  const int64_t n = 64 << 20;  // 256 MiB per array
  const auto zeros = [&] {
    return Tensor::zeros({n}, DType::f32, MemoryCategory::activations, compute.device);
  };
  const Tensor a = zeros(), b = zeros();
  const Timing copy = device_time_of([&] { b.copy_from(a); }, stream, 0.2);
  limits.bytes = 8.0 * static_cast<double>(n) / copy.min;
  return limits;
}

// ---- Ops ---------------------------------------------------------------------------------------
namespace {

struct Options {
  std::vector<std::string> ops;
  bool json = false;
  int threads = 0;
  double seconds = 0.5;
  ComputeFlags compute;
};

struct Row {
  std::string op, pass, sizes;
  Timing timing;
  Cost cost;
};

// What the kernels that `run` calls cost, as their chapters say.
Cost cost_of(const std::function<void()>& run) {
  set_profiling(true);
  run();
  set_profiling(false);
  Cost total;
  for (const auto& [name, entry] : profile_entries())
    total = total + Cost{entry.flops, entry.bytes};
  return total;
}

std::vector<Row> measure(const OpInfo& op, DType dtype, double seconds) {
  const OpSample sample = op.bert_base(1, dtype, Device::cpu);
  std::vector<Variable> leaves;
  for (const Tensor& t : sample.inputs)
    leaves.push_back(t.defined() ? Variable::leaf(t) : Variable());
  Variable y;
  const auto forward = [&] { y = sample.forward(leaves); };
  const Timing forward_time = time_of([&] { y = {}; }, forward, seconds / 2);
  const Tensor dy = Tensor::zeros(y.shape(), y.value().dtype());
  const auto prepare = [&] {
    for (const Variable& leaf : leaves)
      if (leaf.defined()) leaf.reset_grad();
    forward();
  };
  const auto backward = [&] { run_tape(y, dy, {}, /* run_hooks= */ true); };
  const Timing backward_time = time_of(prepare, backward, seconds / 2);
  prepare();
  const Cost backward_cost = cost_of(backward), forward_cost = cost_of(forward);
  return {{op.name, "forward", sample.sizes, forward_time, forward_cost},
          {op.name, "backward", sample.sizes, backward_time, backward_cost}};
}

void print_json(const Row& row, const std::string& precision, const MachineLimits& limits) {
  const double s = row.timing.median;
  const nlohmann::ordered_json line = {
      {"op", row.op},
      {"pass", row.pass},
      {"sizes", row.sizes},
      {"precision", precision},
      {"threads", num_threads()},
      {"seconds", {{"min", row.timing.min}, {"median", s}, {"max", row.timing.max}}},
      {"gflops_per_s", row.cost.flops / s / 1e9},
      {"gb_per_s", row.cost.bytes / s / 1e9},
      {"share_of_limit", limits.bound(row.cost.flops, row.cost.bytes) / s},
      {"probed_gflops_per_s", limits.flops / 1e9},
      {"probed_gb_per_s", limits.bytes / 1e9},
  };
  fmt::print("{}\n", line.dump());
}

void print_text(const Row& row, const MachineLimits& limits) {
  const double s = row.timing.median;
  fmt::print("{:<15} {:<9} {:>10.3f} {:>10.1f} {:>8.1f} {:>6.0f}%  {}\n", row.op, row.pass, 1e3 * s,
             row.cost.flops / s / 1e9, row.cost.bytes / s / 1e9,
             100 * limits.bound(row.cost.flops, row.cost.bytes) / s, row.sizes);
}

void run(const Options& options) {
  MB_CHECK(options.seconds > 0, "bench: --seconds is {}, expected more than 0", options.seconds);
  const DType dtype = options.compute.options().dtype;
  if (options.threads != 0) set_num_threads(options.threads);
  std::vector<const OpInfo*> chosen;
  for (const std::string& name : options.ops) chosen.push_back(&find_op(name));
  if (chosen.empty())
    for (const OpInfo& op : all_ops()) chosen.push_back(&op);
  const MachineLimits limits = probe_machine(dtype);
  if (!options.json) {
    fmt::print("limits as probed, {} threads: {:.0f} GFLOP/s ({}), {:.1f} GB/s\n", num_threads(),
               limits.flops / 1e9, gemm_implementation(dtype), limits.bytes / 1e9);
    fmt::print("{:<15} {:<9} {:>10} {:>10} {:>8} {:>7}  {}\n", "op", "pass", "median ms", "GFLOP/s",
               "GB/s", "limit", "sizes");
  }
  for (const OpInfo* op : chosen)
    for (const Row& row : measure(*op, dtype, options.seconds))
      options.json ? print_json(row, options.compute.precision, limits) : print_text(row, limits);
  if (!options.json)
    fmt::print(
        "limit: share of the time bound by the probed FLOP/s or bytes/s, whichever is "
        "longer; above 100 % if the tensors fit in the cache\n");
}

}  // namespace

void add_bench_verb(CLI::App& app) {
  auto* sub = app.add_subcommand("bench", "time ops, matrix products or a whole training step");
  auto options = std::make_shared<Options>();
  sub->add_option("OP", options->ops, "ops to time, as in autograd/ops.h (default: all)");
  sub->add_flag("--json", options->json, "one JSON object per line");
  sub->add_option("--threads", options->threads, "default: all that this process may use");
  sub->add_option("--seconds", options->seconds, "time to spend on each op")->capture_default_str();
  options->compute.add_precision_to(*sub);
  add_bench_gemm(*sub);
  add_bench_step(*sub);
  sub->callback([sub, options] {
    if (sub->get_subcommands().empty()) run(*options);
  });
}

}  // namespace minibert
