// run_minibert.h: runs the binary as users do, for the tests of verbs. CTest says where it is
// (MINIBERT_BINARY).
#pragma once

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include <sys/wait.h>

namespace minibert::testing {

struct Outcome {
  std::string output;  // both streams
  int code = -1;       // exit code; 128 + signal if a signal ended it
};

/// arguments: as typed in a shell.
inline Outcome run_minibert(const std::string& arguments) {
  const char* binary = std::getenv("MINIBERT_BINARY");
  if (binary == nullptr) throw std::runtime_error("MINIBERT_BINARY is not set; run this by ctest");
  FILE* pipe = popen(("'" + std::string(binary) + "' " + arguments + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen failed");
  Outcome outcome;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) outcome.output.append(buffer, n);
  const int status = pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

}  // namespace minibert::testing
