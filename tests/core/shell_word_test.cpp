// Tests of core/shell_word.h: what the shell makes of a word is the word.
#include "core/shell_word.h"

#include <cstdio>

#include <gtest/gtest.h>

namespace minibert {
namespace {

std::string as_the_shell_has_it(const std::string& text) {
  FILE* shell = popen(("printf %s " + shell_word(text)).c_str(), "r");
  std::string read;
  for (int c = fgetc(shell); c != EOF; c = fgetc(shell)) read += static_cast<char>(c);
  EXPECT_EQ(pclose(shell), 0);
  return read;
}

TEST(ShellWord, IsOneWordToTheShell) {
  for (const std::string text :
       {"plain.txt", "/data/part-0001.jsonl.gz", "two words", "it's", "'", "a  b\tc\n d", "$HOME",
        "`ls`", "*", "~", "a;b", "x\\y", "\"", "#a", "Größe", "!!", "<x>|&"})
    EXPECT_EQ(as_the_shell_has_it(text), text);
}

TEST(ShellWord, LeavesPlainNamesAlone) {
  EXPECT_EQ(shell_word("../data/novels_2.txt"), "../data/novels_2.txt");
  EXPECT_EQ(shell_word("two words"), "'two words'");
  EXPECT_EQ(shell_word(""), "''");
}

}  // namespace
}  // namespace minibert
