// file_system.h: the few calls through which checkpoints reach the disk, so that a test can record
// them, replay every prefix of them, or refuse one (disk full).
// Called by checkpoint_store.cpp and run_folder.cpp. Easy to break: data is safe once its file was
// synced, a name once its folder was. Test: ctest -R checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "models/text/checksum.h"

namespace minibert {

/// The calls as the system has them. Errors of all: CheckpointError naming path and reason.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual void make_folder(const std::filesystem::path& path);
  /// Calls `write(path)`, which writes the whole file by whatever means. Does not sync.
  virtual void write_file(const std::filesystem::path& path,
                          const std::function<void(const std::filesystem::path&)>& write);
  /// fsync of a file or of a folder's entries.
  virtual void sync(const std::filesystem::path& path);
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to);
  /// Swaps two folders in one go, so that neither name is ever missing.
  virtual void exchange(const std::filesystem::path& a, const std::filesystem::path& b);
  virtual void make_link(const std::filesystem::path& target, const std::filesystem::path& link);
  /// Removes a file or a folder with all in it; what is not there is removed already.
  virtual void remove(const std::filesystem::path& path);

  /// Writes `text`, syncs the file. Both calls above.
  void write_text(const std::filesystem::path& path, std::string_view text);
  /// The same so that `path` has the old text or the new one whatever happens: through
  /// `.tmp-NAME`, a rename and a sync of the folder.
  void replace_text(const std::filesystem::path& path, std::string_view text);
};

/// Writes a file of `text`, without a sync. Returns its length and checksum. Errors: CheckpointError.
FileSum write_bytes(const std::filesystem::path& path, std::string_view text);

/// `path` itself or the nearest folder above it that exists.
std::filesystem::path nearest_existing(const std::filesystem::path& path);

/// Bytes that may still be written to the disk under `path` (which need not exist yet).
int64_t free_bytes(const std::filesystem::path& path);

/// The whole of a file. Errors: CheckpointError.
std::string read_text(const std::filesystem::path& path);

}  // namespace minibert
