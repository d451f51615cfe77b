// signals_test.cpp: which signal asks for what, in this process and in one of its own.
#include "models/training/signals.h"

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace minibert {
namespace {

TEST(Signals, EachStopSignalAsksForAStopOnceItsScopeIsThere) {
  for (const auto& [number, name] :
       {std::pair{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}}) {
    SignalScope scope;
    EXPECT_FALSE(stop_requested());
    EXPECT_EQ(seconds_since_stop_request(), 0);
    std::raise(number);
    EXPECT_TRUE(stop_requested());
    EXPECT_STREQ(stop_signal_name(), name);
    EXPECT_GE(seconds_since_stop_request(), 0);
    EXPECT_LT(seconds_since_stop_request(), 60);
    EXPECT_FALSE(take_save_request());
  }
  EXPECT_FALSE(stop_requested()) << "a new scope starts afresh";
}

TEST(Signals, Usr2AsksForASaveOnceAndNotForAStop) {
  SignalScope scope;
  std::raise(SIGUSR2);
  EXPECT_FALSE(stop_requested());
  EXPECT_TRUE(take_save_request());
  EXPECT_FALSE(take_save_request());
}

TEST(Signals, FormerHandlersComeBack) {
  static volatile std::sig_atomic_t mine = 0;
  const auto former = std::signal(SIGTERM, [](int) { mine = 1; });
  { SignalScope scope; }
  std::raise(SIGTERM);
  EXPECT_EQ(mine, 1);
  std::signal(SIGTERM, former);
}

#ifdef __x86_64__
/// Sends this thread a signal while the 16 KB below the stack pointer hold a pattern, but for the 128
/// bytes that the ABI leaves to functions. Returns how many bytes have changed. Calls nothing
/// meanwhile, since a call would write there too.
__attribute__((noinline, no_sanitize("address", "undefined", "thread"))) int
changed_below_the_stack(int signal) {
  constexpr int64_t kFrom = 16 << 10, kTo = 128 + 64;  // bytes below the stack pointer
  const int64_t process = ::getpid(), thread = ::syscall(SYS_gettid);
  volatile char* stack = nullptr;
  asm volatile("mov %%rsp, %0" : "=r"(stack));
  for (int64_t i = kTo; i < kFrom; ++i) stack[-i] = 0x5a;
  int64_t result = SYS_tgkill;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(process), "S"(thread), "d"(int64_t{signal})
               : "rcx", "r11", "memory");
  int changed = static_cast<int>(result != 0);
  for (int64_t i = kTo; i < kFrom; ++i) changed += stack[-i] != 0x5a;
  return changed;
}

// oneDNN's products keep values below the stack pointer. A handler that wrote there led to a free of
// what was no memory of anybody's.
TEST(Signals, HandlersLeaveTheStackOfWhatTheyInterruptAlone) {
  SignalScope scope;
  EXPECT_EQ(changed_below_the_stack(SIGUSR2), 0);
  EXPECT_TRUE(take_save_request()) << "the handler did not run";
}
#endif

/// Exit status of a child that raises `first` and then `second`.
int status_after(int first, int second) {
  const pid_t child = ::fork();
  if (child == 0) {
    SignalScope scope;
    std::raise(first);
    std::raise(second);
    _exit(stop_requested() ? 7 : 8);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(Signals, SecondInterruptEndsTheProcessAtOnce) {
  EXPECT_EQ(status_after(SIGINT, SIGINT), 130);
  EXPECT_EQ(status_after(SIGTERM, SIGTERM), 7) << "only SIGINT insists";
  EXPECT_EQ(status_after(SIGINT, SIGUSR2), 7);
}

}  // namespace
}  // namespace minibert
