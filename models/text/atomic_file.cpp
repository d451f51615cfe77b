// atomic_file.cpp: write to a temporary name, sync, rename, sync the folder. See atomic_file.h.
#include "models/text/atomic_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include <fcntl.h>
#include <unistd.h>

#include "core/error.h"

namespace minibert {
namespace {

/// A file under a temporary name until it is renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& target)
      : target_(follow_links(target)),
        path_(target_.string() + ".tmp." + std::to_string(::getpid())) {
    check_replaceable();
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) give_up("created");
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!renamed_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::string_view contents) {
    while (!contents.empty()) {
      const ssize_t written = ::write(descriptor_, contents.data(), contents.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) give_up("written");
      contents.remove_prefix(static_cast<size_t>(written));
    }
    if (::fsync(descriptor_) != 0) give_up("synced");
  }

  std::filesystem::path folder() const { return target_.parent_path(); }

  void rename_over_target() {
    if (::rename(path_.c_str(), target_.c_str()) != 0) give_up("renamed");
    renamed_ = true;
  }

 private:
  void check_replaceable() const {
    std::error_code ignored;
    const auto type = std::filesystem::symlink_status(target_, ignored).type();
    using std::filesystem::file_type;
    const bool fits =  // none: the type is unknown, and open() will report why
        type == file_type::regular || type == file_type::not_found || type == file_type::none;
    MB_CHECK_AS(DataError, fits,
                "{}: is a folder, a device, a pipe or a circle of links, expected a file or "
                "nothing. Choose another name.",
                target_.string());
  }

  [[noreturn]] void give_up(const char* step) const {
    fail<DataError>(
        "{}: file can't be {} ({}). Check that the folder exists and is writable, and the free "
        "space.",
        target_.string(), step, std::strerror(errno));
  }

  std::filesystem::path target_, path_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

}  // namespace

std::filesystem::path follow_links(std::filesystem::path path) {
  constexpr int kMostLinks = 40;  // the limit of Linux
  std::error_code ignored;
  for (int i = 0; i < kMostLinks && std::filesystem::is_symlink(path, ignored); ++i)
    path = path.parent_path() / std::filesystem::read_symlink(path, ignored);
  return path;
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor =
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // some file systems do not open folders; the file itself is synced
  ::fsync(descriptor);
  ::close(descriptor);
}

std::string read_whole_file(const std::filesystem::path& file, const std::string& fix) {
  std::ifstream in(file, std::ios::binary);
  MB_CHECK_AS(DataError, in.good() && !std::filesystem::is_directory(file),
              "{}: file can't be opened ({}). {}", file.string(), std::strerror(errno), fix);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  MB_CHECK_AS(DataError, !in.bad(), "{}: file can't be read ({}). {}", file.string(),
              std::strerror(errno), fix);
  refuse_lfs_pointer(bytes, file, bytes.size());
  return bytes;
}

void refuse_lfs_pointer(std::string_view start, const std::filesystem::path& file, uint64_t bytes) {
  MB_CHECK_AS(DataError, !start.starts_with("version https://git-lfs.github.com/"),
              "{}: is {} bytes that say where Git LFS keeps the file, expected the file. Fetch it: "
              "git lfs pull, in the folder that was cloned",
              file.string(), bytes);
}

void write_file_atomically(const std::filesystem::path& file, std::string_view contents) {
  TemporaryFile temporary(file);
  temporary.write(contents);
  temporary.rename_over_target();
  sync_folder(temporary.folder());
}

}  // namespace minibert
