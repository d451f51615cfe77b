// toml_fuzz.cpp: a run's configuration in TOML, and the description of a cluster. Readers:
// models/training/config.h, models/training/cluster.h.
#include "models/training/cluster.h"
#include "models/training/config.h"
#include "models/training/phases.h"
#include "models/training/recipes.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {

void fuzz(std::string_view input) {
  succeeds([&] {
    ConfigBuilder builder;
    builder.apply_toml(input, "run.toml");
    const std::string text = builder.to_toml();
    ConfigBuilder again;
    again.apply_toml(text, "again.toml");
    for (const ConfigKey& key : config_keys())
      claim(toml_text(key, again.config()) == toml_text(key, builder.config()),
            "settings come back from their text");
    check_together(builder.config());
    builder.finish();
    run_schedule(phases_of(builder.config()));
  });
  succeeds([&] { parse_cluster(input, "cluster.toml"); });
}

std::vector<std::string> seeds() {
  std::vector<std::string> seeds = {ConfigBuilder().to_toml(),
                                    "base = \"bert-base\"\n[train]\nmicro_batch_size = 8\n",
                                    "format_version = 1\n[data]\nevaluation_data = [\"a=b\", "
                                    "'c']\n[[phase]]\nname = \"x\"\nmax_steps = 3\n"
                                    "[[phase]]\nmax_steps = 4\nrestart_step_count = true\n"};
  for (const Recipe& recipe : recipes()) seeds.push_back(recipe.toml);
  for (const Recipe& cluster : clusters()) seeds.push_back(cluster.toml);
  return seeds;
}

}  // namespace minibert::fuzz
