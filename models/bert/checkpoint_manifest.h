// checkpoint_manifest.h: MANIFEST.json of a checkpoint folder: sizes and checksums of its files,
// written last, so that a folder without it was never finished. Written and verified by
// models/training/checkpoint_store.cpp; hugging_face.cpp verifies the files that it reads. Easy to
// break: older versions must always load.
// Test: ctest -R checkpoint_store.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "models/text/checksum.h"

namespace minibert {

inline constexpr int kCheckpointFormatVersion = 1;
inline constexpr const char* kCheckpointManifest = "MANIFEST.json";

/// The text of MANIFEST.json, from names and sums.
std::string checkpoint_manifest(int64_t step,
                                const std::vector<std::pair<std::string, FileSum>>& files);

/// Compares a checkpoint folder with its MANIFEST.json: every file must be there with its size and
/// checksum, and every file that resuming needs must have an entry.
/// Errors: CheckpointError naming the file, what was found and what was expected.
void verify_checkpoint(const std::filesystem::path& folder);

/// The same for one file of a folder that may be a checkpoint. Passes if the folder has no
/// manifest, the file does not exist, or the manifest has no entry for it. Errors: as above.
void verify_if_in_checkpoint(const std::filesystem::path& file);

}  // namespace minibert
