// run_folder.cpp: the lock, and run.json.
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
#include "core/parallel.h"
#include "models/text/json_depth.h"
#include "models/text/json_text.h"
#include "models/training/environment.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// Whether a launch that completed no step leaves such a file.
bool is_remains(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  if (name == "metrics.jsonl" || name == "trust_ratios.jsonl")
    return entry.is_regular_file() && entry.file_size() == 0;
  return name == ".lock" || name == "logs" || name == "config.resolved.toml" ||
         name == "run.json" || name.rfind(".tmp-", 0) == 0;
}

/// Errors: UsageError unless the folder is empty but for such files, or holds a run and
/// `may_exist`.
void check_contents(const fs::path& folder, bool may_exist) {
  bool is_run = false;
  std::string found;  // what makes it "not empty"
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "run.json" || name.rfind("checkpoint-", 0) == 0) is_run = true;
    if (!is_remains(entry)) found = name;
  }
  MB_CHECK(found.empty() || is_run,
           "{}: holds {}, expected a run to resume or an empty folder. Choose another "
           "--output-dir.",
           folder.string(), found);
  MB_CHECK(found.empty() || may_exist,
           "{}: holds {}, expected an empty folder. Resume the run in it with --resume auto, or "
           "choose another --output-dir.",
           folder.string(), found);
}

[[noreturn]] void fail_to_create(const fs::path& folder, const std::string& why) {
  fail<UsageError>("{}: the output folder can't be created: {}. Choose another --output-dir.",
                   folder.string(), why);
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string who_holds(const fs::path& lock) {
  std::ifstream file(lock);
  std::string line;
  return std::getline(file, line) && !line.empty() ? line : "another process";
}

/// Takes the folder's lock, which is held as long as the returned descriptor is open.
int open_lock(const fs::path& folder) {
  const fs::path path = folder / ".lock";
  const int lock = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  MB_CHECK(lock >= 0, "{}: can't be opened: {}. Check the permissions of the output folder.",
           path.string(), std::strerror(errno));
  if (::flock(lock, LOCK_EX | LOCK_NB) == 0) return lock;
  ::close(lock);
  fail<UsageError>(
      "{}: is in use by {}, expected no other run. Wait for it, stop it, or "
      "choose another --output-dir.",
      folder.string(), who_holds(path));
}

}  // namespace

RunFolder::RunFolder(const fs::path& path, bool may_exist, FileSystem& files)
    : path_(path), files_(files) {
  std::error_code error;
  fs::create_directories(path_, error);
  if (!fs::is_directory(path_))
    fail_to_create(path_, error ? error.message() : "a file has that name");
  const fs::path lock_path = path_ / ".lock";
  lock_ = open_lock(path_);
  try {
    check_contents(path_, may_exist);
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

void RunFolder::check(const fs::path& path, bool may_exist) {
  const fs::path existing = nearest_existing(path);
  if (!fs::is_directory(existing)) fail_to_create(path, existing.string() + " is a file");
  if (::access(existing.c_str(), W_OK) != 0) fail_to_create(path, std::strerror(errno));
  if (fs::exists(path / ".lock")) ::close(open_lock(path));
  if (fs::exists(path)) check_contents(path, may_exist);
}

RunFolder RunFolder::of_rank(int rank, const fs::path& path, FileSystem& files) {
  return RunFolder(rank, path, files);
}

RunFolder::RunFolder(int rank, const fs::path& path, FileSystem& files)
    : path_(path), files_(files), rank_(rank) {}

fs::path RunFolder::log() const {
  return path_ / "logs" / fmt::format("rank-{}.log", rank_);
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

void RunFolder::describe_launch(const RunEnvironment& now, const std::string& resolved_config,
                                const std::vector<std::string>& arguments, int64_t first_step,
                                const char* const* environment) {
  files_.replace_text(path_ / "config.resolved.toml", resolved_config);
  nlohmann::ordered_json run{{"format_version", kRunFormatVersion},
                             {"launches", nlohmann::ordered_json::array()}};
  if (fs::exists(path_ / "run.json")) {
    auto before = parse_json<nlohmann::ordered_json>(read_text(path_ / "run.json"));
    if (before.is_object() && before.contains("launches") && before["launches"].is_array())
      run["launches"] = before["launches"];
  }
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  for (const char* const* entry = environment; entry && *entry; ++entry) {
    const std::string text(*entry);
    const size_t equals = text.find('=');
    if (text.rfind("MINIBERT_SECRET=", 0) == 0) continue;  // of the ranks' rendezvous
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
  files_.replace_text(path_ / "run.json", json_text(run, 1) + "\n");
}

}  // namespace minibert
