// text_sources.cpp: see text_sources.h.
#include "models/text/text_sources.h"

#include <algorithm>
#include <filesystem>

#include <glob.h>

#include "core/error.h"
#include "models/text/data_faults.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

bool hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error), end;
  for (; !error && at != end; at.increment(error)) {
    if (hidden(at->path())) {
      at.disable_recursion_pending();
    } else if (at->is_regular_file(error)) {
      files.push_back(at->path().string());
    }
  }
  MB_CHECK_AS(DataError, !error, "{}: cannot be read ({}). Check the folder and its permissions.",
              folder, error.message());
  MB_CHECK_AS(DataError, !files.empty(),
              "{}: is a folder without files, expected text. Check the path.", folder);
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_BRACE, nullptr, &found);
  std::vector<std::string> matches(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  MB_CHECK_AS(DataError, status == 0 && !matches.empty(),
              "{}: no file matches this pattern. Check it; a folder may be given as it is.",
              pattern);
  std::sort(matches.begin(), matches.end());
  return matches;
}

/// All that are missing in one message, before the first is read.
void check_all_are_there(const std::vector<std::string>& files) {
  std::vector<std::string> missing;
  for (const std::string& file : files) {
    std::error_code error;
    if (file != "-" && !fs::exists(file, error) && !error) missing.push_back(file);
  }
  MB_CHECK_AS(
      DataError, missing.empty(), "{}: no such file. Check the path{}", first_of(missing, 10),
      !missing.empty() && missing.front().starts_with("~/")
          ? ": the shell puts the home folder for ~ only where a word begins with it. Write $HOME"
          : "");
}

}  // namespace

std::vector<std::string> expand_sources(const std::vector<std::string>& arguments) {
  std::vector<std::string> files;
  const auto add = [&](const std::string& path) {
    std::error_code ignored;
    if (path != "-" && fs::is_directory(path, ignored)) {
      const std::vector<std::string> inside = files_in(path);
      files.insert(files.end(), inside.begin(), inside.end());
    } else {
      files.push_back(path);
    }
  };
  for (const std::string& argument : arguments) {
    std::error_code ignored;
    const bool pattern =
        argument.find_first_of("*?[") != std::string::npos && !fs::exists(argument, ignored);
    if (!pattern) {
      add(argument);
      continue;
    }
    for (const std::string& match : matches_of(argument)) add(match);
  }
  check_all_are_there(files);
  return files;
}

}  // namespace minibert
