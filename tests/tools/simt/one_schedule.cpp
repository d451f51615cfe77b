// one_schedule.cpp: in place of tests/schedules_simt.cpp, the one schedule that the environment names
// (SIMT_SEED, SIMT_ASYNC). For tests under sanitizers, and for planted_in_kernels_test.py.
#include "tests/schedules.h"

namespace minibert::testing {

std::vector<Schedule> schedules() {
  return {{0, "the environment's"}};
}

bool use_schedule(const Schedule&) {
  return true;
}

}  // namespace minibert::testing
