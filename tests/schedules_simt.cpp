// schedules_simt.cpp: schedules by the engine's options.
#include "tests/schedules.h"
#include "tools/simt/options.h"

namespace minibert::testing {
namespace {
constexpr int kSeeds = 11;
}

std::vector<Schedule> schedules() {
  std::vector<Schedule> all;
  for (int i = 0; i < 2 * kSeeds; ++i)
    all.push_back({i, "seed " + std::to_string(i / 2) +
                          (i % 2 == 0 ? ", cp.async late" : ", cp.async early")});
  return all;
}

void use_schedule(const Schedule& schedule) {
  simt::Options& options = simt::options();
  options.seed = static_cast<uint64_t>(schedule.number / 2);
  options.async = schedule.number % 2 == 0 ? simt::Async::late : simt::Async::early;
}

}  // namespace minibert::testing
