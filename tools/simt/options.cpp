// options.cpp: reads the knobs of options.h from the environment. Test: ctest -R simt_engine_launch.
#include "tools/simt/options.h"

#include <cstdlib>
#include <string>

#include "tools/simt/report.h"

namespace simt {
namespace {

void read_number(const char* name, uint64_t& value) {
  const char* text = std::getenv(name);
  if (!text) return;
  char* end = nullptr;
  value = std::strtoull(text, &end, 10);
  if (end == text || *end)
    throw Error(std::string(name) + " is \"" + text + "\", expected a whole number");
}

}  // namespace

Options Options::from_environment() {
  Options options;
  read_number("SIMT_SEED", options.seed);
  read_number("SIMT_STEP_LIMIT", options.step_limit);
  uint64_t sm = options.compute_capability;
  read_number("SIMT_SM", sm);
  if (sm != 80 && sm != 90) throw Error("SIMT_SM is " + std::to_string(sm) + ", expected 80 or 90");
  options.compute_capability = static_cast<int>(sm);
  if (const char* text = std::getenv("SIMT_ASYNC")) {
    const std::string mode = text;
    if (mode != "late" && mode != "early" && mode != "random")
      throw Error("SIMT_ASYNC is \"" + mode + "\", expected late, early or random");
    options.async = mode == "late" ? Async::late : mode == "early" ? Async::early : Async::random;
  }
  return options;
}

Options& options() {
  static Options current = Options::from_environment();
  return current;
}

}  // namespace simt
