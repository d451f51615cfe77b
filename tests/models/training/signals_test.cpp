// signals_test.cpp: which signal asks for what, in this process and in one of its own.
#include "models/training/signals.h"

#include <csignal>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>
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
