// checkpoint_manifest.h: MANIFEST.json of a checkpoint folder: sizes and checksums of its files,
// written last, so that a folder without it was never finished. Written and compared by
// models/training/checkpoint_store.cpp; hugging_face.cpp compares what it reads. Easy to break:
// older versions must always load.
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

/// The text of MANIFEST.json for files by name.
std::string checkpoint_manifest(int64_t step,
                                const std::vector<std::pair<std::string, FileSum>>& files);

/// Compares a checkpoint folder with its MANIFEST.json: every file there, of its size and checksum,
/// and entries for all that a run goes on from.
/// Errors: CheckpointError naming the file, what was found and expected.
void verify_checkpoint(const std::filesystem::path& folder);

/// The same for one file of a folder that may be a checkpoint: in one without a manifest it passes,
/// and so does a file that is not there or not in the manifest. Errors: as above.
void verify_if_in_checkpoint(const std::filesystem::path& file);

}  // namespace minibert
