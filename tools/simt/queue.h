// queue.h: how work of the emulated device gets into its streams.
// The engine's launch() calls enqueue() with a kernel's name and a closure that runs its whole grid;
// the stand-in runtime (runtime/README.md) runs the closure at once, when something waits, or at
// random, or records it into a graph. Easy to break: a closure runs later than the call, maybe more
// than once (a replayed graph), and on whichever host thread waits; so it must own copies of its
// arguments and keep nothing in thread-local storage. Closures run one at a time, under the
// runtime's lock, with device memory accessible. Test: ctest -R simt_queue.
#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>

namespace simt {

/// What work throws to report a fault of the device, such as an address out of range. The device is
/// then dead: this and every later call of the runtime return `code`, a cudaError_t, until
/// cudaDeviceReset. Any other std::exception counts as cudaErrorLaunchFailure.
class DeviceFault : public std::runtime_error {
 public:
  explicit DeviceFault(const std::string& message, int code = 719)
      : std::runtime_error(message), code_(code) {}
  int code() const { return code_; }

 private:
  int code_;
};

/// How a kernel is launched: for the checks of a launch and for the log (control.h).
struct LaunchShape {
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  size_t shared_bytes = 0;         // dynamic shared memory of a block
  const void* function = nullptr;  // the kernel, as given to cudaFuncSetAttribute; null: unknown
};

/// Puts a kernel into a stream (a cudaStream_t; null is the legacy default stream). As with <<<>>>,
/// errors appear in cudaPeekAtLastError: an invalid stream or shape, an invalidated capture.
void enqueue(void* cuda_stream, std::string what, std::function<void()> work);
void enqueue(void* cuda_stream, std::string what, const LaunchShape& shape,
             std::function<void()> work);

/// Dynamic shared memory that a block of this kernel may have, in bytes: 48 KiB unless
/// cudaFuncSetAttribute raised it.
size_t dynamic_shared_limit(const void* function);

}  // namespace simt
