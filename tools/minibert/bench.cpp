// bench.cpp: `minibert bench [OP...]`: forward and backward of ops at the shapes of BERT-base with
// 8 sequences of 128 tokens (from OpInfo), on the CPU or a GPU, compared with the limits of the
// machine, and attention and LayerNorm with cuDNN's where the build has it. `bench gemm` and `bench
// step` have files of their own. Test: ctest -R tools_bench.
#include "tools/minibert/bench.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "autograd/op_info.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "core/device_graph.h"
#include "core/device_marks.h"
#include "core/kernels/copy.h"
#include "core/kernels/gemm.h"
#include "core/kernels/gemm_cuda_choice.h"
#include "core/parallel.h"
#include "core/profile.h"
#include "tools/minibert/bench_cudnn.h"
#include "tools/minibert/compute_flags.h"

namespace minibert {
namespace {

struct Options {
  std::vector<std::string> ops;
  bool json = false, small = false;
  int threads = 0;
  double seconds = 0.5;
  ComputeFlags compute;
};

struct Row {
  std::string op, pass, by, sizes;
  Timing timing;
  Cost cost;
  double difference = 0;  // from our result, as a share of its largest value
};

// ---- An op on a sample -------------------------------------------------------------------------

/// As in a model: an activation's gradient has the activation's type, and a parameter's is f32. The
/// gradient of the result is as large as the result.
class OpRun {
 public:
  OpRun(const OpInfo& op, const OpSample& sample) : op_(op), forward_(sample.forward) {
    for (const Tensor& t : sample.inputs_there())
      leaves_.push_back(t.defined() ? Variable::leaf(t) : Variable());
    received_.resize(leaves_.size());
    dy_ = forward().value().clone();
  }
  Variable forward() const {
    Variables inputs = leaves_;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i].defined() || op_.inputs[i].role == Role::parameter) continue;
      const auto receive = [this, i](const Tensor& dy, std::vector<GradientTarget>&) {
        received_[i] = dy;
      };
      inputs[i] = make_result("input", inputs[i].value(), {inputs[i]}, receive);
    }
    return forward_(inputs);
  }
  /// The gradients of parameters are to be overwritten, not added to.
  void reset() const {
    for (const Variable& leaf : leaves_)
      if (leaf.defined()) leaf.reset_grad();
  }
  void backward(const Variable& y) const { run_tape(y, dy_, {}, /* run_hooks= */ true); }

  const Tensor& input(size_t i) const { return leaves_[i].value(); }
  const Tensor& dy() const { return dy_; }
  /// After backward().
  const Tensor& gradient(size_t i) const {
    return op_.inputs[i].role == Role::parameter ? leaves_[i].grad() : received_[i];
  }

 private:
  const OpInfo& op_;
  std::function<Variable(const Variables&)> forward_;
  Variables leaves_;
  mutable std::vector<Tensor> received_;
  Tensor dy_;
};

struct Passes {
  Timing forward, backward;
};

Passes time_on_cpu(const OpRun& op, double seconds) {
  Passes passes;
  Variable y;
  passes.forward = time_of([&] { y = {}; }, [&] { y = op.forward(); }, seconds);
  const auto prepare = [&] {
    op.reset();
    y = op.forward();
  };
  passes.backward = time_of(
      prepare, [&] { op.backward(y); }, seconds);
  return passes;
}

constexpr int kInARow = 8;

// Queued as a graph of kInARow runs, so that no kernel waits for the host to queue it.
Timing time_of_graph(const std::function<void()>& queue_in_a_row, DeviceStream& stream,
                     double seconds) {
  DeviceGraph graph;
  graph.capture(queue_in_a_row);
  Timing timing = device_time_of([&] { graph.launch(); }, stream, seconds);
  for (double* each : {&timing.min, &timing.median, &timing.max}) *each /= kInARow;
  return timing;
}

Passes time_on_device(const OpRun& op, DeviceStream& stream, double seconds) {
  op.backward(op.forward());  // decides who multiplies, which can't be timed while a graph is made
  Passes passes;
  const auto forward = [&] {
    for (int i = 0; i < kInARow; ++i) op.forward();
  };
  passes.forward = time_of_graph(forward, stream, seconds);
  std::vector<Variable> results(kInARow);
  for (Variable& y : results) y = op.forward();
  const auto backward = [&] {
    for (const Variable& y : results) {
      op.reset();
      op.backward(y);
    }
  };
  passes.backward = time_of_graph(backward, stream, seconds);
  return passes;
}

Passes time_on_device(const CudnnOp& op, DeviceStream& stream, double seconds) {
  const auto in_a_row = [](const std::function<void()>& pass) {
    return [&pass] {
      for (int i = 0; i < kInARow; ++i) pass();
    };
  };
  return {time_of_graph(in_a_row(op.forward), stream, seconds),
          time_of_graph(in_a_row(op.backward), stream, seconds)};
}

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

// BERT-base's, or the largest of the tests' samples, all of which are small.
OpSample sample_of(const OpInfo& op, DType dtype, Device device, bool small) {
  constexpr uint64_t kSeed = 1;
  if (!small) return op.bert_base(kSeed, dtype, device);
  const auto elements = [](const OpSample& sample) {
    int64_t count = 0;
    for (const Tensor& t : sample.inputs) count += t.defined() ? t.numel() : 0;
    return count;
  };
  const auto samples = op.samples(kSeed, dtype, device);
  return *std::max_element(
      samples.begin(), samples.end(),
      [&](const OpSample& a, const OpSample& b) { return elements(a) < elements(b); });
}

struct PassCosts {
  Cost forward, backward;
};
PassCosts costs_of(const OpRun& op) {
  PassCosts costs;
  Variable y;
  costs.forward = cost_of([&] { y = op.forward(); });
  costs.backward = cost_of([&] { op.backward(y); });
  return costs;
}

std::vector<Row> measure(const OpInfo& op, const Options& options, const ComputeOptions& compute,
                         DeviceStream& stream) {
  const OpSample sample = sample_of(op, compute.dtype, compute.device, options.small);
  const OpRun run(op, sample);
  const PassCosts costs = costs_of(run);
  const double seconds = options.seconds / 2;
  const Passes passes = compute.device == Device::cuda ? time_on_device(run, stream, seconds)
                                                       : time_on_cpu(run, seconds);
  return {{op.name, "forward", "minibert", sample.sizes, passes.forward, costs.forward},
          {op.name, "backward", "minibert", sample.sizes, passes.backward, costs.backward}};
}

// ---- cuDNN's attention and LayerNorm beside ours -----------------------------------------------

constexpr int kSequences = 8, kHeads = 12;  // of BERT-base's sample

// The same inputs as attention's sample has, on this device, without dropout: cuDNN draws another.
OpSample attention_without_dropout(const OpSample& sample, Device device) {
  const int64_t T = sample.inputs[0].dim(0), S = T / kSequences;
  std::vector<int32_t> first, number;
  for (int32_t b = 0; b <= kSequences; ++b) first.push_back(static_cast<int32_t>(b * S));
  for (int32_t b = 0; b < kSequences; ++b) number.push_back(b);
  const auto on_device = [&](const std::vector<int32_t>& values) {
    const Tensor t = Tensor::empty({static_cast<int64_t>(values.size())}, DType::i32,
                                   MemoryCategory::activations, device);
    copy_to_device(values.data(), t);
    return t;
  };
  const Sequences sequences = {on_device(first), on_device(number), {T, T * S}};
  OpSample plain;
  plain.sizes = fmt::format("N={} A={} {} sequences p=0", T, kHeads, kSequences);
  plain.inputs = sample.inputs;
  plain.forward = [sequences](const Variables& in) {
    return attention(in[0], sequences, kHeads, Dropout{});
  };
  plain.device = device;
  return plain;
}

std::optional<CudnnOp> cudnn_op(const OpInfo& op, const OpRun& ours) {
  if (op.name == "attention") return cudnn_attention(ours.input(0), ours.dy(), kSequences, kHeads);
  constexpr float kEps = 1e-12f;  // of BERT-base's sample
  return cudnn_layer_norm(ours.input(0), ours.input(1), ours.input(2), ours.dy(), kEps);
}

// The largest difference, as a share of our largest value; NaN if theirs holds one.
double difference(const Tensor& ours, const Tensor& theirs) {
  const auto on_host = [](const Tensor& t) {
    return t.host_copy(MemoryCategory::activations).to(DType::f32);
  };
  const Tensor a = on_host(ours), b = on_host(theirs);
  double largest = 0, apart = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.data<float>()[i], y = b.data<float>()[i];
    largest = std::max(largest, std::abs(x));
    if (!(std::abs(x - y) <= apart)) apart = std::abs(x - y);
  }
  return apart / largest;
}

// Rows of cuDNN, and ours where they are not those of measure(); empty where cuDNN has no such op.
std::vector<Row> measure_cudnn(const OpInfo& op, const Options& options,
                               const ComputeOptions& compute, DeviceStream& stream) {
  OpSample sample = sample_of(op, compute.dtype, compute.device, /* small= */ false);
  const bool is_attention = op.name == "attention";
  if (is_attention) sample = attention_without_dropout(sample, compute.device);
  const OpRun ours(op, sample);
  const auto theirs = cudnn_op(op, ours);
  if (!theirs) return {};
  const PassCosts costs = costs_of(ours);
  theirs->forward();
  theirs->backward();
  const double forward_apart = difference(ours.forward().value(), theirs->y);
  double backward_apart = 0;
  for (size_t i = 0; i < theirs->gradients.size(); ++i) {
    const double apart = difference(ours.gradient(i), theirs->gradients[i]);
    if (!(apart <= backward_apart)) backward_apart = apart;
  }
  std::vector<Row> rows;
  const auto add = [&](const std::string& by, const Passes& passes, double there, double back) {
    rows.push_back({op.name, "forward", by, sample.sizes, passes.forward, costs.forward, there});
    rows.push_back({op.name, "backward", by, sample.sizes, passes.backward, costs.backward, back});
  };
  const double seconds = options.seconds / 2;
  if (is_attention) add("minibert", time_on_device(ours, stream, seconds), 0, 0);
  add(cudnn_description(), time_on_device(*theirs, stream, seconds), forward_apart, backward_apart);
  return rows;
}

// ---- Output ------------------------------------------------------------------------------------

void print_json(const Row& row, const ComputeFlags& compute, const MachineLimits& limits) {
  const double s = row.timing.median;
  nlohmann::ordered_json line = {
      {"op", row.op},
      {"pass", row.pass},
      {"by", row.by},
      {"sizes", row.sizes},
      {"device", compute.device},
      {"precision", compute.precision},
      {"threads", num_threads()},
      {"seconds", {{"min", row.timing.min}, {"median", s}, {"max", row.timing.max}}},
      {"gflops_per_s", row.cost.flops / s / 1e9},
      {"gb_per_s", row.cost.bytes / s / 1e9},
      {"share_of_limit", limits.bound(row.cost.flops, row.cost.bytes) / s},
      {"probed_gflops_per_s", limits.flops / 1e9},
      {"probed_gb_per_s", limits.bytes / 1e9},
  };
  if (row.by != "minibert") line["difference"] = row.difference;
  fmt::print("{}\n", line.dump());
}

void print_head(const ComputeOptions& compute, const MachineLimits& limits) {
  const bool cuda = compute.device == Device::cuda;
  fmt::print(
      "limits as probed, {}: {:.0f} GFLOP/s ({}), {:.1f} GB/s\n",
      cuda ? cuda_device().name : fmt::format("{} threads", num_threads()), limits.flops / 1e9,
      cuda ? gemm_cuda_implementation() : gemm_implementation(compute.dtype), limits.bytes / 1e9);
  fmt::print("{:<15} {:<9} {:>10} {:>10} {:>8} {:>7}  {}\n", "op", "pass", "median ms", "GFLOP/s",
             "GB/s", "limit", "sizes");
}

void print_text(const Row& row, const MachineLimits& limits) {
  const double s = row.timing.median;
  const std::string by = row.by == "minibert" ? ""
                                              : fmt::format("  {}, differs from ours by {:.1e}",
                                                            row.by, row.difference);
  fmt::print("{:<15} {:<9} {:>10.3f} {:>10.1f} {:>8.1f} {:>6.0f}%  {}{}\n", row.op, row.pass,
             1e3 * s, row.cost.flops / s / 1e9, row.cost.bytes / s / 1e9,
             100 * limits.bound(row.cost.flops, row.cost.bytes) / s, row.sizes, by);
}

void run(const Options& options) {
  MB_CHECK(options.seconds > 0, "bench: --seconds is {}, expected more than 0", options.seconds);
  const ComputeOptions compute = options.compute.options();
  if (options.threads != 0) set_num_threads(options.threads);
  std::vector<const OpInfo*> chosen;
  for (const std::string& name : options.ops) chosen.push_back(&find_op(name));
  if (chosen.empty())
    for (const OpInfo& op : all_ops()) chosen.push_back(&op);
  DeviceStream stream(compute);
  const MachineLimits limits =
      compute.device == Device::cuda ? probe_device(compute, stream) : probe_machine(compute.dtype);
  if (!options.json) print_head(compute, limits);
  const auto print = [&](const std::vector<Row>& rows) {
    for (const Row& row : rows)
      options.json ? print_json(row, options.compute, limits) : print_text(row, limits);
  };
  const bool has_cudnn = compute.device == Device::cuda && !cudnn_description().empty();
  for (const OpInfo* op : chosen) {
    print(measure(*op, options, compute, stream));
    if (!has_cudnn || options.small || (op->name != "attention" && op->name != "layer_norm"))
      continue;
    const std::vector<Row> rows = measure_cudnn(*op, options, compute, stream);
    print(rows);
    if (rows.empty() && !options.json)
      fmt::print("{:<15} {} has no kernel for it in {} here\n", op->name, cudnn_description(),
                 options.compute.precision);
  }
  if (!options.json)
    fmt::print(
        "limit: share of the time bound by the probed FLOP/s or bytes/s, whichever is "
        "longer; above 100 % if the tensors fit in the cache\n");
}

}  // namespace

void add_bench_verb(CLI::App& app) {
  auto* sub = app.add_subcommand(
      "bench",
      "time ops, matrix products, a whole training step, the tokenizer or collectives of ranks");
  auto options = std::make_shared<Options>();
  sub->add_option("OP", options->ops, "ops to time, as in autograd/ops.h (default: all)");
  sub->add_flag("--json", options->json, "one JSON object per line");
  sub->add_option("--threads", options->threads, "default: all that this process may use");
  sub->add_option("--seconds", options->seconds, "time to spend on each op")->capture_default_str();
  sub->add_flag("--small", options->small,
                "a few rows in place of BERT-base's shapes: mostly what a call costs by itself");
  options->compute.add_to(*sub);
  add_bench_gemm(*sub);
  add_bench_step(*sub);
  add_bench_all_reduce(*sub);
  add_bench_tokenizer(*sub);
  sub->callback([sub, options] {
    if (sub->get_subcommands().empty()) run(*options);
  });
}

}  // namespace minibert
