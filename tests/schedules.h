// schedules.h: the orders in which the engine of tools/simt may run a kernel's threads: seeds 0 to 10,
// with the bytes of asynchronous copies arriving late and early; under AddressSanitizer seeds 0 to 2.
// On a GPU there is one, its own.
// A correct kernel computes the same bits in all. schedules_simt.cpp, schedules_gpu.cpp.
#pragma once

#include <string>
#include <vector>

namespace minibert::testing {

struct Schedule {
  int number;        // 0: threads in order, copies late
  std::string name;  // "seed 3, cp.async early"
};
std::vector<Schedule> schedules();
/// For the launches to come. In the order of schedules(): false if what ran since the last call has
/// made no asynchronous copy, and this schedule differs in their arrival alone, so that to run it
/// again would be to repeat it.
bool use_schedule(const Schedule& schedule);

}  // namespace minibert::testing
