// settings_fuzz.cpp: settings as flags, --phase and the environment give them. A line of an input
// is NAME=VALUE: a setting by its name ("train.seed=3"), a phase's ("1.data=DIR"), or a variable
// ("MINIBERT_SEED=3"). The first line is a recipe's name, or empty. Reader:
// models/training/config.h.
#include "models/training/config.h"
#include "models/training/phases.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {
namespace {

void apply(ConfigBuilder& builder, const std::string& line) {
  const size_t equals = line.find('=');
  if (equals == line.npos || line.rfind("MINIBERT_", 0) == 0) {
    const char* environment[] = {line.c_str(), nullptr};
    return builder.apply_environment(environment);
  }
  for (const ConfigKey& key : config_keys())
    if (key.name() == line.substr(0, equals))
      return builder.apply_text(key, line.substr(equals + 1), key.flag());
  builder.apply_phase_text(line, "--phase");
}

}  // namespace

void fuzz(std::string_view input) {
  ConfigBuilder builder;
  bool first = true;
  while (!input.empty()) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string line(input.substr(0, end).substr(0, input.substr(0, end).find('\0')));
    input.remove_prefix(std::min(end + 1, input.size()));
    if (first && !line.empty()) succeeds([&] { builder.apply_recipe(line); });
    if (!first) succeeds([&] { apply(builder, line); });
    first = false;
  }
  const bool whole = succeeds([&] {
    builder.finish();
    const std::vector<Phase> phases = phases_of(builder.config());
    run_schedule(phases);
    accumulation_steps(builder.config());
    evaluation_sets(builder.config());
  });
  succeeds([&] { check_together(builder.config(), /* data_at_hand= */ whole); });
}

std::vector<std::string> seeds() {
  return {"bert-large-lamb-64k\n2.data=runs/b\nseq128.max_steps=7\ntrain.seed=3\n",
          "\ntrain.micro_batch_size=8\noptim.batch_scaling=sqrt\nMINIBERT_MAX_STEPS=10\nMINIBERT_"
          "PHASE=1.data=x,2.data=y\n"
          "optim.trust_coefficient=auto\ndata.evaluation_data=a=b,c\n",
          "\noptim.warmup=0.1\noptim.learning_rate=1e-3\ntrain.graph=true\ntrain.device=cuda\n"};
}

}  // namespace minibert::fuzz
