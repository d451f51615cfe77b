// run_folder.cpp: lock, run.json, and what the machine is.
#include "models/training/run_folder.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"
#include "core/kernels/gemm.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "core/version.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// Entries that count as "not empty".
std::vector<std::string> entries_of(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().filename() != ".lock") names.push_back(entry.path().filename().string());
  return names;
}

bool holds_a_run(const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (name == "run.json" || name.rfind("checkpoint-", 0) == 0) return true;
  return false;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string host_name() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

std::string who_holds(const fs::path& lock) {
  std::ifstream file(lock);
  std::string line;
  return std::getline(file, line) && !line.empty() ? line : "another process";
}

int64_t read_number(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : 0;
}

}  // namespace

RunFolder::RunFolder(const fs::path& path, bool may_exist, FileSystem& files)
    : path_(path), files_(files) {
  std::error_code error;
  fs::create_directories(path_, error);
  MB_CHECK(fs::is_directory(path_),
           "{}: the output folder can't be made: {}. Choose another "
           "--output-dir.",
           path_.string(), error ? error.message() : "a file has that name");
  const fs::path lock_path = path_ / ".lock";
  lock_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  MB_CHECK(lock_ >= 0, "{}: can't be opened: {}. Check the output folder's rights.",
           lock_path.string(), std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    fail<UsageError>(
        "{}: is in use by {}, expected no other run in there. Wait for it, stop it, or "
        "choose another --output-dir.",
        path_.string(), who_holds(lock_path));
  }
  try {
    const std::vector<std::string> names = entries_of(path_);
    MB_CHECK(may_exist || names.empty(),
             "{}: has {} in it, expected an empty folder. Go on with that run by --resume auto, or "
             "choose another --output-dir.",
             path_.string(), names.front());
    MB_CHECK(names.empty() || holds_a_run(names),
             "{}: has {} in it, expected a run to go on with, or an empty folder. Choose another "
             "--output-dir.",
             path_.string(), names.front());
    const std::string owner = fmt::format("process {} on {}\n", ::getpid(), host_name());
    const bool written =
        ::ftruncate(lock_, 0) == 0 &&
        ::pwrite(lock_, owner.data(), owner.size(), 0) == static_cast<ssize_t>(owner.size());
    MB_CHECK_AS(CheckpointError, written, "{}: can't be written: {}", lock_path.string(),
                std::strerror(errno));
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

void RunFolder::describe_launch(const std::string& resolved_config,
                                const std::vector<std::string>& arguments, int64_t first_step,
                                const char* const* environment) {
  fs::create_directories(path_ / "logs");
  files_.replace_text(path_ / "config.resolved.toml", resolved_config);
  nlohmann::ordered_json run{{"format_version", kRunFormatVersion},
                             {"launches", nlohmann::ordered_json::array()}};
  if (fs::exists(path_ / "run.json")) {
    auto before = nlohmann::ordered_json::parse(read_text(path_ / "run.json"), nullptr, false);
    if (before.is_object() && before.contains("launches") && before["launches"].is_array())
      run["launches"] = before["launches"];
  }
  const RunEnvironment now = current_environment();
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  for (const char* const* entry = environment; entry && *entry; ++entry) {
    const std::string text(*entry);
    const size_t equals = text.find('=');
    if (text.rfind("MINIBERT_", 0) == 0 && equals != std::string::npos)
      variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  run["launches"].push_back({{"started", utc_now()},
                             {"first_step", first_step},
                             {"arguments", arguments},
                             {"version", now.version},
                             {"git_commit", now.commit},
                             {"compiler", now.compiler},
                             {"libraries", now.libraries},
                             {"host", host_name()},
                             {"process", ::getpid()},
                             {"cpu", cpu_name()},
                             {"cpus", available_cpus()},
                             {"threads", now.threads},
                             {"instruction_set", now.simd},
                             {"gemm", now.gemm},
                             {"memory_bytes", memory_limit()},
                             {"environment", variables}});
  using Handler = nlohmann::ordered_json::error_handler_t;  // arguments may be no UTF-8
  files_.replace_text(path_ / "run.json", run.dump(1, ' ', false, Handler::replace) + "\n");
}

RunEnvironment current_environment() {
  return {version(),    git_commit(),          compiler(),
          libraries(),  name_of(simd_level()), gemm_implementation(),
          num_threads()};
}

std::string differences(const RunEnvironment& before, const RunEnvironment& now) {
  std::string text;
  const auto add = [&text](const char* what, const auto& a, const auto& b) {
    if (a != b) text += fmt::format("{}{} {} -> {}", text.empty() ? "" : ", ", what, a, b);
  };
  add("version", before.version, now.version);
  add("commit", before.commit, now.commit);
  add("compiler", before.compiler, now.compiler);
  add("libraries", before.libraries, now.libraries);
  add("instruction set", before.simd, now.simd);
  add("GEMM", before.gemm, now.gemm);
  add("threads", before.threads, now.threads);
  return text;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return "unknown";
}

int64_t memory_limit() {
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  int64_t limit = physical;
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const int64_t value = read_number(path);
    if (value > 0 && value < limit) limit = value;
  }
  return limit;
}

}  // namespace minibert
