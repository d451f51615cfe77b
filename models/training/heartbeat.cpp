// heartbeat.cpp: one fixed-size write a beat.
#include "models/training/heartbeat.h"

#include <chrono>
#include <ctime>
#include <fstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr size_t kLine = 80;  // bytes, so that a shorter line leaves nothing of a longer one

}  // namespace

Heartbeat::Heartbeat(const fs::path& file) {
  std::error_code ignored;
  fs::create_directories(file.parent_path(), ignored);
  file_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

Heartbeat::~Heartbeat() {
  if (file_ >= 0) ::close(file_);
}

void Heartbeat::beat(int64_t step, const char* doing) {
  if (file_ < 0) return;
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char when[32];
  std::strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
  std::string line = fmt::format("step {}, {}, {}", step, doing, when);
  line.resize(kLine - 1, ' ');
  line += '\n';
  [[maybe_unused]] const ssize_t written = ::pwrite(file_, line.data(), line.size(), 0);
}

fs::path Heartbeat::file_of(const fs::path& run, int rank) {
  return run / "logs" / fmt::format("rank-{}.heartbeat", rank);
}

std::string Heartbeat::last_of(const fs::path& run, int rank) {
  const fs::path path = file_of(run, rank);
  std::error_code error;
  const auto written = fs::last_write_time(path, error);
  std::string line;
  if (error || !std::getline(std::ifstream(path), line)) return "";
  const size_t end = line.rfind(',');  // the time follows, in the words of that machine's clock
  if (end == std::string::npos) return "";
  const auto age = std::chrono::duration<double>(fs::file_time_type::clock::now() - written);
  return fmt::format("rank {}: {}, {:.0f} s ago", rank, line.substr(0, end), age.count());
}

}  // namespace minibert
