// error.h: the one error type, with a category that is the process's exit code.
// Called by everything. Libraries throw; only tools/minibert/main.cpp prints and exits.
// Form of a message: `<op or file>: <thing> is <found>, expected <wanted> (<why>). <fix>`.
// Easy to break: destructors never throw, and MB_CHECK is for users' faults, MB_ASSERT for our own.
// Test: ctest -R core_error.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#ifdef __NVCC__
#define FMT_USE_CONSTEXPR 1  // else fmt 9 declares half of its functions so, and g++ refuses
#endif
#include <fmt/format.h>

namespace minibert {

/// What went wrong, by who can fix it. The value is the exit code of the process (for users:
/// docs/exit_codes.md); 0 is success and 75 "saved after a signal, please requeue".
enum class ErrorCategory : int {
  internal = 1,
  usage = 2,
  data = 3,
  numeric = 4,
  communication = 5,
  out_of_memory = 6,
  checkpoint = 7,
};

/// Base of every error that minibert throws.
class Error : public std::runtime_error {
 public:
  Error(ErrorCategory category, const std::string& message)
      : std::runtime_error(message), category_(category) {}
  ErrorCategory category() const { return category_; }
  int exit_code() const { return static_cast<int>(category_); }

 private:
  ErrorCategory category_;
};

template <ErrorCategory C>
class ErrorOf : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(C, message) {}
};

using InternalError = ErrorOf<ErrorCategory::internal>;   // a bug of ours
using UsageError = ErrorOf<ErrorCategory::usage>;         // flags, configuration, shapes
using DataError = ErrorOf<ErrorCategory::data>;           // text, vocabularies, shards, model files
using NumericError = ErrorOf<ErrorCategory::numeric>;     // NaN, infinity
using CommError = ErrorOf<ErrorCategory::communication>;  // another rank is lost, or silent
using OutOfMemory = ErrorOf<ErrorCategory::out_of_memory>;   // device or host memory
using CheckpointError = ErrorOf<ErrorCategory::checkpoint>;  // reading and writing checkpoints

/// Throws E with a formatted message: fail<DataError>("{}: line {} is empty", path, line).
template <typename E, typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw E(fmt::format(format, std::forward<Args>(args)...));
}

namespace detail {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line,
                                   const std::string& message);
}  // namespace detail

}  // namespace minibert

/// User fault: MB_CHECK(rank == 2, "gemm: a has rank {}, expected 2", rank) throws UsageError.
#define MB_CHECK(condition, ...) MB_CHECK_AS(::minibert::UsageError, condition, __VA_ARGS__)

/// User fault of another category: MB_CHECK_AS(DataError, file, "{}: cannot be opened", path).
#define MB_CHECK_AS(ErrorType, condition, ...)  \
  do {                                          \
    if (!(condition)) [[unlikely]]              \
      ::minibert::fail<ErrorType>(__VA_ARGS__); \
  } while (false)

/// Our own fault: stays on in release builds and asks the user to report it.
#define MB_ASSERT(condition, ...)                                          \
  do {                                                                     \
    if (!(condition)) [[unlikely]]                                         \
      ::minibert::detail::assertion_failed(#condition, __FILE__, __LINE__, \
                                           ::fmt::format(__VA_ARGS__));    \
  } while (false)
