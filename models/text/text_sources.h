// text_sources.h: the files that a command's arguments mean: files, folders, patterns, standard input.
// Called by the verbs that read a corpus. Easy to break: the order of files names documents and so all
// random draws; it is that of the arguments, and sorted by path within a folder or pattern.
// Test: ctest -R text_sources.
#pragma once

#include <string>
#include <vector>

namespace minibert {

/// "-" is standard input; a folder stands for its files, those of its folders included, hidden ones
/// left out; an argument that names no file and has *, ? or [ is a pattern, as a shell would expand
/// it.
/// Errors  DataError: a folder without files, a pattern without a match. A file that is missing is left
/// to its reader.
std::vector<std::string> expand_sources(const std::vector<std::string>& arguments);

}  // namespace minibert
