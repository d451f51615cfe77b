// setting_effects.cpp: what a change of each setting does to a resumed run, and how it is said. A new
// setting needs a line here.
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/training/run_settings.h"

namespace minibert {
namespace {

using enum SettingEffect;

const std::unordered_map<std::string, SettingEffect>& effects() {
  static const std::unordered_map<std::string, SettingEffect> table = {
      {"model.model", shape},
      {"model.num_hidden_layers", shape},
      {"model.hidden_size", shape},
      {"model.num_attention_heads", shape},
      {"model.intermediate_size", shape},
      {"model.max_position_embeddings", shape},
      {"model.hidden_dropout", curve},
      {"model.attention_dropout", curve},
      {"model.initializer_range", start},
      {"model.position_initializer", start},
      {"model.nsp", fixed},
      {"model.init_from", start},

      {"data.data", place},             // data.checksum is compared
      {"data.evaluation_data", place},  // data.evaluation_checksum, or the file of fine-tuning
      {"data.vocab", place},            // its hash is compared
      {"data.sequence_length", place},  // describes the data
      {"data.sequences", place},
      {"data.checksum", curve},
      {"data.evaluation_checksum", none},

      {"train.micro_batch_size", rounding},
      {"train.global_batch_size", curve},
      {"train.token_capacity", rounding},
      {"train.max_steps", curve},
      {"train.stop_after", place},
      {"train.seed", curve},
      {"train.threads", place},  // what was granted is in the environment
      {"train.device", rounding},
      {"train.gemm", rounding},
      {"train.precision", curve},
      {"train.recompute", none},
      {"train.deterministic", rounding},
      {"train.overfit_batch", curve},
      {"train.fixed_shapes", rounding},
      {"train.graph", none},

      {"ranks.collectives", rounding},
      {"ranks.interface", place},
      {"ranks.bucket_megabytes", rounding},
      {"ranks.reduce_precision", curve},
      {"ranks.shard_optimizer", none},
      {"ranks.communication_timeout", none},
      {"ranks.start_timeout", none},

      {"scale.loss_scaling", curve},
      {"scale.loss_scale", start},
      {"scale.loss_scale_growth", curve},
      {"scale.loss_scale_backoff", curve},
      {"scale.loss_scale_floor", curve},
      {"scale.loss_scale_interval", curve},
      {"scale.max_skips", none},

      {"optim.optimizer", curve},
      {"optim.learning_rate", curve},
      {"optim.schedule", curve},
      {"optim.schedule_power", curve},
      {"optim.warmup", curve},
      {"optim.batch_scaling", none},  // the settings that it derives are compared
      {"optim.reference_batch_size", none},
      {"optim.reference_learning_rate", none},
      {"optim.reference_warmup", none},
      {"optim.reference_steps", none},
      {"optim.weight_decay", curve},
      {"optim.max_grad_norm", curve},
      {"optim.beta1", curve},
      {"optim.beta2", curve},
      {"optim.epsilon", curve},
      {"optim.adapt", curve},
      {"optim.bias_correction", curve},
      {"optim.gradient_clipping", curve},
      {"optim.epsilon_inside_root", curve},
      {"optim.gradient_averaging", curve},
      {"optim.nesterov", curve},
      {"optim.trust_coefficient", curve},
      {"optim.weight_norm_min", curve},
      {"optim.weight_norm_max", curve},
      {"optim.trust_ratio_min", curve},
      {"optim.trust_ratio_max", curve},

      {"checkpoint.output_dir", place},
      {"checkpoint.resume", place},
      {"checkpoint.save_every", none},
      {"checkpoint.keep_last", none},
      {"checkpoint.grace", none},

      {"log.log_every", none},
      {"log.evaluate_every", none},
      {"log.evaluation_batches", none},
      {"log.trust_ratio_every", none},
      {"log.tensorboard", none},

      {"phase.name", place},
      {"phase.first_step", place},
      {"phase.restart_step_count", curve},
  };
  return table;
}

std::string shown(const std::string& value) {
  return value.empty() ? "(empty)" : value;
}

const char* meaning(SettingEffect effect) {
  switch (effect) {
    case curve:
      return "the run continues, but not as it would have";
    case rounding:
      return "its bits may differ from those of an undisturbed run";
    case start:
      return "this has no effect any more: it counts for the first step alone";
    default:
      return "no step depends on it";
  }
}

}  // namespace

SettingEffect effect_of(const std::string& name) {
  if (name == "--n-best" || name == "--max-answer-length") return none;  // of scoring alone
  if (name.starts_with("--")) return curve;  // of a task: how its data are read
  const auto found = effects().find(name);
  MB_ASSERT(found != effects().end(), "setting_effects.cpp has no line for {}", name);
  return found->second;
}

std::vector<std::string> describe(const std::vector<SettingChange>& changes) {
  std::vector<std::string> lines;
  for (const SettingChange& c : changes) {
    const std::string from = c.effect == start   ? ""
                             : c.first_step == 0 ? ", from the beginning of that phase on"
                                                 : fmt::format(", from step {} on", c.first_step);
    lines.push_back(fmt::format("{}{} was {} in the checkpoint and is {} now{}: {}", c.phase,
                                c.name, shown(c.before), shown(c.now), from, meaning(c.effect)));
  }
  return lines;
}

std::string to_json(const std::vector<SettingChange>& changes) {
  nlohmann::ordered_json object;
  for (const SettingChange& c : changes)
    if (c.effect != none && c.effect != start)  // else no step depends on it
      object[c.phase + c.name] = {{"before", c.before}, {"now", c.now}};
  return object.empty() ? "" : object.dump();
}

void check_changes(const std::vector<SettingChange>& changes,
                   const std::filesystem::path& checkpoint) {
  std::vector<std::string> faults;
  for (const SettingChange& c : changes)
    if (c.effect == fixed)
      faults.push_back(
          fmt::format("{}{} was {} and is {}", c.phase, c.name, shown(c.before), shown(c.now)));
  MB_CHECK(faults.empty(),
           "{}: was saved with other settings that a run can't change: {}. Resume with those of "
           "the checkpoint, or begin a new run from its weights with --init-from {} in another "
           "--output-dir.",
           checkpoint.string(), fmt::join(faults, "; "), checkpoint.string());
}

}  // namespace minibert
