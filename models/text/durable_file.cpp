// durable_file.cpp: write, fsync, rename, fsync of the folder, in that order. See durable_file.h.
#include "models/text/durable_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include <fcntl.h>
#include <unistd.h>

#include "core/error.h"

namespace minibert {
namespace {

class OpenFile {
 public:
  OpenFile(const std::filesystem::path& path, int flags)
      : path_(path), file_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    check(file_ >= 0, "opened");
  }
  ~OpenFile() { ::close(file_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t wrote = ::write(file_, bytes.data(), bytes.size());
      if (wrote < 0 && errno == EINTR) continue;
      check(wrote > 0, "written");
      bytes.remove_prefix(static_cast<size_t>(wrote));
    }
  }
  void sync() { check(::fsync(file_) == 0, "synced to disk"); }

 private:
  void check(bool good, const char* what) const {
    MB_CHECK_AS(DataError, good, "{}: cannot be {} ({}). Check free space and permissions.",
                path_.string(), what, std::strerror(errno));
  }
  std::filesystem::path path_;
  int file_;
};

}  // namespace

void write_file_durably(const std::filesystem::path& path, std::string_view bytes) {
  const std::filesystem::path temporary = path.string() + ".tmp";
  {
    OpenFile file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    file.write(bytes);
    file.sync();
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  MB_CHECK_AS(DataError, !error, "{}: cannot be renamed to its final name ({}).",
              temporary.string(), error.message());
  sync_folder(path.parent_path());
}

void sync_folder(const std::filesystem::path& folder) {
  OpenFile(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY).sync();
}

std::string read_whole_file(const std::filesystem::path& path, const std::string& fix) {
  std::ifstream in(path, std::ios::binary);
  MB_CHECK_AS(DataError, in.good(), "{}: cannot be opened ({}). {}", path.string(),
              std::strerror(errno), fix);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  MB_CHECK_AS(DataError, !in.bad(), "{}: cannot be read ({}). {}", path.string(),
              std::strerror(errno), fix);
  return bytes;
}

}  // namespace minibert
