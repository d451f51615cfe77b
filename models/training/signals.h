// signals.h: what signals ask of a running training: stop and save, or save and continue.
// The handlers only set flags; trainer.cpp, evaluation.cpp and the wait for data read them.
// SIGINT, SIGTERM, SIGUSR1: finish the step, save, exit 75. SIGUSR2: save and continue. A second
// SIGINT ends the process at once (exit 130). Easy to break: a handler may do nothing but set
// lock-free atomics, and runs on a stack of its own in the thread that made the scope; kernels' other
// threads block signals (core/parallel.cpp). Test: ctest -R signals.
#pragma once

namespace minibert {

/// Installs the handlers while it lives and restores the former ones at its end. One at a time.
class SignalScope {
 public:
  SignalScope();
  ~SignalScope();
  SignalScope(const SignalScope&) = delete;
  SignalScope& operator=(const SignalScope&) = delete;
};

/// Whether a stop was requested.
bool stop_requested();
/// Name of the signal that requested it, "SIGTERM"; "" if there was none.
const char* stop_signal_name();
/// Seconds since the stop was requested; 0 if there was no request.
double seconds_since_stop_request();
/// Whether a save was requested since the last call.
bool take_save_request();

}  // namespace minibert
