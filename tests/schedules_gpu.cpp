// schedules_gpu.cpp: a GPU schedules by itself.
#include "tests/schedules.h"

namespace minibert::testing {

std::vector<Schedule> schedules() {
  return {{0, "first run"}, {1, "second run"}};
}

bool use_schedule(const Schedule&) {
  return true;
}

}  // namespace minibert::testing
