// report.h: what the engine says when a kernel does something wrong: an exception with the kernel,
// its shape, the block, the threads concerned and the source lines. Thrown on the thread's own
// stack by whatever found the fault, caught at its bottom, and thrown again in the host code that
// ran the launch. Easy to break: text is only made once something is wrong; on the way there a Place
// is two words. Test: ctest -R simt_engine_planted_bugs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

// A namespace of its own: a function of core/ptx.h that passes a Place on must not find the engine's
// function of the same name through it.
namespace simt_place {

/// A line of a kernel. Made at each call by a default argument, so it costs nothing to keep.
struct Place {
  const char* file = "";
  int line = 0;
};

}  // namespace simt_place

namespace simt {

using simt_place::Place;

inline bool same(Place a, Place b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}
/// "core/kernels/cast.cu:57".
std::string to_string(Place place);

/// A fault of a kernel, or of a launch, found by the engine.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws Error: the text, then where: kernel, launch, block and thread now running.
[[noreturn, gnu::cold]] void fail(const std::string& text);

/// A thread is about to move so many bytes by one instruction.
inline void check_aligned(const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) [[unlikely]]
    fail("misaligned: " + std::to_string(bytes) +
         " bytes are moved together, but their address is no multiple of that");
}

/// "0..15, 17" of the set bits; bit i of word w is number 32 w + i.
std::string ranges(const uint32_t* words, int count);

}  // namespace simt
