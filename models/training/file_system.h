// file_system.h: the few calls through which checkpoints reach the disk, so that a test can record
// them, replay every prefix of them, or let one fail (disk full).
// Called by checkpoint_store.cpp and run_folder.cpp. Easy to break: data is safe only after its
// file is synced, a name only after its folder is. Test: ctest -R checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "models/text/checksum.h"

namespace minibert {

/// The system's own calls. All throw CheckpointError naming path and reason.
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
  /// Swaps two folders atomically, so that neither name is ever missing.
  virtual void exchange(const std::filesystem::path& a, const std::filesystem::path& b);
  virtual void make_link(const std::filesystem::path& target, const std::filesystem::path& link);
  /// Removes a file, or a folder with its contents. A missing path is no error.
  virtual void remove(const std::filesystem::path& path);

  /// Writes `text` and syncs the file, by write_file() and sync().
  void write_text(const std::filesystem::path& path, std::string_view text);
  /// Replaces the file's text atomically, by `.tmp-NAME`, a rename and a sync of the folder: after
  /// a crash `path` has the old text or the new one.
  void replace_text(const std::filesystem::path& path, std::string_view text);
};

/// Writes a file of `text` without a sync. Returns length and checksum. Errors: CheckpointError.
FileSum write_bytes(const std::filesystem::path& path, std::string_view text);

/// `path` if it exists, else the nearest folder above it that does.
std::filesystem::path nearest_existing(const std::filesystem::path& path);

/// Free bytes on the disk that holds `path` (which need not exist yet).
int64_t free_bytes(const std::filesystem::path& path);

/// The contents of a file. Errors: CheckpointError.
std::string read_text(const std::filesystem::path& path);

}  // namespace minibert
