// shell_word.h: a word of a command that a message advises, quoted where the shell asks for it.
// Called by messages with file names in a command. Test: ctest -R core_shell_word.
#pragma once

#include <string>

namespace minibert {

/// `text` as a POSIX shell takes it for one word: as it is, or in single quotes.
std::string shell_word(const std::string& text);

}  // namespace minibert
