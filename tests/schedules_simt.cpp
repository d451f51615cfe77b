// schedules_simt.cpp: schedules by the engine's options.
#include "tests/schedules.h"
#include "tools/simt/options.h"

namespace minibert::testing {
namespace {
// The sanitizers look at accesses, the same in nearly all orders, and take several times as long.
#if defined(__SANITIZE_ADDRESS__)
constexpr int kSeeds = 3;
#else
constexpr int kSeeds = 11;
#endif
}  // namespace

std::vector<Schedule> schedules() {
  std::vector<Schedule> all;
  for (int i = 0; i < 2 * kSeeds; ++i)
    all.push_back({i, "seed " + std::to_string(i / 2) +
                          (i % 2 == 0 ? ", cp.async late" : ", cp.async early")});
  return all;
}

bool use_schedule(const Schedule& schedule) {
  static uint64_t copies_before = 0;
  const bool late = schedule.number % 2 == 0;
  const bool repeats = !late && simt::async_copies == copies_before;
  copies_before = simt::async_copies;
  simt::Options& options = simt::options();
  options.seed = static_cast<uint64_t>(schedule.number / 2);
  options.async = late ? simt::Async::late : simt::Async::early;
  return !repeats;
}

}  // namespace minibert::testing
