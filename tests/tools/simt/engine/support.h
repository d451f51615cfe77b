// support.h: what the engine's tests share: the text of a report, and a launch under every schedule.
// Kernels of these tests stand in the tests themselves: each shows one rule or one fault.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "core/ptx.h"
#include "tools/simt/options.h"

/// The text contains the part; prints both if not.
#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

namespace minibert {

/// What the engine says of a faulty launch; empty if it finds no fault.
template <typename Launch>
std::string report_of(const Launch& launch) {
  try {
    launch();
  } catch (const simt::Error& error) {
    return error.what();
  }
  return "";
}

inline constexpr uint64_t kSeeds = 10;  // random orders that tests try

/// run(), in order and in ten random orders, with cp.async late and early.
template <typename Run>
void under_all_schedules(const Run& run) {
  for (uint64_t seed = 0; seed <= kSeeds; ++seed)
    for (const simt::Async async : {simt::Async::late, simt::Async::early, simt::Async::random}) {
      const simt::OptionsScope options({.seed = seed, .async = async});
      SCOPED_TRACE("seed " + std::to_string(seed) + ", async " +
                   std::to_string(static_cast<int>(async)));
      run();
    }
}

}  // namespace minibert
