// version.h: what this build is: version, commit, compiler, libraries. Printed by --version and
// env, kept in run.json.
#pragma once

#include <string>

namespace minibert {

/// "0.1.0"
std::string version();
/// Short git commit of the tree at configure time, with "+" where the tree had changes; "unknown"
/// outside a checkout.
std::string git_commit();
/// "g++ 12.2.0, Release"
std::string compiler();
/// "OpenMP 4.5, oneDNN 2.6.3, ..."
std::string libraries();

}  // namespace minibert
