// simd.h: chooses, once and at run time, the instruction set of the fast CPU code.
// A file named *_simd.cpp is compiled once per level (cmake/MinibertFloor.cmake) into
// minibert::simd_v2, simd_v3 and simd_v4 (x86-64-v2: SSE4, v3: AVX2+FMA, v4: AVX-512). Its
// functions are declared with MB_SIMD_DECLARE and called with MB_SIMD. Easy to break: such a file
// must include no inline code that other files use too (no std containers or algorithms): the
// linker keeps one copy, perhaps the AVX-512 one. Test: ctest -R core_simd.
#pragma once

namespace minibert {

enum class SimdLevel { v2, v3, v4 };

/// The best level of this CPU, or the one named by MINIBERT_SIMD=v2|v3|v4 where the CPU has it.
SimdLevel simd_level();
const char* name_of(SimdLevel level);
/// Forces a level, for tests. Errors: UsageError if this CPU lacks it.
void set_simd_level(SimdLevel level);
bool simd_level_supported(SimdLevel level);

}  // namespace minibert

/// Declares `return_type name(arguments)` in the three namespaces, inside namespace minibert:
///   MB_SIMD_DECLARE(void, gelu_f32, (const float* x, float* y, int64_t n));
#define MB_SIMD_DECLARE(return_type, name, arguments) \
  namespace simd_v2 {                                 \
  return_type name arguments;                         \
  }                                                   \
  namespace simd_v3 {                                 \
  return_type name arguments;                         \
  }                                                   \
  namespace simd_v4 {                                 \
  return_type name arguments;                         \
  }

/// The function pointer of the chosen level: MB_SIMD(gelu_f32)(x, y, n).
#define MB_SIMD(name)                                                                   \
  (::minibert::simd_level() == ::minibert::SimdLevel::v4   ? &::minibert::simd_v4::name \
   : ::minibert::simd_level() == ::minibert::SimdLevel::v3 ? &::minibert::simd_v3::name \
                                                           : &::minibert::simd_v2::name)
