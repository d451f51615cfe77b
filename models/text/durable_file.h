// durable_file.h: small files that appear complete or not at all, and folders whose entries survive
// a power cut. Called by shard_build.cpp and manifest.cpp. Easy to break: a rename is durable only
// once its folder is synced.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace minibert {

/// Writes NAME.tmp, syncs it and renames it to `path`. Errors  DataError (disk full, folder
/// missing).
void write_file_durably(const std::filesystem::path& path, std::string_view bytes);

/// fsync of a folder. Errors  DataError.
void sync_folder(const std::filesystem::path& folder);

/// The whole of a file. Errors  DataError naming the file and `fix`.
std::string read_whole_file(const std::filesystem::path& path, const std::string& fix);

}  // namespace minibert
