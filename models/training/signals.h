// signals.h: what the outside asks of a running training: stop and save, or save and go on.
// The handlers set flags alone; trainer.cpp, evaluation.cpp and the wait for data look at them.
// SIGINT, SIGTERM, SIGUSR1: finish the step, save, exit 75. SIGUSR2: save and go on. A second
// SIGINT ends the process at once (exit 130). Easy to break: a handler may do nothing but set
// lock-free atomics. Test: ctest -R signals.
#pragma once

namespace minibert {

/// Installs the handlers while it lives, and the former ones again at its end. One at a time.
class SignalScope {
 public:
  SignalScope();
  ~SignalScope();
  SignalScope(const SignalScope&) = delete;
  SignalScope& operator=(const SignalScope&) = delete;
};

/// Whether a stop was asked for.
bool stop_requested();
/// Name of the signal that asked, "SIGTERM"; "" before.
const char* stop_signal_name();
/// Seconds since the stop was asked for; 0 before.
double seconds_since_stop_request();
/// Whether a save was asked for since the last call.
bool take_save_request();

}  // namespace minibert
