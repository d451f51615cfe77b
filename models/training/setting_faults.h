// setting_faults.h: all faults of a set of settings in one message. Called by config.cpp, and by the
// verbs that read flags. Easy to break: a single fault keeps its own words.
// Test: ctest -R models_training_config_test.
#pragma once

#include <string>

#include "core/error.h"
#include "models/text/data_faults.h"

namespace minibert {

class SettingFaults {
 public:
  /// Remembers what `check` complains about; what comes after it is still looked at.
  template <typename Check>
  void collect(const Check& check) {
    try {
      check();
    } catch (const UsageError& error) {
      if (faults_.count() == 0) first_ = error.what();
      faults_.add(error.what());
    }
  }
  /// Errors: UsageError with the only fault, or with their number and the first ten.
  void check(const std::string& where) const {
    if (faults_.count() == 0) return;
    fail<UsageError>("{}", faults_.count() == 1
                               ? first_
                               : faults_.text(where, "settings are wrong", "Mend each of them:"));
  }

 private:
  DataFaults faults_;
  std::string first_;
};

}  // namespace minibert
