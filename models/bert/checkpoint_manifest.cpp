// checkpoint_manifest.cpp: sizes and checksums of files, as written and as found on disk.
#include "models/bert/checkpoint_manifest.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/json_depth.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// Files that resuming needs, since format version 1.
constexpr const char* kNeeded[] = {"config.json", "model.safetensors", "vocab.txt",
                                   "optimizer.safetensors", "trainer_state.json"};

/// Size and checksum of a file on disk.
FileSum sum_of(const fs::path& path) {
  std::error_code ignored;
  const bool regular = fs::is_regular_file(path, ignored);
  std::ifstream file;
  if (regular) file.open(path, std::ios::binary);
  MB_CHECK_AS(CheckpointError, regular && file, "{}: is missing or can't be read", path.string());
  FileSum sum;
  std::vector<char> buffer(1 << 16);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0)
    sum.add(buffer.data(), static_cast<size_t>(file.gcount()));
  MB_CHECK_AS(CheckpointError, file.eof(), "{}: can't be read to its end", path.string());
  return sum;
}

nlohmann::json read_manifest(const fs::path& path) {
  MB_CHECK_AS(CheckpointError, fs::is_regular_file(path),
              "{}: is missing, so the checkpoint was never finished", path.string());
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  nlohmann::json manifest = parse_shallow_json<CheckpointError>(text, path.string());
  const bool whole = manifest.is_object() && manifest.contains("format_version") &&
                     manifest["format_version"].is_number_integer() && manifest.contains("files") &&
                     manifest["files"].is_object();
  MB_CHECK_AS(CheckpointError, whole, "{}: is damaged, expected a manifest in JSON", path.string());
  const auto version = manifest["format_version"].get<int64_t>();
  MB_CHECK_AS(CheckpointError, version >= 1 && version <= kCheckpointFormatVersion,
              "{}: format_version is {}, expected 1 to {} (what this build reads). Use a newer "
              "minibert.",
              path.string(), version, kCheckpointFormatVersion);
  return manifest;
}

/// Compares one file with its entry.
void compare(const fs::path& folder, const std::string& name, const nlohmann::json& entry) {
  const bool whole = entry.is_object() && entry.contains("bytes") && entry.contains("crc32") &&
                     entry["bytes"].is_number_integer() && entry["crc32"].is_string();
  MB_CHECK_AS(CheckpointError, whole, "{}: its entry for {} is damaged",
              (folder / kCheckpointManifest).string(), name);
  // Another path could be a pipe or a device, which has no end.
  MB_CHECK_AS(CheckpointError, fs::path(name).filename() == name && name != "..",
              "{}: has an entry for \"{}\", expected the name of a file of the folder. Use another "
              "checkpoint.",
              (folder / kCheckpointManifest).string(), name);
  const FileSum found = sum_of(folder / name);
  const auto bytes = entry["bytes"].get<int64_t>();
  MB_CHECK_AS(CheckpointError, found.bytes == bytes, "{}: has {} bytes, expected {} ({})",
              (folder / name).string(), found.bytes, bytes, kCheckpointManifest);
  const auto crc32 = entry["crc32"].get<std::string>();
  MB_CHECK_AS(CheckpointError, to_hex(found.crc32) == crc32,
              "{}: its checksum is {}, expected {} ({}): the file is damaged. Use another "
              "checkpoint.",
              (folder / name).string(), to_hex(found.crc32), crc32, kCheckpointManifest);
}

}  // namespace

std::string checkpoint_manifest(int64_t step,
                                const std::vector<std::pair<std::string, FileSum>>& files) {
  nlohmann::ordered_json manifest{{"format_version", kCheckpointFormatVersion}, {"step", step}};
  for (const auto& [name, sum] : files)
    manifest["files"][name] = {{"bytes", sum.bytes}, {"crc32", to_hex(sum.crc32)}};
  return manifest.dump(1) + "\n";
}

void verify_checkpoint(const fs::path& folder) {
  MB_CHECK_AS(CheckpointError, fs::is_directory(folder), "{}: is not a folder", folder.string());
  const fs::path manifest_path = folder / kCheckpointManifest;
  const nlohmann::json files = read_manifest(manifest_path)["files"];
  for (const auto& [name, entry] : files.items()) compare(folder, name, entry);
  for (const char* name : kNeeded) {
    MB_CHECK_AS(CheckpointError, files.contains(name),
                "{}: has no entry for {}, expected one (every save writes it). Use another "
                "checkpoint.",
                manifest_path.string(), name);
  }
}

void verify_if_in_checkpoint(const fs::path& file) {
  const fs::path manifest_path = file.parent_path() / kCheckpointManifest;
  if (!fs::exists(manifest_path) || !fs::exists(file)) return;
  const nlohmann::json files = read_manifest(manifest_path)["files"];
  const std::string name = file.filename().string();
  if (files.contains(name)) compare(file.parent_path(), name, files[name]);
}

}  // namespace minibert
