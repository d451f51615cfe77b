// env.cpp: `minibert env`: describes this build and this machine. Every figure is read or computed,
// none is typed in.
#include <memory>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/device.h"
#include "core/kernels/gemm.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "core/version.h"
#include "models/training/environment.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

nlohmann::ordered_json describe() {
  nlohmann::ordered_json facts;
  facts["version"] = version();
  facts["commit"] = git_commit();
  facts["compiler"] = compiler();
  facts["libraries"] = libraries();
  facts["cpu"] = cpu_name();
  facts["cpus"] = available_cpus();
  facts["threads"] = num_threads();
  facts["simd"] = name_of(simd_level());
  facts["simd_supported"] = supported_simd_levels();
  facts["gemm"] = gemm_implementation();
  facts["memory_gib"] = static_cast<double>(physical_memory()) / (1 << 30);
  facts["cuda"] = cuda_available() ? "yes" : "no: " + cuda_unavailable_reason();
  return facts;
}

}  // namespace

void add_env_verb(CLI::App& app) {
  auto* sub = app.add_subcommand("env", "describe this build and this machine");
  auto json = std::make_shared<bool>(false);
  sub->add_flag("--json", *json, "one JSON object");
  sub->callback([json] {
    const nlohmann::ordered_json facts = describe();
    if (*json) {
      fmt::print("{}\n", facts.dump());
      return;
    }
    for (const auto& [key, value] : facts.items()) {
      fmt::print("{:<15} {}\n", key,
                 value.is_string()         ? value.get<std::string>()
                 : value.is_number_float() ? fmt::format("{:.1f}", value.get<double>())
                                           : value.dump());
    }
  });
}

}  // namespace minibert
