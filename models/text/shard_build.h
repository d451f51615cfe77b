// shard_build.h: the whole of `data build` as one call: files of text to a folder of shards.
// Called by tools/minibert/data.cpp. text_reader -> WordPiece -> examples -> masking -> shard, and
// a manifest last. Easy to break: all random draws are named by document and example numbers, so
// the thread count changes no byte; the output appears under its name only when it is complete.
// Test: ctest -R shard_build. Memory: the token ids, 4 bytes each.
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
  std::filesystem::path vocabulary;
  std::vector<std::string> files;  // "-" is standard input
  std::filesystem::path output;
  DataSettings settings;
  int64_t shard_bytes = int64_t{256} << 20;  // a shard is closed once it is at least this long
  bool force = false;                        // replace an earlier build in `output`
  bool dry_run = false;                      // read and count, write nothing
  /// Training shards whose word counts to keep here (held-out text); may be empty.
  std::filesystem::path unigram_from;
  /// Writes documents and draws for tools/goldens/examples_reference.py; may be empty.
  std::filesystem::path record_draws;
  std::function<void(const std::string&)> progress;  // told what is being done; may be empty
};

struct BuildReport {
  Manifest data;                     // of a dry run: sources and the text's counts only
  std::optional<Manifest> held_out;  // settings.hold_out_every > 0
  /// Tokens / sequence length * duplicate factor: what a dry run can tell.
  int64_t estimated_examples = 0;
  double seconds = 0;
};

/// Reads `files`, writes `output`/{manifest.json, vocab.txt, unigram.bin, shard-*.mbs} and, with
/// hold_out_every = K, every K-th document (the K-th, 2K-th, ... over all files) to
/// `output`/held-out in the same form, with the training text's unigram counts. It is built in
/// `output`.partial and renamed, so a killed build leaves `output` as it was and the next one
/// starts afresh. Where `output` is a link, the folder that it leads to is meant.
/// Errors  UsageError: options out of range; output not empty without force, or not ours with it;
///         the working folder or a mount point; another build at work in it.
///         DataError: as LineReader and Vocab::load; no text; disk full.
BuildReport build_shards(const BuildOptions& options);

}  // namespace minibert
