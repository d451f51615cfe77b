// usage_error.h: the message of a UsageError, for tests of what users are told.
#pragma once

#include <functional>
#include <string>

#include "core/error.h"

namespace minibert::testing {

inline std::string usage_error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no UsageError";
}

}  // namespace minibert::testing
