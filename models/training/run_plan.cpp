// run_plan.cpp: sums over phases, and their tables.
#include "models/training/run_plan.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/corpus_lint.h"
#include "models/text/json_text.h"
#include "models/training/batch_scaling.h"
#include "models/training/published.h"
#include "models/training/recipes.h"

namespace minibert {
namespace {

constexpr double kMaskedShare = 0.15;       // of the tokens, as BERT's data have it
constexpr int32_t kBertVocabulary = 30522;  // of bert-base-uncased
constexpr int64_t kPlottedSteps = 400;

/// A step of full sequences.
StepPlan full_step(const TrainConfig& c, int64_t sequence_length, int64_t masked) {
  StepPlan step;
  step.sequences = c.global_batch_size;
  step.tokens = c.global_batch_size * sequence_length;
  step.squared_lengths = step.tokens * sequence_length;
  step.masked_rows = c.global_batch_size * masked;
  return step;
}

PhasePlan plan_phase(const Phase& phase, const RunInputs* inputs, size_t number) {
  const TrainConfig& c = phase.config;
  PhasePlan plan;
  plan.label = phase.label();
  plan.global_batch_size = c.global_batch_size;
  plan.micro_batch_size = c.micro_batch_size;
  plan.first_step = phase.first_step;
  plan.steps = phase.steps;
  plan.sequences = phase.sequences();
  plan.learning_rate = c.learning_rate;
  plan.warmup_steps = warmup_steps(c.warmup, phase.steps);
  const Schedule schedule = run_schedule({phase}).phases().front().schedule;
  plan.schedule = schedule.describe();
  const auto samples = static_cast<double>(plan.sequences), steps = static_cast<double>(plan.steps);
  StepPlan step;
  BertConfig model;
  if (inputs) {
    const PhaseInputs& own = inputs->phases[number];
    plan.sequence_length = own.data->traits().sequence_length;
    plan.passes = samples / static_cast<double>(own.data->examples());
    step = mean_step(phase, &own, 0, 0);
    model = inputs->model;
  } else {
    plan.sequence_length = c.sequence_length;
    if (c.sequences > 0) plan.passes = samples / static_cast<double>(c.sequences);
    step = mean_step(phase, nullptr, c.sequence_length, masked_of_full(c.sequence_length));
    model = configured_shape(c);
    model.vocab_size = kBertVocabulary;
  }
  const BertParts parts{.pooler = c.nsp, .mlm_head = true, .nsp_head = c.nsp};
  plan.tokens = steps * static_cast<double>(step.tokens);
  plan.flops = steps * step_flops(model, parts, step);
  return plan;
}

template <typename Field>
double sum(const std::vector<PhasePlan>& plan, Field field) {
  double total = 0;
  for (const PhasePlan& phase : plan) total += static_cast<double>(phase.*field);
  return total;
}

std::optional<double> all_passes(const std::vector<PhasePlan>& plan) {
  double total = 0;
  for (const PhasePlan& phase : plan) {
    if (!phase.passes) return std::nullopt;
    total += *phase.passes;
  }
  return total;
}

std::string passes_text(std::optional<double> passes) {
  return passes ? fmt::format("{:.2f}", *passes) : "-";
}

std::string row(const std::string& label, int64_t length, const std::string& batch, double steps,
                double sequences, std::optional<double> passes, double tokens, double flops) {
  return fmt::format("{:<18} {:>6} {:>8} {:>9} {:>13} {:>8} {:>9.3g} {:>9.3g}", label,
                     length > 0 ? std::to_string(length) : "", batch, steps, sequences,
                     passes_text(passes), tokens, flops);
}

std::string percent(double ratio) {
  return fmt::format("{:.4g}", ratio);
}

std::string describe(const PublishedRun& run) {
  std::string text = fmt::format("published: {} steps at batch {}", run.steps, run.batch);
  if (run.learning_rate > 0)
    text +=
        fmt::format(", learning rate {:g}, warm-up {}{}", run.learning_rate, percent(run.warmup),
                    run.rate_from_memory ? " (from memory, not found in a source)" : "");
  if (run.hours > 0) text += fmt::format(", {:.4g} h on {} {}", run.hours, run.devices, run.device);
  return text + fmt::format("; {} ({})", run.result, run.source);
}

nlohmann::ordered_json rates_of(const Phase& phase) {
  const Schedule schedule = run_schedule({phase}).phases().front().schedule;
  const int64_t steps = phase.steps, points = std::min(steps, kPlottedSteps);
  nlohmann::ordered_json rates = nlohmann::ordered_json::array();
  for (int64_t i = 0; i < points; ++i) {
    const int64_t step = points == 1 ? 0 : i * (steps - 1) / (points - 1);
    rates.push_back({step, schedule.learning_rate(step)});
  }
  return rates;
}

}  // namespace

int64_t masked_of_full(int64_t sequence_length) {
  return static_cast<int64_t>(std::ceil(kMaskedShare * static_cast<double>(sequence_length)));
}

StepPlan mean_step(const Phase& phase, const PhaseInputs* inputs, int64_t sequence_length,
                   int64_t masked) {
  const int64_t batch = phase.config.global_batch_size;
  if (!inputs) return full_step(phase.config, sequence_length, masked);
  constexpr int64_t kSequences = 65536;  // about as many are looked at
  const int64_t looks =
      std::clamp<int64_t>(kSequences / batch, 1, std::min<int64_t>(32, phase.steps));
  StepPlan mean;
  mean.sequences = batch;
  for (int64_t i = 0; i < looks; ++i) {
    const StepPlan one = inputs->loader->plan(phase.first_step + i * phase.steps / looks);
    mean.tokens += one.tokens;
    mean.masked_rows += one.masked_rows;
    mean.squared_lengths += one.squared_lengths;
  }
  for (int64_t* sum : {&mean.tokens, &mean.masked_rows, &mean.squared_lengths}) *sum /= looks;
  return mean;
}

bool is_described(const TrainConfig& config) {
  return std::ranges::all_of(phases_of(config), [](const Phase& phase) {
    return phase.config.data.empty() && phase.config.sequence_length > 0;
  });
}

std::vector<PhasePlan> plan_run(const TrainConfig& config, const RunInputs* inputs) {
  const std::vector<Phase> phases = phases_of(config);
  if (!inputs) check_phases(phases, /* data_at_hand= */ false);
  std::vector<PhasePlan> plan;
  for (size_t i = 0; i < phases.size(); ++i) plan.push_back(plan_phase(phases[i], inputs, i));
  return plan;
}

std::vector<std::string> describe_run(const TrainConfig& config, const std::vector<PhasePlan>& plan,
                                      const std::string& recipe) {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{:<18} {:>6} {:>8} {:>9} {:>13} {:>8} {:>9} {:>9}", "", "length",
                              "batch", "steps", "sequences", "passes", "tokens", "FLOPs"));
  for (const PhasePlan& p : plan)
    lines.push_back(row(p.label, p.sequence_length, std::to_string(p.global_batch_size),
                        static_cast<double>(p.steps), static_cast<double>(p.sequences), p.passes,
                        p.tokens, p.flops));
  if (plan.size() > 1)
    lines.push_back(row("all", 0, "", sum(plan, &PhasePlan::steps),
                        sum(plan, &PhasePlan::sequences), all_passes(plan),
                        sum(plan, &PhasePlan::tokens), sum(plan, &PhasePlan::flops)));
  for (const Phase& phase : phases_of(config)) {
    const std::string scaling = describe_scaling(phase.config);
    if (!scaling.empty()) lines.push_back(scaling);
  }
  for (const PhasePlan& p : plan)
    lines.push_back((plan.size() > 1 ? p.label + ": " : "") + "schedule: " + p.schedule);
  if (const PublishedRun* run = published_run(recipe)) lines.push_back(describe(*run));
  return lines;
}

std::string run_json(const TrainConfig& config, const std::vector<PhasePlan>& plan,
                     const std::string& recipe, const RunInputs* inputs) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  const std::vector<Phase> phases = phases_of(config);
  for (size_t i = 0; i < plan.size(); ++i) {
    const PhasePlan& p = plan[i];
    nlohmann::ordered_json one = {{"name", phases[i].config.phase_name},
                                  {"sequence_length", p.sequence_length},
                                  {"global_batch_size", p.global_batch_size},
                                  {"micro_batch_size", p.micro_batch_size},
                                  {"first_step", p.first_step},
                                  {"steps", p.steps},
                                  {"sequences", p.sequences},
                                  {"passes", nullptr},
                                  {"tokens", p.tokens},
                                  {"flops", p.flops},
                                  {"learning_rate", p.learning_rate},
                                  {"warmup_steps", p.warmup_steps},
                                  {"schedule", phases[i].config.schedule},
                                  {"schedule_power", phases[i].config.schedule_power},
                                  {"rates", rates_of(phases[i])}};
    if (p.passes) one["passes"] = *p.passes;
    if (inputs && inputs->phases[i].data)
      one["findings"] = to_json(lint(inputs->phases[i].data->manifest()));
    list.push_back(std::move(one));
  }
  nlohmann::ordered_json json = {{"recipe", nullptr},
                                 {"phases", std::move(list)},
                                 {"steps", total_steps(phases)},
                                 {"sequences", sum(plan, &PhasePlan::sequences)},
                                 {"tokens", sum(plan, &PhasePlan::tokens)},
                                 {"flops", sum(plan, &PhasePlan::flops)},
                                 {"published", nullptr}};
  if (!recipe.empty()) json["recipe"] = recipe;
  if (const PublishedRun* run = published_run(recipe))
    json["published"] = {{"steps", run->steps},   {"batch", run->batch},
                         {"hours", run->hours},   {"devices", run->devices},
                         {"device", run->device}, {"result", run->result},
                         {"source", run->source}};
  return json_text(json);
}

std::vector<std::string> recipe_table() {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{:<20} {:>12} {:>18} {:>10} {:>10} {:>20} {:>20}", "recipe", "batch",
                              "steps", "published", "passes", "rate (published)",
                              "warm-up (published)"));
  for (const PublishedRun& run : published_runs()) {
    const TrainConfig config = recipe_config(run.recipe);
    const std::vector<PhasePlan> plan = plan_run(config, nullptr);
    std::vector<std::string> batches, steps;
    for (const PhasePlan& p : plan) {
      steps.push_back(std::to_string(p.steps));
      const std::string batch = std::to_string(p.global_batch_size);
      if (batches.empty() || batches.back() != batch) batches.push_back(batch);
    }
    const PhasePlan& first = plan.front();
    const std::string mark = run.rate_from_memory ? "*" : "";
    const auto beside = [&mark](double ours, double theirs) {
      return fmt::format("{:.4g} ({})", ours,
                         theirs > 0 ? fmt::format("{:.4g}{}", theirs, mark) : "-");
    };
    lines.push_back(fmt::format(
        "{:<20} {:>12} {:>18} {:>10} {:>10} {:>20} {:>20}", run.recipe,
        fmt::format("{}", fmt::join(batches, "/")), fmt::format("{}", fmt::join(steps, "+")),
        run.steps, passes_text(all_passes(plan)), beside(first.learning_rate, run.learning_rate),
        beside(first.warmup_steps / static_cast<double>(first.steps), run.warmup)));
  }
  lines.push_back(
      "rate and warm-up are of the first phase; * from memory, not found in a source; - not "
      "reported");
  return lines;
}

}  // namespace minibert
