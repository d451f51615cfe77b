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

#if defined(__clang__) && __clang_major__ < 18
// These know no level by its name. CPUs with the features below have the rest of their level, too.
bool has_v2() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
}
bool has_v3() {
  return has_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#else
bool has_v2() {
  return __builtin_cpu_supports("x86-64-v2");
}
bool has_v3() {
  return __builtin_cpu_supports("x86-64-v3");
}
bool has_v4() {
  return __builtin_cpu_supports("x86-64-v4");
}
#endif

}  // namespace

bool simd_level_supported(SimdLevel level) {
  switch (level) {
    case SimdLevel::v2:
      return has_v2();
    case SimdLevel::v3:
      return has_v3();
    case SimdLevel::v4:
      return has_v4();
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
