// checkpoint_manifest.cpp: sums of files, as written and as they lie on the disk.
#include "models/bert/checkpoint_manifest.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// What lies on the disk.
FileSum sum_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  MB_CHECK_AS(CheckpointError, file, "{}: is missing or can't be read", path.string());
  FileSum sum;
  std::vector<char> buffer(1 << 20);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0)
    sum.add(buffer.data(), static_cast<size_t>(file.gcount()));
  MB_CHECK_AS(CheckpointError, file.eof(), "{}: can't be read to its end", path.string());
  return sum;
}

/// A checksum as the manifest has it: eight hexadecimal digits.
std::string hex(uint32_t crc32) {
  return fmt::format("{:08x}", crc32);
}

nlohmann::json read_manifest(const fs::path& path) {
  MB_CHECK_AS(CheckpointError, fs::is_regular_file(path),
              "{}: is missing, so the checkpoint was never finished", path.string());
  std::ifstream file(path, std::ios::binary);
  nlohmann::json manifest = nlohmann::json::parse(file, nullptr, false);
  const bool whole = manifest.is_object() && manifest.contains("format_version") &&
                     manifest["format_version"].is_number_integer() && manifest.contains("files") &&
                     manifest["files"].is_object();
  MB_CHECK_AS(CheckpointError, whole, "{}: is damaged, expected a manifest in JSON", path.string());
  const int version = manifest["format_version"];
  MB_CHECK_AS(CheckpointError, version >= 1 && version <= kCheckpointFormatVersion,
              "{}: format_version is {}, expected 1 to {} (what this build reads). Use a newer "
              "minibert.",
              path.string(), version, kCheckpointFormatVersion);
  return manifest;
}

}  // namespace

std::string checkpoint_manifest(int64_t step,
                                const std::vector<std::pair<std::string, FileSum>>& files) {
  nlohmann::ordered_json manifest{{"format_version", kCheckpointFormatVersion}, {"step", step}};
  for (const auto& [name, sum] : files)
    manifest["files"][name] = {{"bytes", sum.bytes}, {"crc32", hex(sum.crc32)}};
  return manifest.dump(1) + "\n";
}

void verify_checkpoint(const fs::path& folder) {
  MB_CHECK_AS(CheckpointError, fs::is_directory(folder), "{}: is no folder", folder.string());
  const fs::path manifest_path = folder / kCheckpointManifest;
  const nlohmann::json manifest = read_manifest(manifest_path);
  for (const auto& [name, entry] : manifest["files"].items()) {
    const bool whole = entry.is_object() && entry.contains("bytes") && entry.contains("crc32") &&
                       entry["bytes"].is_number_integer() && entry["crc32"].is_string();
    MB_CHECK_AS(CheckpointError, whole, "{}: its entry for {} is damaged", manifest_path.string(),
                name);
    const FileSum found = sum_of(folder / name);
    const auto bytes = entry["bytes"].get<int64_t>();
    MB_CHECK_AS(CheckpointError, found.bytes == bytes, "{}: has {} bytes, expected {} ({})",
                (folder / name).string(), found.bytes, bytes, kCheckpointManifest);
    const auto crc32 = entry["crc32"].get<std::string>();
    MB_CHECK_AS(CheckpointError, hex(found.crc32) == crc32,
                "{}: its checksum is {}, expected {} ({}): the file is damaged",
                (folder / name).string(), hex(found.crc32), crc32, kCheckpointManifest);
  }
}

}  // namespace minibert
