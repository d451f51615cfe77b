// atomic_file.h: a small text file that appears complete or not at all.
// Called by vocab.cpp, manifest.cpp, shard_build.cpp and the verbs. Writes NAME.tmp.PID in the same
// folder, then fsync, rename, fsync of the folder; a failure removes the temporary file and leaves
// the old file. Easy to break: a rename onto a device or a pipe would replace it by a plain file
// for everyone. Test: ctest -R text_vocab.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace minibert {

/// The path that a link leads to, whether or not it exists; `path` itself if it is not a link.
std::filesystem::path follow_links(std::filesystem::path path);

/// Writes `file`, or what it links to.
/// Errors: DataError naming file and cause (folder missing, no permission, disk full; the target is
/// a device, a pipe or a folder).
void write_file_atomically(const std::filesystem::path& file, std::string_view contents);

/// fsync of a folder, so that a rename inside it survives a power cut.
void sync_folder(const std::filesystem::path& folder);

/// The contents of a file. Errors: DataError naming file, cause and `fix`.
std::string read_whole_file(const std::filesystem::path& file, const std::string& fix);

/// Errors: DataError if a file of `bytes` bytes that begins with `start` is a pointer of Git LFS.
void refuse_lfs_pointer(std::string_view start, const std::filesystem::path& file, uint64_t bytes);

}  // namespace minibert
