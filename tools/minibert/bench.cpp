// bench.cpp: `minibert bench [OP...]`: forward and backward of ops at the shapes of BERT-base with
// 8 sequences of 128 tokens (from OpInfo), compared with the limits of the machine. `bench gemm`
// and `bench step` have files of their own. Test: ctest -R tools_bench.
#include "tools/minibert/bench.h"

#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "autograd/op_info.h"
#include "autograd/tape.h"
#include "core/kernels/gemm.h"
#include "core/parallel.h"
#include "core/profile.h"
#include "tools/minibert/compute_flags.h"

namespace minibert {
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
