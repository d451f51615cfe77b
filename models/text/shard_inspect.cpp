// shard_inspect.cpp: one pass over all examples, then text or JSON. See shard_inspect.h.
#include "models/text/shard_inspect.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/shard_set.h"

namespace minibert {
namespace {

void count_example(const StoredExample& stored, const TokenTable& tokens, ShardInspection& found) {
  found.counts.add(stored);
  found.empty_masks += stored.masked_positions.empty();
  for (size_t i = 0; i < stored.masked_positions.size(); ++i) {
    const int32_t shown = stored.example.ids[static_cast<size_t>(stored.masked_positions[i])];
    found.shown_as_mask += shown == tokens.mask;
    found.shown_as_kept += shown != tokens.mask && shown == stored.masked_labels[i];
    found.shown_as_random += shown != tokens.mask && shown != stored.masked_labels[i];
  }
}

constexpr int kBins = 16;

/// Sixteen bins of equal width over 1 .. sequence length: the last length of each bin, its
/// examples.
std::vector<std::pair<int64_t, int64_t>> binned(const std::vector<int64_t>& histogram) {
  const auto longest = static_cast<int64_t>(histogram.size()) - 1;
  const int64_t width = (longest + kBins - 1) / kBins;
  std::vector<std::pair<int64_t, int64_t>> bins;
  for (int64_t length = 1; length <= longest; ++length) {
    if ((length - 1) % width == 0) bins.emplace_back(std::min(longest, length + width - 1), 0);
    bins.back().second += histogram[static_cast<size_t>(length)];
  }
  return bins;
}

}  // namespace

ShardInspection inspect_shards(const std::filesystem::path& folder) {
  const auto shards = ShardSet::open(folder);
  shards->verify();
  ShardInspection found;
  found.folder = folder;
  found.manifest = shards->manifest();
  const DataCounts& claimed = found.manifest.counts;
  found.counts.documents = claimed.documents;
  found.counts.sentences = claimed.sentences;
  found.counts.tokens = claimed.tokens;
  found.counts.unknown_tokens = claimed.unknown_tokens;
  found.counts.length_histogram.resize(static_cast<size_t>(shards->traits().sequence_length) + 1);
  for (int64_t e = 0; e < shards->examples(); ++e) {
    count_example(shards->read_masked(e, found.manifest.settings.seed, 0), shards->tokens(), found);
  }
  const DataCounts& counted = found.counts;
  MB_CHECK_AS(DataError,
              counted.examples == claimed.examples &&
                  counted.example_tokens == claimed.example_tokens &&
                  counted.nsp_next == claimed.nsp_next &&
                  counted.length_histogram == claimed.length_histogram,
              "{}: records hold {} examples with {} tokens, expected {} with {} (manifest.json). "
              "Build the data again: "
              "minibert data build.",
              folder.string(), counted.examples, counted.example_tokens, claimed.examples,
              claimed.example_tokens);
  found.findings = lint(found.manifest, found.empty_masks);
  return found;
}

nlohmann::json to_json(const ShardInspection& found) {
  return {
      {"folder", found.folder.string()},
      {"settings", to_json(found.manifest.settings)},
      {"vocabulary",
       {{"size", found.manifest.tokens.vocab_size}, {"hash", found.manifest.vocabulary_hash}}},
      {"shards", found.manifest.shards.size()},
      {"counts", to_json(found.counts)},
      {"share_mask", share_of(found.shown_as_mask, found.counts.masked_tokens)},
      {"share_kept", share_of(found.shown_as_kept, found.counts.masked_tokens)},
      {"share_random", share_of(found.shown_as_random, found.counts.masked_tokens)},
      {"share_masked_of_tokens", share_of(found.counts.masked_tokens, found.counts.example_tokens)},
      {"share_next_sentence", share_of(found.counts.nsp_next, found.counts.examples)},
      {"examples_without_masks", found.empty_masks},
      {"findings", to_json(found.findings)}};
}

std::string describe(const ShardInspection& found) {
  const DataCounts& c = found.counts;
  std::string text = fmt::format(
      "{}: {} examples in {} shards, every checksum matches\n"
      "text: {} documents, {} sentences, {} tokens, {:.3f} % unknown; vocabulary of {} entries "
      "({})\n"
      "masked: {} tokens, {:.1f} % of all; shown as [MASK] {:.1f} %, kept {:.1f} %, random {:.1f} "
      "%{}\n",
      found.folder.string(), c.examples, found.manifest.shards.size(), c.documents, c.sentences,
      c.tokens, 100 * share_of(c.unknown_tokens, c.tokens), found.manifest.tokens.vocab_size,
      found.manifest.vocabulary_hash, c.masked_tokens,
      100 * share_of(c.masked_tokens, c.example_tokens),
      100 * share_of(found.shown_as_mask, c.masked_tokens),
      100 * share_of(found.shown_as_kept, c.masked_tokens),
      100 * share_of(found.shown_as_random, c.masked_tokens),
      found.manifest.settings.dynamic_masking ? " (dynamic: epoch 0)" : "");
  text += found.manifest.settings.examples.nsp
              ? fmt::format("next sentence: {} true, {} random ({:.1f} % true)\n", c.nsp_next,
                            c.nsp_random, 100 * share_of(c.nsp_next, c.examples))
              : "next sentence: none (--no-nsp)\n";
  text += "length in tokens, examples:";
  for (const auto& [last, count] : binned(c.length_histogram)) {
    text += fmt::format("\n  up to {:5} {:9} {}", last, count,
                        std::string(static_cast<size_t>(50 * share_of(count, c.examples)), '#'));
  }
  if (found.empty_masks > 0)
    text += fmt::format("\nexamples without a masked token: {}", found.empty_masks);
  for (const std::string& line : describe(found.findings, found.findings.size()))
    text += "\nfinding: " + line;
  if (found.findings.empty()) text += "\nno findings about the text";
  return text;
}

}  // namespace minibert
