// file_system.cpp: POSIX calls whose errors name the path.
#include "models/training/file_system.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void failed(const char* action, const fs::path& path, int error) {
  fail<CheckpointError>("{}: can't be {}: {}.{}", path.string(), action, std::strerror(error),
                        error == ENOSPC ? " Free some space on that disk." : "");
}

/// A descriptor that closes itself.
struct File {
  int descriptor;
  ~File() {
    if (descriptor >= 0) ::close(descriptor);
  }
};

}  // namespace

void FileSystem::make_folder(const fs::path& path) {
  if (::mkdir(path.c_str(), 0755) != 0) failed("created", path, errno);
}

void FileSystem::write_file(const fs::path& path,
                            const std::function<void(const fs::path&)>& write) {
  write(path);
}

void FileSystem::sync(const fs::path& path) {
  const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.descriptor < 0 || ::fsync(file.descriptor) != 0) failed("synced", path, errno);
}

void FileSystem::rename(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) failed("renamed", from, errno);
}

void FileSystem::exchange(const fs::path& a, const fs::path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) != 0)
    failed("swapped", b, errno);
}

void FileSystem::make_link(const fs::path& target, const fs::path& link) {
  if (::symlink(target.c_str(), link.c_str()) != 0) failed("linked", link, errno);
}

void FileSystem::remove(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) failed("removed", path, error.value());
}

void FileSystem::write_text(const fs::path& path, std::string_view text) {
  write_file(path, [text](const fs::path& target) { write_bytes(target, text); });
  sync(path);
}

void FileSystem::replace_text(const fs::path& path, std::string_view text) {
  const fs::path temporary = path.parent_path() / (".tmp-" + path.filename().string());
  write_text(temporary, text);
  rename(temporary, path);
  sync(path.parent_path());
}

FileSum write_bytes(const fs::path& path, std::string_view text) {
  const File file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
  if (file.descriptor < 0) failed("written", path, errno);
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(file.descriptor, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) failed("written", path, n < 0 ? errno : ENOSPC);
    done += static_cast<size_t>(n);
  }
  FileSum sum;
  sum.add(text.data(), text.size());
  return sum;
}

fs::path nearest_existing(const fs::path& path) {
  fs::path existing = fs::absolute(path);
  while (!fs::exists(existing) && existing.has_relative_path()) existing = existing.parent_path();
  return existing;
}

int64_t free_bytes(const fs::path& path) {
  std::error_code error;
  const fs::space_info space = fs::space(nearest_existing(path), error);
  MB_CHECK_AS(CheckpointError, !error, "{}: free space can't be read: {}", path.string(),
              error.message());
  return static_cast<int64_t>(space.available);
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  MB_CHECK_AS(CheckpointError, file.good() || file.eof(), "{}: can't be read: {}", path.string(),
              std::strerror(errno));
  return text.str();
}

}  // namespace minibert
