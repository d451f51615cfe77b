// plan.h: what a run would take, before it takes anything: memory of a rank and the largest micro-batch
// that fits, FLOPs and bytes on the wire, phase by phase (run_plan.h has steps, tokens and rates).
// Called by the verb `plan`, by describe_plan() (run_setup.h) and, when memory has run out, by
// trainer.cpp, so that all of them say the same. Time is measured by plan_probe.h, or modelled by
// plan_time.h. Easy to break: memory is planned for the largest micro-batch that the data allows,
// everything else for the mean.
// Test: ctest -R plan_memory; ctest -R training_plan.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/training/plan_memory.h"
#include "models/training/plan_time.h"
#include "models/training/run_plan.h"
#include "models/training/run_setup.h"

namespace minibert {

/// A phase of a run: its settings, and its data or what is told of them.
struct PlanRequest {
  Phase phase;
  int64_t total_steps = 0;                  // of all phases
  std::shared_ptr<const RunInputs> inputs;  // null: there are no data, and the next two count
  int64_t masked = 0;  // predicted tokens of a sequence; 0: masked_of_full() (run_plan.h)
  int64_t vocab_size = 30522;
  int ranks = 1;
  int threads = 0;  // of a rank; 0: num_threads()

  const TrainConfig& config() const { return phase.config; }
  const PhaseInputs* data() const {
    const auto number = static_cast<size_t>(std::max<int64_t>(0, config().phase_number - 1));
    return inputs ? &inputs->phases[number] : nullptr;
  }
};

/// Tokens of a sequence where neither data nor settings say it.
inline constexpr int64_t kPlannedLength = 128;

/// A request for each phase of the run, else like `common`. Errors: UsageError, as phases_of().
std::vector<PlanRequest> plan_requests(const TrainConfig& config,
                                       const std::shared_ptr<const RunInputs>& inputs,
                                       const PlanRequest& common);

/// What a phase takes.
struct PhaseNeeds {
  BertConfig model;
  BertParts parts;
  int64_t parameters = 0;
  int64_t sequence_length = 0, masked = 0;  // of a sequence, at most
  StepPlan step;                            // mean sizes of a step of all ranks, without samples
  int64_t micro_batches = 0;                // of a rank and step: the rank that has the most
  int64_t steps = 0;
  std::optional<double> passes;  // over the data; nothing if their size is not known
  double step_flops = 0, usual_step_flops = 0;
  MemoryPlan memory;  // of a rank, at its largest
  double sequences() const { return static_cast<double>(steps * step.sequences); }
  double tokens() const { return static_cast<double>(steps) * static_cast<double>(step.tokens); }
};

/// Errors: UsageError as check_together() and model_shape(), and for the figures that stand for data.
PhaseNeeds needs_of(const PlanRequest& request);

/// What a rank with micro-batches of `micro_batch` full sequences keeps. Errors: as needs_of().
MemoryPlan plan_memory_of(const PlanRequest& request, int64_t micro_batch);

/// The largest micro-batch with which a rank's memory stays within `limit` bytes: of the device's for
/// device cuda, else of the host's, where `process` bytes are taken already and a checkpoint is written
/// now and then. 0: none does.
int64_t largest_micro_batch(const PlanRequest& request, int64_t limit, int64_t process);

/// The work of the plan's steps for plan_time.h. FLOPs as usually counted, as shares of peaks are.
PhaseWork phase_work(const PlanRequest& request, const PhaseNeeds& needs);

/// "memory of a rank: 123 MB weights, 45 MB gradients, ...": a line for the log, of the phase that
/// takes the most.
std::string describe_memory(const TrainConfig& config, const RunInputs& inputs, int ranks);

/// What to do after memory ran out: the micro-batch that fits, by the plan. `open` reads what the run
/// reads. Empty where no plan can be made any more.
std::string advice_after_out_of_memory(const TrainConfig& config, const OpenInputs& open,
                                       int ranks);

/// The largest divisor of n that is at most `most`; 0 if most is.
int64_t largest_divisor(int64_t n, int64_t most);

/// Bytes of this process that are resident and that no tensor has: program, libraries, their threads.
int64_t process_bytes();

}  // namespace minibert
