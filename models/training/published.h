// published.h: what the sources of the recipes report of their runs, beside which the plan of a recipe
// is printed. Called by run_plan.cpp. Easy to break: a figure without a source is none; what is known
// from memory alone is marked. Test: ctest -R training_run_plan.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace minibert {

/// A published run. 0 or "": not reported.
struct PublishedRun {
  const char* recipe;
  int64_t steps = 0;
  const char* batch = "";         // as printed there: "64k/32k"
  double learning_rate = 0;       // of the first phase
  double warmup = 0;              // share of the first phase
  bool rate_from_memory = false;  // the two above were not found in a source
  int devices = 0;
  const char* device = "";
  double hours = 0;
  const char* result = "";  // "SQuAD v1.1 F1 91.752"
  const char* source = "";
};

std::span<const PublishedRun> published_runs();
/// Nothing: nullptr.
const PublishedRun* published_run(std::string_view recipe);

}  // namespace minibert
