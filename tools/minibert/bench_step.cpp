// bench_step.cpp: `minibert bench step`: one BERT pre-training step (forward, backward, clipping,
// AdamW) on random ids, with the fields of tools/bench/torch_step.py, so that the two can be
// divided; then where the time went, beside the time that the matrix products alone would take at
// the probed rate. Easy to break: the masked-token head runs on masked rows only, so a peer to
// divide by must do the same ("head": "masked"). Test: ctest -R tools_bench.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "core/allocator.h"
#include "core/clock.h"
#include "core/device_stream.h"
#include "core/kernels/gemm_cuda_choice.h"
#include "core/parallel.h"
#include "core/precision.h"
#include "core/profile.h"
#include "core/range.h"
#include "core/version.h"
#include "models/training/random_batch.h"
#include "models/training/train_step.h"
#include "tools/minibert/bench.h"
#include "tools/minibert/compute_flags.h"

namespace minibert {
namespace {

struct Options {
  std::string model = "bert-base", precision = "fp32", head = "masked", device = "cpu",
              gemm = "fastest", lengths, recompute = "none";
  int64_t batch = 8, seq = 128, layers = 0, vocab = 30522;
  int steps = 7, warmup = 2, threads = 0;
  uint64_t seed = 0;
  bool graph = false, json = false;
};

void check(const Options& o) {
  MB_CHECK(o.head == "masked",
           "bench step: head is {}, expected masked (the only one there is: "
           "logits of other rows are never made)",
           o.head);
  MB_CHECK(o.batch >= 1 && o.seq >= 3 && o.vocab > 5 && o.layers >= 0,
           "bench step: batch {}, seq {}, vocab {}, layers {}, expected at least 1, 3, 6 and 0",
           o.batch, o.seq, o.vocab, o.layers);
  MB_CHECK(o.steps >= 1 && o.warmup >= 0,
           "bench step: {} steps and {} to warm up, expected at "
           "least 1 and 0",
           o.steps, o.warmup);
  const Device device = parse_device(o.device);
  check_precision(parse_precision(o.precision), device);
  use_gemm(o.gemm, device);
  MB_CHECK(
      !o.graph || (device == Device::cuda && o.lengths.empty()),
      "bench step: graph is on, expected --device cuda without --lengths (a graph is CUDA's, and "
      "repeats one shape). Leave --graph out.");
}

BertConfig config_of(const Options& o) {
  BertConfig config = BertConfig::named(o.model);
  if (o.layers > 0) config.num_hidden_layers = o.layers;
  config.vocab_size = o.vocab;
  config.max_position_embeddings = std::max(config.max_position_embeddings, o.seq);
  config.validate("bench step");
  return config;
}

std::vector<int64_t> read_lengths(const std::string& path) {
  std::vector<int64_t> lengths;
  if (path.empty()) return lengths;
  std::ifstream file(path);
  MB_CHECK_AS(DataError, file.good(), "{}: cannot be opened, expected a sequence length a line",
              path);
  for (int64_t length; file >> length;) lengths.push_back(std::max<int64_t>(length, 1));
  MB_CHECK_AS(DataError, file.eof() && !lengths.empty(),
              "{}: line {} is no number, expected a sequence length a line", path,
              lengths.size() + 1);
  return lengths;
}

PackedBatch batch_of(const Options& o, const std::vector<int64_t>& lengths, int64_t number,
                     const BatchLimits& limits) {
  std::vector<int64_t> own;
  const auto size = static_cast<int64_t>(lengths.size());
  for (int64_t i = number * o.batch; i < (number + 1) * o.batch; ++i)
    own.push_back(size == 0 ? o.seq : std::min(o.seq, lengths[static_cast<size_t>(i % size)]));
  return random_batch(own, o.vocab, limits, /* nsp= */ true, {o.seed, number});
}

/// Model and optimizer, and one step of them.
class Trainer {
 public:
  explicit Trainer(const Options& o)
      : options_(o),
        lengths_(read_lengths(o.lengths)),
        stream_(compute_options(o)),
        model_(config_of(o), ModelUse::training, {}, compute_options(o)),
        optimizer_(model_.arena(), adamw(), schedule(o), scaling(o)),
        step_(model_, optimizer_,
              {.seed = o.seed, .nsp = true, .recompute = recompute(o), .graph = o.graph}) {
    model_.initialize(o.seed);
  }

  DeviceStream& stream() { return stream_; }

  struct Step {
    double seconds, loss;
    int64_t tokens;
  };
  /// `by_op`: op by op, even where the others are a graph.
  Step step(int64_t number, bool by_op = false) {
    const Range named("step");
    GlobalStep batch;
    batch.data_step = number;
    batch.micro_batches.push_back(batch_of(options_, lengths_, number, model_.limits()));
    batch.masked_rows = batch.micro_batches[0].masked_rows();
    batch.sequences = batch.micro_batches[0].sequences();
    batch.tokens = batch.micro_batches[0].tokens();
    batch.squared_lengths = batch.micro_batches[0].sizes.squared_lengths;
    batch.numbers = {0};
    const double start = seconds_now();
    if (by_op) {
      step_.accumulate(batch, number);
      step_.update();
    } else {
      step_.run(batch, number);
    }
    const StepState after = step_.read();
    const double taken = seconds_now() - start;
    const double loss = after.mlm.loss_sum / static_cast<double>(after.mlm.rows) +
                        after.nsp.loss_sum / static_cast<double>(after.nsp.rows);
    return {taken, loss, batch.tokens};
  }

 private:
  static ComputeOptions compute_options(const Options& o) {
    return minibert::compute_options(parse_precision(o.precision), parse_device(o.device));
  }
  static LossScaling scaling(const Options& o) {
    return {.enabled = parse_precision(o.precision) == Precision::fp16};
  }
  static Recompute recompute(const Options& o) {
    return o.recompute == "layer" ? Recompute::layer : Recompute::none;
  }
  static OptimizerOptions adamw() {
    OptimizerOptions options;
    options.name = "adamw";  // PyTorch's
    options.max_grad_norm = 1;
    return options;
  }
  static Schedule schedule(const Options& o) {
    ScheduleOptions options;
    options.name = "constant";
    options.learning_rate = 1e-4f;
    options.total_steps = o.warmup + o.steps + 1;  // and the one that is profiled
    return Schedule(options);
  }

  const Options& options_;
  std::vector<int64_t> lengths_;
  DeviceStream stream_;
  BertForPreTraining model_;
  Optimizer optimizer_;
  TrainStep step_;
};

double round_to(double x, int digits) {
  const double power = std::pow(10, digits);
  return std::round(x * power) / power;
}

// The most that each category held at one time, in MiB.
nlohmann::ordered_json memory_peaks() {
  nlohmann::ordered_json peaks;
  for (int i = 0; i < kMemoryCategories; ++i) {
    const auto category = static_cast<MemoryCategory>(i);
    const auto bytes = static_cast<double>(Allocator::instance().usage(category).peak_bytes);
    peaks[name_of(category)] = round_to(bytes / (1 << 20), 1);
  }
  return peaks;
}
// MiB that the process had in memory at most, or that its tensors had, on the device or beside it.
double peak_of_process() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}
double peak_of_tensors() {
  return static_cast<double>(Allocator::instance().total().peak_bytes) / (1 << 20);
}

nlohmann::ordered_json measure(const Options& o, Trainer& trainer) {
  std::vector<double> times;
  double total = 0, loss = 0;
  int64_t tokens = 0;
  for (int i = 0; i < o.warmup + o.steps; ++i) {
    const Trainer::Step step = trainer.step(i);
    if (i < o.warmup) continue;
    times.push_back(step.seconds);
    total += step.seconds;
    tokens += step.tokens;
    loss = step.loss;
  }
  std::sort(times.begin(), times.end());
  const size_t middle = times.size() / 2;
  const double median = times.size() % 2 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
  const bool cuda = parse_device(o.device) == Device::cuda;
  const std::string prefix = "bert-";
  return {
      {"peer", "minibert " + version()},
      {"model", o.model.rfind(prefix, 0) == 0 ? o.model.substr(prefix.size()) : o.model},
      {"batch", o.batch},
      {"seq", o.seq},
      {"precision", o.precision},
      {"mode", cuda ? gemm_cuda_implementation() : gemm_implementation()},
      {"head", o.head},
      {"attention", "fused"},
      {"threads", num_threads()},
      {"padded", false},
      {"step_s",
       {{"min", round_to(times.front(), 4)},
        {"median", round_to(median, 4)},
        {"max", round_to(times.back(), 4)}}},
      {"sequences_per_s", round_to(static_cast<double>(o.batch * o.steps) / total, 3)},
      {"real_tokens_per_s", round_to(static_cast<double>(tokens) / total, 1)},
      {"loss", round_to(loss, 4)},
      {"peak_mib", std::lround(cuda ? peak_of_tensors() : peak_of_process())},
      {"memory_mib", memory_peaks()},
  };
}

// One more step, with each kernel timed; adds what the products alone would take at the probed
// rate.
void add_profile(nlohmann::ordered_json& result, const Options& o, Trainer& trainer) {
  set_profiling(true);
  const double seconds = trainer.step(o.warmup + o.steps, /* by_op= */ true).seconds;
  set_profiling(false);
  const auto entries = profile_entries();
  const ComputeOptions compute =
      compute_options(parse_precision(o.precision), parse_device(o.device));
  const MachineLimits limits = compute.device == Device::cuda
                                   ? probe_device(compute, trainer.stream())
                                   : probe_machine(compute.dtype);
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  double product_flops = 0, known = 0;
  std::vector<std::pair<std::string, ProfileEntry>> sorted(entries.begin(), entries.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  for (const auto& [name, entry] : sorted) {
    if (name == "gemm") product_flops = entry.flops;
    known += entry.seconds;
    kernels.push_back({{"kernel", name},
                       {"calls", entry.calls},
                       {"seconds", entry.seconds},
                       {"gflops", entry.flops / 1e9},
                       {"gigabytes", entry.bytes / 1e9},
                       {"bound_seconds", limits.bound(entry.flops, entry.bytes)}});
  }
  result["profiled_step_s"] = round_to(seconds, 4);
  result["outside_kernels_s"] = round_to(seconds - known, 4);
  result["probed_gflops_per_s"] = round_to(limits.flops / 1e9, 1);
  result["probed_gb_per_s"] = round_to(limits.bytes / 1e9, 1);
  result["gemm_gflop"] = round_to(product_flops / 1e9, 1);
  result["gemm_bound_s"] = round_to(product_flops / limits.flops, 4);
  result["kernels"] = kernels;
}

void print_table(const nlohmann::ordered_json& r) {
  fmt::print("{}, {} x {} {}, {} threads, {}\n", r["model"].get<std::string>(),
             r["batch"].get<int64_t>(), r["seq"].get<int64_t>(), r["precision"].get<std::string>(),
             r["threads"].get<int>(), r["mode"].get<std::string>());
  const auto& s = r["step_s"];
  fmt::print(
      "step {:.3f} s (median; {:.3f} to {:.3f}), {:.2f} sequences/s, loss {:.3f}, peak {} MiB\n",
      s["median"].get<double>(), s["min"].get<double>(), s["max"].get<double>(),
      r["sequences_per_s"].get<double>(), r["loss"].get<double>(), r["peak_mib"].get<int64_t>());
  fmt::print("peak by category:");
  for (const auto& [category, mib] : r["memory_mib"].items())
    fmt::print(" {} {:.0f} MiB;", category, mib.get<double>());
  fmt::print("\n");
  const double step = r["profiled_step_s"].get<double>();
  fmt::print("{:<22} {:>6} {:>9} {:>6} {:>9} {:>8} {:>8}\n", "kernel", "calls", "ms", "share",
             "GFLOP/s", "GB/s", "limit");
  for (const auto& k : r["kernels"]) {
    const double t = k["seconds"].get<double>();
    fmt::print("{:<22} {:>6} {:>9.2f} {:>5.1f}% {:>9.1f} {:>8.1f} {:>7.0f}%\n",
               k["kernel"].get<std::string>(), k["calls"].get<int64_t>(), 1e3 * t, 100 * t / step,
               k["gflops"].get<double>() / t, k["gigabytes"].get<double>() / t,
               100 * k["bound_seconds"].get<double>() / t);
  }
  const double outside = r["outside_kernels_s"].get<double>();
  fmt::print("{:<22} {:>6} {:>9.2f} {:>5.1f}%\n", "outside kernels", "", 1e3 * outside,
             100 * outside / step);
  const double bound = r["gemm_bound_s"].get<double>();
  fmt::print("{:<22} {:>6} {:>9.2f} {:>5.1f}%   {:.1f} GFLOP at the probed {:.0f} GFLOP/s\n",
             "bound by products", "", 1e3 * bound, 100 * bound / s["median"].get<double>(),
             r["gemm_gflop"].get<double>(), r["probed_gflops_per_s"].get<double>());
}

void run(const Options& o) {
  check(o);
  if (o.threads != 0) set_num_threads(o.threads);
  Trainer trainer(o);
  nlohmann::ordered_json result = measure(o, trainer);
  add_profile(result, o, trainer);
  if (o.json)
    fmt::print("{}\n", result.dump());
  else
    print_table(result);
}

}  // namespace

void add_bench_step(CLI::App& bench) {
  auto* sub = bench.add_subcommand("step", "one BERT pre-training step, and where its time goes");
  auto o = std::make_shared<Options>();
  sub->add_option("--model", o->model, "bert-tiny|mini|small|base|large")->capture_default_str();
  sub->add_option("--layers", o->layers, "instead of the model's own number");
  sub->add_option("--vocab", o->vocab, "words in the vocabulary")->capture_default_str();
  sub->add_option("--batch", o->batch, "sequences")->capture_default_str();
  sub->add_option("--seq", o->seq, "tokens a sequence")->capture_default_str();
  sub->add_option("--lengths", o->lengths, "file of sequence lengths, one a line (cut at --seq)");
  sub->add_option("--precision", o->precision, "fp32|bf16|fp16, or tf32 on CUDA")
      ->capture_default_str();
  sub->add_option("--recompute", o->recompute, "none|layer")
      ->check(CLI::IsMember({"none", "layer"}))
      ->capture_default_str();
  sub->add_option("--head", o->head, "masked: logits of masked rows only")->capture_default_str();
  sub->add_option("--device", o->device, "cpu or cuda")->capture_default_str();
  ComputeFlags::add_gemm_to(*sub, o->gemm);
  sub->add_flag("--graph", o->graph, "on cuda: replay the step as a CUDA graph");
  sub->add_option("--threads", o->threads, "default: what this process may use");
  sub->add_option("--steps", o->steps, "steps that are timed")->capture_default_str();
  sub->add_option("--warmup", o->warmup, "steps before them")->capture_default_str();
  sub->add_option("--seed", o->seed, "of ids, weights and dropout")->capture_default_str();
  sub->add_flag("--json", o->json,
                "one JSON object: the fields of tools/bench/torch_step.py, and kernels");
  sub->callback([o] { run(*o); });
}

}  // namespace minibert
