// simd.cpp: what this CPU can run.
#include "core/simd.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace minibert {
namespace {

SimdLevel best_level() {
  const char* text = std::getenv("MINIBERT_SIMD");
  const std::string wanted = text ? text : "";
  for (SimdLevel level : {SimdLevel::v4, SimdLevel::v3, SimdLevel::v2}) {
    if (simd_level_supported(level) && (wanted.empty() || wanted == name_of(level))) return level;
  }
  MB_CHECK(wanted.empty(),
           "MINIBERT_SIMD is \"{}\", expected v2, v3 or v4, as far as this CPU has them", wanted);
  fail<UsageError>("this CPU lacks SSE4.2 (x86-64-v2), which minibert needs");
}

std::atomic<int> g_level{-1};

}  // namespace

bool simd_level_supported(SimdLevel level) {
  switch (level) {
    case SimdLevel::v2:
      return __builtin_cpu_supports("x86-64-v2");
    case SimdLevel::v3:
      return __builtin_cpu_supports("x86-64-v3");
    case SimdLevel::v4:
      return __builtin_cpu_supports("x86-64-v4");
  }
  return false;
}

SimdLevel simd_level() {
  if (g_level < 0) g_level = static_cast<int>(best_level());
  return static_cast<SimdLevel>(g_level.load());
}

const char* name_of(SimdLevel level) {
  return level == SimdLevel::v4 ? "v4" : level == SimdLevel::v3 ? "v3" : "v2";
}

void set_simd_level(SimdLevel level) {
  MB_CHECK(simd_level_supported(level), "simd level {} is not supported by this CPU",
           name_of(level));
  g_level = static_cast<int>(level);
}

}  // namespace minibert
