// config_checks.cpp: what concerns several settings at once.
#include <algorithm>
#include <filesystem>
#include <set>

#include "core/error.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/precision.h"
#include "models/text/unicode.h"
#include "models/training/config.h"
#include "models/training/phases.h"
#include "models/training/run_setup.h"
#include "models/training/setting_faults.h"

namespace minibert {

int64_t accumulation_steps(const TrainConfig& config) {
  const int64_t micro = config.micro_batch_size, global = config.global_batch_size;
  const int64_t nearest = std::max<int64_t>(1, (global + micro / 2) / micro) * micro;
  MB_CHECK(global % micro == 0,
           "{}train.global_batch_size is {}, expected a multiple of train.micro_batch_size = {} (a "
           "step is a whole number of micro-batches). Use {} or another --micro-batch-size.",
           phase_prefix(config), global, micro,
           flag_text(config, "global_batch_size", std::to_string(nearest)));
  return global / micro;
}

namespace {

/// Whether metrics.jsonl, a log line and TensorBoard, whose tags are UTF-8, can hold it as it is.
bool is_usable_name(const std::string& name) {
  const auto is_foreign = [](unsigned char c) {
    return c < 0x20 || c == 0x7F || c == '"' || c == '\\';
  };
  return !name.empty() && std::ranges::none_of(name, is_foreign) && count_invalid_utf8(name) == 0;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> evaluation_sets(const TrainConfig& config) {
  std::vector<std::pair<std::string, std::string>> sets;
  std::set<std::string> names;
  for (const std::string& text : config.evaluation_data) {
    const size_t equals = text.find('=');
    std::string path = equals == std::string::npos ? text : text.substr(equals + 1);
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const std::string name = equals == std::string::npos
                                 ? std::filesystem::path(path).filename().string()
                                 : text.substr(0, equals);
    MB_CHECK(is_usable_name(name),
             "data.evaluation_data: {:?} gives the set no usable name (a text without quotes, "
             "backslashes and control characters). Name it: --evaluation-data NAME=PATH.",
             text);
    MB_CHECK(names.insert(name).second,
             "data.evaluation_data: the name \"{}\" is given twice. Name the sets: "
             "--evaluation-data NAME=PATH.",
             name);
    sets.emplace_back(name, path);
  }
  return sets;
}

bool scales_loss(const TrainConfig& config) {
  return config.loss_scaling == "on" ||
         (config.loss_scaling == "auto" && config.precision == "fp16");
}

namespace {

/// What device cuda alone has.
void check_device_cuda(const TrainConfig& config) {
  const Device device = parse_device(config.device);
  check_gemm_cuda_backend(parse_gemm_cuda_backend(config.gemm), device, "train.");
  if (!config.graph) return;
  MB_CHECK(device == Device::cuda,
           "train.graph is on, but train.device is {}, expected cuda: a graph is CUDA's. Leave "
           "--graph out, or use --device cuda.",
           config.device);
  MB_CHECK(config.fixed_shapes,
           "train.graph is on, but train.fixed_shapes is off, expected on: a graph repeats one "
           "shape. Add --fixed-shapes, or leave --graph out.");
}

void check_loss_scale(const TrainConfig& config) {
  const bool can_overflow = config.precision == "fp16" || config.precision == "bf16";
  MB_CHECK(config.loss_scaling != "on" || can_overflow,
           "scale.loss_scaling is on, but train.precision is {}, expected fp16 or bf16 (gradients "
           "in f32 need no scale). Leave --loss-scaling out, or use --precision fp16.",
           config.precision);
  if (!scales_loss(config)) {
    const TrainConfig defaults;
    for (const ConfigKey& key : config_keys()) {
      if (key.section != "scale" || key.key == "loss_scaling") continue;
      const bool changed =
          std::visit([&](auto member) { return config.*member != defaults.*member; }, key.member);
      MB_CHECK(!changed,
               "{} is set, but the loss is not scaled (train.precision {}, scale.loss_scaling {}). "
               "Leave {} out, or use --precision fp16.",
               key.name(), config.precision, config.loss_scaling, key.flag());
    }
  }
  MB_CHECK(config.loss_scale >= config.loss_scale_floor,
           "scale.loss_scale is {}, expected at least scale.loss_scale_floor = {}. Use a smaller "
           "--loss-scale-floor.",
           config.loss_scale, config.loss_scale_floor);
}

void check_optimizer(const TrainConfig& config) {
  const OptimizerOptions o = optimizer_options(config);
  policies_in_force(optimizer_variant(o.name), o.knobs, o.eps, o.max_grad_norm);
}

void check_reduce_precision(const TrainConfig& config) {
  MB_CHECK(!config.deterministic || config.reduce_precision == "fp32",
           "ranks.reduce_precision is {}, expected fp32 with train.deterministic (a sum of rounded "
           "parts depends on the number of ranks). Use one of both.",
           config.reduce_precision);
}

void check_run_of_phases(const TrainConfig& config, bool data_at_hand) {
  const std::vector<Phase> phases = phases_of(config);
  check_phases(phases, data_at_hand);
  MB_CHECK(config.stop_after <= total_steps(phases),
           "train.stop_after is {}, expected at most {} = {}", config.stop_after,
           config.phases.empty() ? "train.max_steps" : "the steps of all phases",
           total_steps(phases));
}

void collect_together(const TrainConfig& config, bool data_at_hand, SettingFaults& faults) {
  faults.collect([&] { check_device_cuda(config); });
  faults.collect([&] { check_loss_scale(config); });
  faults.collect([&] { check_optimizer(config); });
  faults.collect([&] { check_reduce_precision(config); });
  faults.collect([&] { check_run_of_phases(config, data_at_hand); });
}

}  // namespace

void validate(const TrainConfig& config) {
  SettingFaults faults;
  faults.collect(
      [&] { check_precision(parse_precision(config.precision), parse_device(config.device)); });
  collect_together(config, /* data_at_hand= */ true, faults);
  faults.collect([&] {
    MB_CHECK(
        !config.output_dir.empty(),
        "checkpoint.output_dir is empty, expected the run's folder. Give it with --output-dir.");
  });
  faults.check("settings");
}

void check_together(const TrainConfig& config, bool data_at_hand) {
  SettingFaults faults;
  collect_together(config, data_at_hand, faults);
  faults.check("settings");
}

}  // namespace minibert
