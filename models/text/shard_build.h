// shard_build.h: `data build` as one call: files of text to a folder of shards.
// Called by tools/minibert/data.cpp. text_reader -> WordPiece -> examples -> masking -> shard, and
// the manifest last, in a folder of partial_folder.h. Easy to break: document and example numbers
// name all random draws, so the thread count changes no byte; the output gets its name only when it
// is complete, and neither threads nor memory change a byte. Test: ctest -R shard_build.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/text/manifest.h"

namespace minibert {

struct BuildOptions {
  std::filesystem::path vocabulary;  // vocab.txt, tokenizer.json, or a model's folder
  std::vector<std::string> files;    // or folders, patterns, "-": see text_sources.h
  std::filesystem::path output;
  DataSettings settings;
  int64_t shard_bytes = int64_t{256} << 20;  // a shard is closed once it is at least this long
  /// Bytes that the build may hold, about; what does not fit goes to files in `output`.partial. The
  /// longest document, its sentences and examples come on top.
  int64_t memory = 1'000'000'000;
  /// Bytes of the arrays that grow with the text; 0: what `memory` leaves. For tests.
  int64_t array_memory = 0;
  /// A build of more text than this, bytes, keeps its progress and can continue after a kill.
  int64_t restart_bytes = 64'000'000;
  bool force = false;    // replace an earlier build in `output`
  bool dry_run = false;  // read, create and count the examples, write nothing
  /// Training shards whose token counts to copy (for held-out text); may be empty.
  std::filesystem::path unigram_from;
  /// Writes documents and draws for tools/goldens/examples_reference.py; may be empty.
  std::filesystem::path record_draws;
  std::function<void(const std::string&)> progress;  // gets a line about each stage; may be empty
};

struct BuildReport {
  Manifest data;                     // a dry run has no shards
  std::optional<Manifest> held_out;  // settings.hold_out_every > 0
  double seconds = 0;
};

/// Reads `files`, writes `output`/{manifest.json, vocab.txt, unigram.bin, shard-*.mbs} and, with
/// hold_out_every = K, every K-th document (the K-th, 2K-th, ... over all files) to
/// `output`/held-out in the same form, with the training text's unigram counts. It is built in
/// `output`.partial and renamed, so a killed build leaves `output` unchanged; the same call continues
/// it if the text is larger than restart_bytes, else starts anew. A link means the folder it leads to.
/// Errors  UsageError: options out of range; output is not empty without force, or with force holds
///         what data build did not write; it is the working folder or a mount point; another build
///         is writing it.
///         DataError: as LineReader and Vocab::load; no text; disk full.
BuildReport build_shards(const BuildOptions& options);

}  // namespace minibert
