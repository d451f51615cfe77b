// signals.cpp: handlers that set flags.
#include "models/training/signals.h"

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>

#include <unistd.h>

#include "core/error.h"

namespace minibert {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
constexpr int kKilledByInterrupt = 130;  // 128 + SIGINT, as a shell reports it

std::atomic<int> stop_signal{0};
std::atomic<int64_t> stop_nanoseconds{0};
std::atomic<bool> save_wanted{false};
std::atomic<bool> installed{false};
struct sigaction former[4];
// Where the handlers run. Not on the stack of what they interrupt: oneDNN's products keep values below
// the stack pointer, beyond what the ABI saves from a handler, and a signal in one corrupted the heap.
alignas(64) std::byte handler_stack[64 << 10];
stack_t former_stack;

static_assert(std::atomic<int64_t>::is_always_lock_free);

int64_t now_nanoseconds() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

void handle(int signal) {
  if (signal == SIGUSR2) {
    save_wanted.store(true);
    return;
  }
  if (signal == SIGINT && stop_signal.load() == SIGINT) _exit(kKilledByInterrupt);
  if (stop_signal.load() == 0) stop_nanoseconds.store(now_nanoseconds());
  stop_signal.store(signal);
}

}  // namespace

SignalScope::SignalScope() {
  MB_ASSERT(!installed.exchange(true), "two signal scopes at the same time");
  stop_signal = 0, stop_nanoseconds = 0, save_wanted = false;
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof handler_stack;
  MB_ASSERT(sigaltstack(&stack, &former_stack) == 0, "no stack for signals");
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < 4; ++i) sigaction(kSignals[i], &action, &former[i]);
}

SignalScope::~SignalScope() {
  for (int i = 0; i < 4; ++i) sigaction(kSignals[i], &former[i], nullptr);
  sigaltstack(&former_stack, nullptr);
  stop_signal = 0, save_wanted = false;
  installed = false;
}

bool stop_requested() {
  return stop_signal.load() != 0;
}

const char* stop_signal_name() {
  switch (stop_signal.load()) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "";
  }
}

double seconds_since_stop_request() {
  if (!stop_requested()) return 0;
  return static_cast<double>(now_nanoseconds() - stop_nanoseconds.load()) * 1e-9;
}

bool take_save_request() {
  return save_wanted.exchange(false);
}

}  // namespace minibert
