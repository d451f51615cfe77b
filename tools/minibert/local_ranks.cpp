// local_ranks.cpp: --nproc by dist/spawn.h.
#include "tools/minibert/local_ranks.h"

#include <cstdio>

#include "core/error.h"
#include "dist/spawn.h"
#include "tools/minibert/verbs.h"

namespace minibert {

/// The arguments of this process, as the system recorded them.
std::vector<std::string> own_arguments() {
  std::vector<std::string> arguments;
  std::FILE* file = std::fopen("/proc/self/cmdline", "rb");
  if (!file) return arguments;
  std::string argument;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    if (c != 0) {
      argument += static_cast<char>(c);
      continue;
    }
    arguments.push_back(argument);
    argument.clear();
  }
  std::fclose(file);
  return arguments;
}

void start_ranks(int ranks, const Launch& launch, const std::vector<std::string>& command,
                 double patience, const char* flag) {
  if (ranks == 0) return;
  MB_CHECK(launch.by.empty() || launch.world == ranks,
           "{} is {}, expected {}, the number of ranks that {} has started. Leave out {}.", flag,
           ranks, launch.world, launch.by, flag);
  if (!launch.by.empty() || ranks == 1) return;
  const auto say = [](const std::string& line) { std::fputs((line + "\n").c_str(), stderr); };
  const int code =
      spawn_ranks({.ranks = ranks, .command = command, .patience = patience, .say = say});
  throw CLI::RuntimeError(code);
}

}  // namespace minibert
