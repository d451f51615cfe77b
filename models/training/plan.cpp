// plan.cpp: from settings and data to the sizes of a step, and from these to everything else.
#include "models/training/plan.h"

#include <algorithm>
#include <fstream>

#include <unistd.h>

#include "core/device_marks.h"
#include "core/error.h"
#include "models/training/environment.h"

namespace minibert {
namespace {

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// What decides a micro-batch's room.
struct Room {
  BertConfig model;
  BertParts parts;
  int64_t sequence_length, masked;
  Objective objective = Objective::pre_training;
};

Room room_of(const PlanRequest& r) {
  if (const PhaseInputs* own = r.data()) {
    if (!own->data)
      return {r.inputs->model, r.inputs->parts, own->sequence_length, 0, r.inputs->objective};
    const int64_t length = own->data->traits().sequence_length;
    return {r.inputs->model, r.inputs->parts, length,
            masked_count(length, own->data->manifest().settings.masking)};
  }
  const TrainConfig& c = r.config();
  const int64_t length = c.sequence_length > 0 ? c.sequence_length : kPlannedLength;
  const BertConfig model =
      model_shape(c, c.init_from.empty() ? r.vocab_size : 0);  // else the folder's
  MB_CHECK(
      length <= model.max_position_embeddings,
      "{}sequences have up to {} tokens, expected at most {} (max_position_embeddings of the "
      "model). {}",
      phase_prefix(c), length, model.max_position_embeddings,
      c.init_from.empty()
          ? fmt::format("Use --max-position-embeddings {}, or a smaller --sequence-length.", length)
          : fmt::format("Use --sequence-length {}.", model.max_position_embeddings));
  const int64_t masked = r.masked > 0 ? r.masked : masked_of_full(length);
  MB_CHECK(masked <= length, "{}--masked is {}, expected at most the sequence length, {}",
           phase_prefix(c), masked, length);
  return {model, {.pooler = c.nsp, .mlm_head = true, .nsp_head = c.nsp}, length, masked};
}

/// Without asking whether the device is there.
ComputeOptions planned_compute(const TrainConfig& config) {
  const Precision precision = parse_precision(config.precision);
  return {compute_type(precision), parse_device(config.device), precision == Precision::tf32};
}

TrainStepOptions planned_step(const TrainConfig& config,
                              Objective objective = Objective::pre_training) {
  const int64_t probed = TrainConfig().bucket_megabytes;  // a probe's choice is not known yet
  return step_options(config, config.bucket_megabytes > 0 ? config.bucket_megabytes : probed,
                      objective);
}

int64_t micro_batches_of(const PlanRequest& r, int64_t micro_batch) {
  return ceil_div(ceil_div(r.config().global_batch_size, micro_batch), r.ranks);
}

MemoryPlan memory_of(const PlanRequest& r, const Room& shape, int64_t micro_batch) {
  MemoryRequest request;
  request.model = shape.model;
  request.parts = shape.parts;
  request.compute = planned_compute(r.config());
  request.optimizer = optimizer_options(r.config());
  request.step = planned_step(r.config(), shape.objective);
  request.steps = r.total_steps;
  request.micro_batch = full_micro_batch(micro_batch, shape.sequence_length, shape.masked,
                                         shape.model, r.config().nsp, shape.objective);
  if (const int64_t room = r.config().token_capacity; room > 0) {
    BatchSizes& sizes = request.micro_batch;
    sizes.row_capacity = sizes.tokens =
        r.config().fixed_shapes ? room : std::min(room, sizes.row_capacity);
  }
  request.micro_batches = micro_batches_of(r, micro_batch);
  request.ranks = r.ranks;
  request.threads = r.threads > 0 ? r.threads : static_cast<int>(r.config().threads);
  return plan_memory(request);
}

}  // namespace

MemoryPlan plan_memory_of(const PlanRequest& request, int64_t micro_batch) {
  return memory_of(request, room_of(request), micro_batch);
}

std::vector<PlanRequest> plan_requests(const TrainConfig& config,
                                       const std::shared_ptr<const RunInputs>& inputs,
                                       const PlanRequest& common) {
  std::vector<PlanRequest> requests;
  const std::vector<Phase> phases = phases_of(config);
  for (const Phase& phase : phases) {
    requests.push_back(common);
    requests.back().phase = phase;
    requests.back().total_steps = total_steps(phases);
    requests.back().inputs = inputs;
  }
  return requests;
}

PhaseNeeds needs_of(const PlanRequest& request) {
  const TrainConfig& config = request.config();
  const Room room = room_of(request);
  PhaseNeeds needs;
  needs.model = room.model;
  needs.parts = room.parts;
  needs.parameters = bert_parameters(room.model, room.parts).parameters();
  needs.sequence_length = room.sequence_length;
  needs.masked = room.masked;
  needs.step = mean_step(request.phase, request.data(), room.sequence_length, room.masked);
  needs.micro_batches = micro_batches_of(request, config.micro_batch_size);
  needs.steps = request.phase.steps;
  const auto samples = static_cast<double>(request.phase.sequences());
  if (const PhaseInputs* own = request.data())
    needs.passes = own->loader->epoch_of(request.phase.end()) -
                   own->loader->epoch_of(request.phase.first_step);
  else if (config.sequences > 0)
    needs.passes = samples / static_cast<double>(config.sequences);
  needs.step_flops = step_flops(needs.model, needs.parts, needs.step);
  needs.usual_step_flops = usual_step_flops(needs.model, needs.parts, needs.step);
  needs.memory = memory_of(request, room, config.micro_batch_size);
  return needs;
}

int64_t largest_micro_batch(const PlanRequest& request, int64_t limit, int64_t process) {
  const Room shape = room_of(request);
  const Device device = parse_device(request.config().device);
  return largest_fitting(request.config().global_batch_size, [&](int64_t micro_batch) {
    const MemoryPlan memory = memory_of(request, shape, micro_batch);
    return device == Device::cuda ? memory.reserved <= limit
                                  : memory.host_while_saving(device) + process <= limit;
  });
}

PhaseWork phase_work(const PlanRequest& request, const PhaseNeeds& needs) {
  const TrainConfig& config = request.config();
  const int64_t working = static_cast<int64_t>(size_of(planned_compute(config).dtype));
  const auto wire = static_cast<double>(size_of(planned_step(config).wire));
  const auto parameters = static_cast<double>(needs.parameters);
  PhaseWork phase;
  phase.steps = needs.steps;
  phase.work = {
      .sequence_flops = needs.usual_step_flops / static_cast<double>(needs.step.sequences),
      .global_batch_size = config.global_batch_size,
      .micro_batch_size = config.micro_batch_size,
      .gradient_bytes = wire * parameters,
      .bucket_bytes = wire / 4 * static_cast<double>(planned_step(config).bucket_bytes),
      .update_bytes =
          parameters * update_bytes_a_weight(optimizer_variant(config.optimizer).policies,
                                             working == 4 ? 0 : working)};
  return phase;
}

std::string describe_memory(const TrainConfig& config, const RunInputs& inputs, int ranks) {
  PlanRequest common;
  common.ranks = ranks;
  MemoryPlan m;
  for (const PlanRequest& r : plan_requests(config, std::make_shared<RunInputs>(inputs), common)) {
    const MemoryPlan one = plan_memory_of(r, r.config().micro_batch_size);
    if (one.peak > m.peak) m = one;
  }
  const Device device = parse_device(config.device);
  const auto megabytes = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  return fmt::format(
             "memory{}: {:.0f} MB at most, {:.0f} MB with what the allocator keeps: {:.0f} MB "
             "weights{}, {:.0f} MB gradients, {:.0f} MB optimizer state, {:.0f} MB activations, "
             "{:.0f} MB "
             "workspace; on the host {:.0f} MB of batches, and {:.0f} MB while a checkpoint is "
             "written",
             ranks > 1 ? " of a rank" : "", megabytes(m.peak), megabytes(m.reserved),
             megabytes(m.weights),
             m.working_copy > 0
                 ? fmt::format(" and {:.0f} MB working copy", megabytes(m.working_copy))
                 : "",
             megabytes(m.gradients), megabytes(m.optimizer_state), megabytes(m.activations),
             megabytes(m.workspace), megabytes(m.loader), megabytes(m.snapshot)) +
         (device == Device::cuda ? " (device cuda; libraries take more)" : "");
}

namespace {

/// Bytes that this rank's tensors may take: as the allocator is told, or as there are.
int64_t memory_here(Device device, int ranks) {
  if (const int64_t limit = Allocator::instance().limit(); limit > 0) return limit;
  return device == Device::cuda ? cuda_device().memory_bytes
                                : memory_limit() / ranks - process_bytes();
}

/// The advice for a phase that does not fit; "" if it does.
std::string advice_of(const PlanRequest& r, int64_t limit) {
  const TrainConfig& c = r.config();
  const int64_t fits = largest_micro_batch(r, limit, /* process= */ 0);
  const double megabytes = static_cast<double>(limit) / (1 << 20);
  if (fits == 0)
    return fmt::format(
        "\nminibert plan: {}not even one sequence fits into {:.0f} MB. Use --recompute "
        "layer, --precision bf16 or a smaller model.",
        phase_prefix(c), megabytes);
  if (fits >= c.micro_batch_size) return "";
  const int64_t divisor = largest_divisor(c.global_batch_size, fits);
  return fmt::format("\nminibert plan: {}up to {} sequences fit into {:.0f} MB. Use {}.",
                     phase_prefix(c), fits, megabytes,
                     flag_text(c, "micro_batch_size", std::to_string(divisor)));
}

}  // namespace

std::string advice_after_out_of_memory(const TrainConfig& config, const OpenInputs& open,
                                       int ranks) {
  try {
    PlanRequest common;
    common.ranks = ranks;
    const int64_t limit = memory_here(parse_device(config.device), ranks);
    std::string advice;
    for (const PlanRequest& r :
         plan_requests(config, std::make_shared<RunInputs>(open(config)), common))
      advice += advice_of(r, limit);
    return advice.empty() ? fmt::format(
                                "\nminibert plan: the run fits into {:.0f} MB, so something "
                                "else has taken memory here. End it, or use a smaller "
                                "micro-batch.",
                                static_cast<double>(limit) / (1 << 20))
                          : advice;
  } catch (const Error&) {
    return "";
  }
}

int64_t largest_divisor(int64_t n, int64_t most) {
  for (int64_t d = std::min(n, most); d > 0; --d)
    if (n % d == 0) return d;
  return 0;
}

int64_t process_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0;
  file >> size >> resident;
  return std::max<int64_t>(
      0, resident * ::sysconf(_SC_PAGESIZE) - Allocator::instance().reserved_bytes());
}

}  // namespace minibert
