// text_fixture.h: a small vocabulary and helpers for tests that start from text.
// Used by examples_test.cpp and build_fixture.h.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/models/text/shard_fixture.h"

namespace minibert::testing {

/// Special tokens, the printable ASCII characters alone and as "##" pieces, and some common words:
/// any ASCII text is cut into it without [UNK].
inline std::string small_vocabulary() {
  std::string text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (char c = '!'; c <= '~'; ++c) {
    if (c >= 'A' && c <= 'Z') continue;
    text += std::string(1, c) + "\n##" + std::string(1, c) + "\n";
  }
  for (const char* word :
       {"the", "to",    "and",  "of",   "in",   "was",       "her",  "it",  "not",  "she",
        "be",  "that",  "had",  "as",   "you",  "for",       "is",   "but", "with", "have",
        "at",  "##ing", "##ed", "##er", "##ly", "catherine", "miss", "mrs", "he"}) {
    text += std::string(word) + "\n";
  }
  return text;
}

inline std::filesystem::path source_folder() {
  const char* folder = std::getenv("MINIBERT_SOURCE_DIR");
  return folder ? folder : ".";
}

struct CommandResult {
  int status = -1;
  std::string output;  // standard output and error together
};

/// Runs a shell command. Its exit status is -1 where it was ended by a signal.
inline CommandResult run_command(const std::string& command) {
  CommandResult result;
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  char buffer[4096];
  for (size_t got; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    result.output.append(buffer, got);
  const int status = pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

}  // namespace minibert::testing
