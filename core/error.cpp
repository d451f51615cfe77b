// error.cpp: the failing side of MB_ASSERT.
#include "core/error.h"

namespace minibert::detail {

void assertion_failed(const char* condition, const char* file, int line,
                      const std::string& message) {
  fail<InternalError>("{} [{} at {}:{}]. This is a bug in minibert: please report it.", message,
                      condition, file, line);
}

}  // namespace minibert::detail
