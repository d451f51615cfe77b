// gradcheck.cpp: `minibert gradcheck`: compares every gradient of the named ops, in any precision,
// with central differences of their formulas in double, on the samples of their OpInfo. Exit code 4
// if one fails.
// Test: ctest -R tools_gradcheck.
#include "autograd/gradcheck.h"

#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/minibert/compute_flags.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

struct Options {
  std::vector<std::string> ops;
  bool all = false, json = false;
  uint64_t seed = 1;
  ComputeFlags compute;
};

struct Row {
  const OpInfo& op;
  const OpSample& sample;
  const GradcheckResult& result;
  const std::string& precision;
  const std::string& input() const { return op.inputs[static_cast<size_t>(result.input)].name; }
};

void print_json(const Row& row) {
  const nlohmann::ordered_json line = {
      {"op", row.op.name},
      {"sample", row.sample.sizes},
      {"precision", row.precision},
      {"input", row.input()},
      {"elements", row.result.elements},
      {"max_error", row.result.error},
      {"tolerance", row.result.tolerance},
      {"passed", row.result.passed()},
      {"fault", row.result.fault},
  };
  fmt::print("{}\n", line.dump());
}

constexpr const char* kColumns = "{:<15} {:<42} {:<9} {:>10} {:>10}  {}\n";

void print_text(const Row& row) {
  fmt::print(kColumns, row.op.name, row.sample.sizes, row.input(),
             fmt::format("{:.1e}", row.result.error), fmt::format("{:.0e}", row.result.tolerance),
             row.result.passed() ? "pass" : "FAIL");
  if (!row.result.passed()) fmt::print("    {}\n", row.result.str());
}

std::vector<const OpInfo*> chosen_ops(const Options& options) {
  std::vector<const OpInfo*> chosen;
  for (const std::string& name : options.ops) chosen.push_back(&find_op(name));
  if (chosen.empty() || options.all) {
    chosen.clear();
    for (const OpInfo& op : all_ops()) chosen.push_back(&op);
  }
  return chosen;
}

void run(const Options& options) {
  const auto chosen = chosen_ops(options);  // unknown names are refused before any work
  const DType dtype = options.compute.options().dtype;
  if (!options.json) fmt::print(kColumns, "op", "sample", "input", "max error", "tolerance", "");
  int64_t checks = 0, failures = 0;
  for (const OpInfo* op : chosen) {
    for (const OpSample& sample : op->samples(options.seed, dtype, Device::cpu)) {
      for (const GradcheckResult& result : gradcheck(*op, sample, {options.seed})) {
        const Row row{*op, sample, result, options.compute.precision};
        options.json ? print_json(row) : print_text(row);
        ++checks;
        failures += !result.passed();
      }
    }
  }
  if (!options.json)
    fmt::print("{} gradients of {} ops, {} wrong\n", checks, chosen.size(), failures);
  std::fflush(stdout);
  if (failures > 0)
    fail<NumericError>(
        "gradcheck: {} of {} gradients are wrong, expected none. Look at the lines "
        "with FAIL (seed {})",
        failures, checks, options.seed);
}

}  // namespace

void add_gradcheck_verb(CLI::App& app) {
  auto* sub = app.add_subcommand("gradcheck", "check gradients of ops against central differences");
  auto options = std::make_shared<Options>();
  sub->add_option("OP", options->ops, "ops to check, as in autograd/ops.h (default: all)");
  sub->add_flag("--all", options->all, "every op");
  sub->add_flag("--json", options->json,
                "one JSON object per line: op, sample, input, max_error, ...");
  sub->add_option("--seed", options->seed, "seed of the random inputs")->capture_default_str();
  options->compute.add_precision_to(*sub);
  sub->callback([options] { run(*options); });
}

}  // namespace minibert
