// plan.cpp: `minibert plan`: what a run would take, before it takes anything: memory, the largest
// micro-batch, steps, tokens, FLOPs, bytes on the wire, and time, measured here or modelled for a
// described cluster. The work is done in models/training/plan*.h. Easy to break: whatever is modelled
// says so. Try: minibert plan --recipe bert-base. Test: ctest -R plan_verb.
#include "models/training/plan.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/byte_size.h"
#include "core/device_marks.h"
#include "core/parallel.h"
#include "models/training/environment.h"
#include "models/training/plan_probe.h"
#include "models/training/recipes.h"
#include "tools/minibert/plan_published.h"
#include "tools/minibert/train_flags.h"

namespace minibert {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  TrainFlags settings;
  PlanRequest common;  // of all phases
  std::string memory, cluster, print_cluster;
  PublishedOptions published;
  int64_t devices = 0;
  double probe_seconds = 20;
  bool list_clusters = false, json = false;
};

constexpr double kMebibyte = 1 << 20;

std::string mebibytes(int64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / kMebibyte);
}

/// "2 d 3 h", "3 h 12 min", "12 min 30 s", "41.2 s"
std::string duration(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (seconds < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  if (seconds < 86400) return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {} h", whole / 86400, whole % 86400 / 3600);
}

// ---- What is planned ---------------------------------------------------------------------------

struct Memory {
  int64_t limit = 0;    // bytes of a rank
  int64_t process = 0;  // bytes of the host that no tensor has
  std::string of = {};  // "this machine", ...
};

/// What a rank may take.
Memory memory_of(const Options& o, const PlanRequest& r, const std::optional<Cluster>& cluster) {
  const TrainConfig& config = r.config();
  const bool cuda = config.device == "cuda";
  Memory memory{.process = cuda ? 0 : probe_process_bytes(r)};
  if (!o.memory.empty()) {
    memory.limit = parse_byte_size(o.memory, "--memory", BareSize::refused);
    MB_CHECK(memory.limit > 0, "--memory is \"{}\", expected more than 0, such as 16GiB or 80GB",
             o.memory);
    memory.of = "--memory";
  } else if (cluster) {
    memory.limit = static_cast<int64_t>(cluster->memory_bytes);
    memory.of = cluster->device_name;
  } else if (cuda) {
    const CudaDevice device = cuda_device_count() > 0 ? cuda_device() : CudaDevice{};
    MB_CHECK(device.memory_bytes > 0,
             "train.device is cuda, but there is no GPU here whose memory could be asked for. Use "
             "--cluster h100, also with --memory 40GB for a GPU that has so much.");
    memory.limit = device.memory_bytes;
    memory.of = device.name;
  } else {
    memory.limit = memory_limit() / r.ranks;
    memory.of = r.ranks > 1 ? "a rank's share of this machine" : "this machine";
  }
  return memory;
}

Json json_of(const MemoryPlan& m, const Memory& memory) {
  return {{"weights", m.weights},         {"working_copy", m.working_copy},
          {"gradients", m.gradients},     {"optimizer_state", m.optimizer_state},
          {"activations", m.activations}, {"workspace", m.workspace},
          {"loader", m.loader},           {"snapshot", m.snapshot},
          {"process", memory.process},    {"peak", m.peak},
          {"reserved", m.reserved},       {"limit", memory.limit}};
}

Json json_of(const PhaseNeeds& needs, const PlanRequest& r) {
  Json json = {{"phase", r.config().phase_number},
               {"model", r.config().model},
               {"parameters", needs.parameters},
               {"precision", r.config().precision},
               {"device", r.config().device},
               {"optimizer", r.config().optimizer},
               {"ranks", r.ranks},
               {"sequence_length", needs.sequence_length},
               {"masked", needs.masked},
               {"micro_batch_size", r.config().micro_batch_size},
               {"micro_batches", needs.micro_batches},
               {"global_batch_size", r.config().global_batch_size},
               {"steps", needs.steps},
               {"sequences", needs.sequences()},
               {"tokens", needs.tokens()},
               {"step_tokens", needs.step.tokens},
               {"step_flops", needs.step_flops},
               {"usual_step_flops", needs.usual_step_flops},
               {"flops", needs.step_flops * static_cast<double>(needs.steps)},
               {"bytes_sent", needs.memory.bytes_sent}};
  if (needs.passes) json["passes"] = *needs.passes;
  return json;
}

void print_run(const PhaseNeeds& needs, const PlanRequest& r) {
  const TrainConfig& c = r.config();
  if (c.phase_number > 0) fmt::print("{}\n", r.phase.label());
  fmt::print(
      "model: {} layers x {}, {} parameters; sequences of up to {} tokens, {} of them predicted\n",
      needs.model.num_hidden_layers, needs.model.hidden_size, needs.parameters,
      needs.sequence_length, needs.masked);
  fmt::print("batch: micro {} x {} micro-batches{} = {} sequences a step\n", c.micro_batch_size,
             needs.micro_batches, r.ranks > 1 ? fmt::format(" x {} ranks", r.ranks) : "",
             c.global_batch_size);
  fmt::print("run: {} steps, {:.4g} sequences, {:.4g} tokens{}\n", needs.steps, needs.sequences(),
             needs.tokens(),
             needs.passes ? fmt::format(", {:.2f} passes over the data", *needs.passes)
                          : ": full sequences, since no --data are given");
  fmt::print(
      "compute: {:.4g} FLOP a step ({:.4g} as usually counted, with all rows of the last layer), "
      "{:.4g} in all\n",
      needs.step_flops, needs.usual_step_flops,
      needs.step_flops * static_cast<double>(needs.steps));
  if (r.ranks > 1)
    fmt::print("wire: {:.1f} MB a step that a rank sends, over a ring\n",
               static_cast<double>(needs.memory.bytes_sent) / 1e6);
}

void print_memory(const MemoryPlan& m, const Memory& memory, const PlanRequest& r) {
  const bool cuda = r.config().device == "cuda";
  fmt::print("memory of a rank{}:\n", cuda ? ", device cuda" : "");
  const auto row = [](const char* name, int64_t bytes, const char* what) {
    fmt::print("  {:<16} {:>14}   {}\n", name, mebibytes(bytes), what);
  };
  row("weights", m.weights, "f32 masters");
  if (m.working_copy > 0) row("working copy", m.working_copy, "in the compute type");
  row("gradients", m.gradients, "f32, and what sums over ranks or micro-batches keep");
  row("optimizer state", m.optimizer_state, "moments and tables");
  row("activations", m.activations, "at most, in a micro-batch of full sequences");
  row("workspace", m.workspace, "at most: scratch of kernels, the batch on the device");
  row("peak", m.peak, "at one time, of these");
  row("held", m.reserved, "by the allocator, which keeps freed blocks for the next step");
  row("loader", m.loader, "on the host: the step's batches and two steps ahead");
  if (!cuda) row("process", memory.process, "program and libraries, measured here");
  if (!cuda) row("in all", m.host(Device::cpu) + memory.process, "");
  row("snapshot", m.snapshot, "more on the host of rank 0, while a checkpoint is written");
}

Json plan_largest(const PlanRequest& r, const Memory& memory, bool print) {
  const int64_t largest = largest_micro_batch(r, memory.limit, memory.process);
  const int64_t divisor = largest_divisor(r.config().global_batch_size, largest);
  if (print && largest == 0)
    fmt::print(
        "largest micro-batch within {} ({}): none. Use --recompute layer, --precision bf16, "
        "--shard-optimizer with ranks, or a smaller model.\n",
        mebibytes(memory.limit), memory.of);
  if (print && largest > 0)
    fmt::print(
        "largest micro-batch within {} ({}): {}{}; --micro-batch-size {} divides the global "
        "batch\n",
        mebibytes(memory.limit), memory.of, largest,
        largest == r.config().global_batch_size ? ", the whole global batch" : "", divisor);
  return {{"fits", largest}, {"divides", divisor}};
}

// ---- Time --------------------------------------------------------------------------------------

Json time_here(const Options& o, const PlanRequest& r, const PhaseNeeds& needs) {
  const PlanProbe probe = probe_steps(r, needs, o.probe_seconds);
  const double flops = needs.step_flops / r.ranks;
  const double step = probe.step_seconds(flops), low = probe.step_seconds(flops, 0.25),
               high = probe.step_seconds(flops, 0.75);
  const double run = step * static_cast<double>(needs.steps);
  if (!o.json)
    fmt::print(
        "time: {:.3f} s a step, {} for the run: measured here, median of {} micro-batches (middle "
        "half: {:.3f} to {:.3f} s){}; without evaluation and checkpoints\n",
        step, duration(run), probe.flop_seconds.size(), low, high,
        r.ranks > 1 ? ", without sums over ranks" : "");
  return {{"kind", "measured"},
          {"step_seconds", step},
          {"step_seconds_low", low},
          {"step_seconds_high", high},
          {"run_seconds", run},
          {"micro_batches", probe.flop_seconds.size()},
          {"flops_per_second", 1 / quantile_of(probe.flop_seconds, 0.5)},
          {"update_seconds", quantile_of(probe.update_seconds, 0.5)}};
}

Json json_of(const StepTime& t) {
  return {{"compute", t.compute}, {"backward", t.backward}, {"wire", t.wire},
          {"bucket", t.bucket},   {"latency", t.latency},   {"exposed", t.exposed},
          {"update", t.update},   {"step", t.step()},       {"scaling", t.scaling()}};
}

Json time_on(const Options& o, const PlanRequest& r, const Cluster& cluster,
             const PhaseNeeds& needs) {
  const PhaseWork phase = phase_work(r, needs);
  const StepTime t = step_time(cluster, phase.work, r.ranks, cluster.attained_share);
  const double run = t.step() * static_cast<double>(needs.steps);
  if (!o.json)
    fmt::print(
        "time: {:.1f} ms a step, {} for the run on {} x {}: a model, not a measurement: computes "
        "{:.1f} ms at {:.0f}% of {:.0f} TFLOP/s, waits {:.2f} ms for sums ({:.1f} ms on the wire), "
        "updates {:.1f} ms\n",
        1e3 * t.step(), duration(run), r.ranks, cluster.device_name, 1e3 * t.compute,
        100 * cluster.attained_share, cluster.peak_flops / 1e12, 1e3 * t.exposed, 1e3 * t.wire,
        1e3 * t.update);
  return {{"kind", "modelled"},
          {"cluster", cluster.name},
          {"devices", r.ranks},
          {"share_of_peak", cluster.attained_share},
          {"sequences_per_second",
           cluster.attained_share * cluster.peak_flops / phase.work.sequence_flops},
          {"gradient_bytes", phase.work.gradient_bytes},
          {"seconds", json_of(t)},
          {"run_seconds", run}};
}

// ---- The verb ----------------------------------------------------------------------------------

/// A cluster's devices are GPUs to the memory's plan, unless --device says otherwise.
void apply_cluster(Options& o, ConfigBuilder& builder, const Cluster& cluster) {
  const ConfigKey& device = *std::ranges::find(config_keys(), "train.device", &ConfigKey::name);
  if (builder.origin(device.name()) == "default") builder.apply_text(device, "cuda", "--cluster");
  if (o.devices > 0)
    o.common.ranks = static_cast<int>(o.devices);
  else if (o.common.ranks == 1)
    o.common.ranks = static_cast<int>(cluster.devices_a_node);
}

/// Of all phases.
struct Total {
  int64_t steps = 0;
  double sequences = 0, tokens = 0, flops = 0, seconds = 0;
};

/// One phase: its figures for people, or as a JSON object.
void plan_phase(const Options& o, const PlanRequest& r, const std::optional<Cluster>& cluster,
                Total& total) {
  const PhaseNeeds needs = needs_of(r);
  const Memory memory = memory_of(o, r, cluster);
  Json json = json_of(needs, r);
  json["memory"] = json_of(needs.memory, memory);
  if (!o.json) {
    print_run(needs, r);
    print_memory(needs.memory, memory, r);
  }
  json["largest_micro_batch"] = plan_largest(r, memory, /* print= */ !o.json);
  if (cluster) {
    json["time"] = time_on(o, r, *cluster, needs);
  } else if (o.probe_seconds > 0) {
    json["time"] = time_here(o, r, needs);
  }
  if (o.json) fmt::print("{}\n", json.dump());
  total.steps += needs.steps;
  total.sequences += needs.sequences();
  total.tokens += needs.tokens();
  total.flops += needs.step_flops * static_cast<double>(needs.steps);
  if (json.contains("time")) total.seconds += json["time"]["run_seconds"].get<double>();
}

void print_total(const Options& o, const Total& t) {
  if (o.json) {
    const Json total = {{"steps", t.steps},
                        {"sequences", t.sequences},
                        {"tokens", t.tokens},
                        {"flops", t.flops},
                        {"run_seconds", t.seconds}};
    fmt::print("{}\n", Json{{"total", total}}.dump());
    return;
  }
  fmt::print("in all: {} steps, {:.4g} sequences, {:.4g} tokens, {:.4g} FLOP{}\n", t.steps,
             t.sequences, t.tokens, t.flops, t.seconds > 0 ? ", " + duration(t.seconds) : "");
}

void run_plan(Options& o) {
  if (o.list_clusters) {
    for (const Recipe& one : clusters()) fmt::print("{:<12} {}\n", one.name, describe(one));
    return;
  }
  if (!o.print_cluster.empty()) {
    find_cluster(o.print_cluster);
    for (const Recipe& one : clusters())
      if (one.name == o.print_cluster) fmt::print("{}", one.toml);
    return;
  }
  if (!o.published.published.empty()) {
    o.published.cluster = o.cluster;
    o.published.json = o.json;
    return print_published(o.published);
  }
  ConfigBuilder builder = o.settings.resolve();
  std::optional<Cluster> cluster;
  if (!o.cluster.empty()) {
    cluster = find_cluster(o.cluster);
    apply_cluster(o, builder, *cluster);
  }
  if (builder.config().threads > 0) set_num_threads(static_cast<int>(builder.config().threads));
  Total total;
  check_together(builder.config());
  std::shared_ptr<const RunInputs> inputs;
  if (!phases_of(builder.config()).front().config.data.empty())
    inputs = std::make_shared<const RunInputs>(open_data(builder.config()));
  const std::vector<PlanRequest> phases = plan_requests(builder.config(), inputs, o.common);
  for (const PlanRequest& phase : phases) plan_phase(o, phase, cluster, total);
  if (phases.size() > 1) print_total(o, total);
}

}  // namespace

void add_plan_verb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("plan",
                                      "What a run would take, before it takes anything: memory, "
                                      "micro-batch, steps, FLOPs, wire, time. "
                                      "Settings as for train");
  o->settings.add_to(*verb);
  PlanRequest& r = o->common;
  verb->add_option("--masked", r.masked,
                   "without --data: tokens of a sequence that are predicted; 0 = 15 %, rounded up")
      ->capture_default_str()
      ->check(CLI::Range(0, 65536));
  verb->add_option("--vocab-size", r.vocab_size, "without --data and --init-from: words")
      ->capture_default_str()
      ->check(CLI::Range(6, 1 << 24));
  verb->add_option("--nproc", r.ranks, "ranks that share the run")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  verb->add_option("--memory", o->memory,
                   "what a rank may take, a number with its unit such as 16GiB or 80GB; left out: "
                   "what is here, or a device of the "
                   "cluster has");
  verb->add_option("--probe-seconds", o->probe_seconds,
                   "how long steps are timed here; 0: not at all")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 86400.0));
  verb->add_option(
      "--cluster", o->cluster,
      "plan for this machine instead: a name of --list-clusters, or a file as --print-cluster "
      "prints");
  verb->add_option("--devices", o->devices, "how many of the cluster's; left out: a node's")
      ->check(CLI::Range(1, 1 << 20));
  verb->add_option(
      "--published", o->published.published,
      "a cluster with published runs: fit one, predict the others; with another --cluster: "
      "devices that one of the runs needs there");
  verb->add_option("--run", o->published.run,
                   "which of the published, by its recipe; left out: the last");
  verb->add_option("--within", o->published.within,
                   "minutes that the published run may take; may be repeated")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--list-clusters", o->list_clusters, "List the clusters and exit");
  verb->add_option("--print-cluster", o->print_cluster,
                   "Print a cluster's description, with the source of each figure, and exit");
  verb->add_flag("--json", o->json, "One JSON object a phase");
  verb->callback([o] { run_plan(*o); });
}

}  // namespace minibert
