// doctor.h: what on this machine would slow a run down, stop it or lose it, and what to do about it.
// Called by `minibert doctor`. doctor.cpp has the table of checks; to add one: a function in
// doctor_host.cpp, doctor_folders.cpp, doctor_ranks.cpp or doctor_gpu.cpp, its line in
// doctor_checks.h and in the table, and its fault planted in the test. Easy to break: a fix is a
// command or an edit that works as written; a check that has no fix to offer must not warn.
// Test: ctest -R doctor.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/training/machine.h"

namespace minibert {

struct DoctorRequest {
  std::filesystem::path output_dir = ".";
  std::filesystem::path data = {};  // empty: not asked for
  int port = 0;                     // 0: MASTER_PORT, or the default
};

enum class Verdict { ok, warn, fail };
const char* name_of(Verdict verdict);

struct Finding {
  std::string check = {};
  Verdict verdict = Verdict::ok;
  std::string found = {}, fix = {};  // no fix where nothing is wrong, or where `found` has it
};

/// All checks in the table's order, without those that don't concern this machine. A check that throws
/// is a finding that failed. Writes and removes a few files in output_dir.
std::vector<Finding> examine(const Machine& machine, const DoctorRequest& request);

}  // namespace minibert
