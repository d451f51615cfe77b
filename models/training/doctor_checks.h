// doctor_checks.h: the checks of doctor.cpp's table, and what they are written with. A check looks at
// one thing and says what it found, measured where it can be; nullopt if it doesn't concern this
// machine. Test: ctest -R training_doctor.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/training/doctor.h"

namespace minibert::doctor {

using Result = std::optional<Finding>;
using Check = Result (*)(const Machine&, const DoctorRequest&);

/// A finding, without its check's name, which examine() adds.
inline Finding ok(std::string found) {
  return {.found = std::move(found)};
}
inline Finding warn(std::string found, std::string fix) {
  return {.verdict = Verdict::warn, .found = std::move(found), .fix = std::move(fix)};
}
inline Finding fail(std::string found, std::string fix) {
  return {.verdict = Verdict::fail, .found = std::move(found), .fix = std::move(fix)};
}

/// Several things wrong within one check: the worst verdict, what was found, and all fixes.
class Faults {
 public:
  void add(Finding fault);
  /// ok(`found`) if nothing was added.
  Finding with(const std::string& found) const;

 private:
  Verdict worst_ = Verdict::ok;
  std::vector<std::string> found_, fixes_;
};

/// "1.5 GiB", "64.0 MiB"
std::string size_text(double bytes);
/// A number without sign, blanks or anything else; nullopt if it is not one, or above 2^31.
std::optional<int> whole_number(const std::string& text);

/// This process among those that a launcher started together.
struct Ranks {
  std::string launcher = {};  // "torchrun or a script", "Open MPI", "srun"; empty: none
  std::string rank_text = {}, world_text = {}, names = {};  // as set, and in which variables
  int rank = 0, world = 1;
  int local_world = 0;  // on this machine; 0: not known
};
/// Of the launcher nearest to this process: torchrun, then Open MPI, then srun.
Ranks ranks_of(const Machine& machine);

/// CPUs that this process may use, by affinity and quota, as available_cpus() has them.
int usable_cpus(const Machine& machine);
/// Threads that kernels would use; 0 if a variable is not a number.
int threads_wanted(const Machine& machine);

// doctor_host.cpp
Result build(const Machine&, const DoctorRequest&);
Result cpu(const Machine&, const DoctorRequest&);
Result cpus(const Machine&, const DoctorRequest&);
Result threads(const Machine&, const DoctorRequest&);
Result memory(const Machine&, const DoctorRequest&);
Result swap(const Machine&, const DoctorRequest&);
Result limits(const Machine&, const DoctorRequest&);
Result clock(const Machine&, const DoctorRequest&);
// doctor_folders.cpp
Result output_folder(const Machine&, const DoctorRequest&);
Result data_folder(const Machine&, const DoctorRequest&);
Result shared_memory(const Machine&, const DoctorRequest&);
// doctor_ranks.cpp
Result launcher(const Machine&, const DoctorRequest&);
Result port(const Machine&, const DoctorRequest&);
Result host(const Machine&, const DoctorRequest&);
Result master(const Machine&, const DoctorRequest&);
Result network(const Machine&, const DoctorRequest&);
// doctor_gpu.cpp
Result gpus(const Machine&, const DoctorRequest&);
Result gpu_links(const Machine&, const DoctorRequest&);
Result gpu_counters(const Machine&, const DoctorRequest&);

}  // namespace minibert::doctor
