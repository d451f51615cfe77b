// process.h: runs a program and catches what it prints. For tests of the binary and of peers.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace minibert::testing {

struct ProcessResult {
  int exit_code = -1;  // -1: ended by a signal
  std::string out, err;
};

/// One word of a shell command.
inline std::string shell_quoted(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

/// Runs words[0] with the other words as its arguments; `input` is its standard input.
inline ProcessResult run_process(const std::vector<std::string>& words,
                                 const std::string& input = {}) {
  static int number = 0;
  const auto folder = std::filesystem::temp_directory_path();
  const std::string stem =
      (folder / ("minibert_process_" + std::to_string(::getpid()) + "_" + std::to_string(number++)))
          .string();
  std::ofstream(stem + ".in", std::ios::binary) << input;
  std::string command;
  for (const std::string& word : words) command += shell_quoted(word) + " ";
  command += "<" + shell_quoted(stem + ".in") + " 2>" + shell_quoted(stem + ".err");
  ProcessResult result;
  FILE* pipe = ::popen(command.c_str(), "r");
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    result.out.append(buffer, n);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  std::ifstream err(stem + ".err", std::ios::binary);
  result.err.assign(std::istreambuf_iterator<char>(err), {});
  for (const char* suffix : {".in", ".err"}) std::filesystem::remove(stem + suffix);
  return result;
}

}  // namespace minibert::testing
