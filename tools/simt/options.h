// options.h: the engine's knobs. Each has an environment variable, read once at the first launch;
// tests set them in code with OptionsScope. A correct kernel gives the same bits for every seed and
// both settings of `async`: that is a test in itself. Test: ctest -R simt_engine_planted_bugs.
#pragma once

#include <cstdint>

namespace simt {

/// When the bytes of cp.async arrive: at the wait (finds a missing wait), at the issue (finds a
/// buffer overwritten while still read), or by chance for each copy (from the seed).
enum class Async : uint8_t { late, early, random };

struct Options {
  uint64_t seed = 0;               // SIMT_SEED: 0 runs threads in order, others in random orders
  Async async = Async::late;       // SIMT_ASYNC: late, early or random
  uint64_t step_limit = 1u << 28;  // SIMT_STEP_LIMIT: switches of threads within one block
  int compute_capability = 80;     // SIMT_SM: 80 or 90; decides how much memory a block may have

  /// Shared memory that a block may have in all, in bytes.
  int shared_limit() const { return compute_capability >= 90 ? 227 * 1024 : 163 * 1024; }
  /// The defaults, with what the environment sets. Throws Error for a value that it can't read.
  static Options from_environment();
};

/// Those of the next launches.
Options& options();

/// How many times threads have called cp.async since the process began: where this stays the same,
/// `async` makes no difference.
inline uint64_t async_copies = 0;

/// Sets them while it lives.
class OptionsScope {
 public:
  explicit OptionsScope(const Options& wanted) : before_(options()) { options() = wanted; }
  ~OptionsScope() { options() = before_; }
  OptionsScope(const OptionsScope&) = delete;
  OptionsScope& operator=(const OptionsScope&) = delete;

 private:
  Options before_;
};

}  // namespace simt
