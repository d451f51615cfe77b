// version.cpp: filled in by cmake/MinibertVersion.cmake, by compile definitions of this file alone.
#include "core/version.h"

#include <fmt/format.h>

namespace minibert {

std::string version() {
  return MINIBERT_VERSION;
}
std::string git_commit() {
  return MINIBERT_GIT_COMMIT;
}
std::string compiler() {
  return fmt::format("g++ {}, {}", __VERSION__, MINIBERT_BUILD_TYPE);
}
std::string libraries() {
  return MINIBERT_LIBRARIES;
}

}  // namespace minibert
