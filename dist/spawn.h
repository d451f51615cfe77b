// spawn.h: the ranks of a run on this machine: processes of one program, started and waited for.
// Called by tools/minibert for --nproc and --gpus. Ranks find each other by launch.h's variables; rank
// 0 gets its port already open, so that no other program can take it in between.
//
// SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP and SIGQUIT go on to every rank. Ranks are in process
// groups of their own: a Ctrl-C reaches them once, through here, and not also from the terminal.
//
// After a rank fails, the others run into the time-out of their collectives: they end by themselves and
// say whom they blame. Those that don't get SIGTERM, then SIGKILL. Easy to break: this process must
// have no other thread yet, since it could take the signals. Test: ctest -R dist_spawn.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace minibert {

/// SIGKILL to one rank or to all, for a test of what a run survives.
struct PlannedKill {
  double after = 0;              // seconds from the start
  std::optional<int> rank = {};  // nothing: all of them
};

struct SpawnOptions {
  int ranks = 1;
  std::vector<std::string> command = {};   // each rank's command line, the program's name first
  std::string program = "/proc/self/exe";  // what is run: this program
  double patience = 90;    // seconds from the first failure to SIGTERM: longer than a time-out
  double last_words = 10;  // seconds from SIGTERM to SIGKILL
  /// File to which the ranks' output is appended; empty: they print where this process does.
  std::string output = {};
  std::optional<PlannedKill> kill = {};
  std::function<void(const std::string&)> say = [](const std::string&) {};
};

/// Returns when all ranks have ended: 0 if all went well, else the code of the first that ended with
/// one of its own. Code 5 says only that another rank failed, so it is returned where no rank has
/// another one. A rank that a signal killed counts as 5, or as 128 + signal if we passed it on.
/// Errors: UsageError if the program can't be started.
int spawn_ranks(const SpawnOptions& options);

}  // namespace minibert
