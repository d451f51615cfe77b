// rank_program.cpp: one rank of a run of world_test.cpp or spawn_test.cpp, as a process: joins the
// others by its launcher's variables, then adds up numbers until something is wrong.
//   dist_rank_program gloo|ring STEPS TIMEOUT FAULT   TIMEOUT: seconds that a collective may stand still
// FAULT: none, or what happens in the middle, to rank R: kill@R, stop@R (frozen), sleep@R, throw@R; or
// signals: rank 0 sends SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 to its parent, every rank waits for them
// and ends with code 75.
// Prints "sum N" at the end; errors as `minibert` does.
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include <unistd.h>

#include "core/error.h"
#include "dist/world.h"

namespace {

using namespace minibert;

constexpr size_t kCount = 10000;
constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

void hold_back_signals(sigset_t& set) {
  sigemptyset(&set);
  for (const int signal : kSignals) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

[[noreturn]] void pass_signals(ProcessGroup& group, const sigset_t& set) {
  group.barrier().wait();
  if (group.rank() == 0)
    for (const int signal : kSignals) ::kill(::getppid(), signal);
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    int signal = 0;
    sigwait(&set, &signal);
  }
  ::_exit(75);
}

void end_by(const std::string& fault) {
  if (fault == "kill") ::kill(::getpid(), SIGKILL);
  if (fault == "stop") ::kill(::getpid(), SIGSTOP);
  if (fault == "sleep") ::sleep(1000);
  if (fault == "throw") fail<DataError>("shard 3 is damaged");
}

int run(const std::string& backend, int steps, double timeout, const std::string& fault) {
  sigset_t signals;
  if (fault == "signals") hold_back_signals(signals);
  World world(launch_here(), {.backend = backend, .timeout = timeout});
  ProcessGroup& group = world.group();
  const std::string here = fmt::format("@{}", group.rank());
  double sum = 0;
  for (int step = 0; step < steps; ++step) {
    if (step == steps / 2) {
      if (fault == "signals") pass_signals(group, signals);
      if (fault.ends_with(here)) end_by(fault.substr(0, fault.find('@')));
    }
    std::vector<float> values(kCount, static_cast<float>(group.rank() + step));
    group.all_reduce(Elements{std::span(values)}).wait();
    sum += values.back();
  }
  std::printf("sum %g\n", sum);
  return 0;
}

}  // namespace

int main(int count, char** words) try {
  if (count != 5) return 2;
  return run(words[1], std::stoi(words[2]), std::stod(words[3]), words[4]);
} catch (const minibert::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return error.exit_code();
}
