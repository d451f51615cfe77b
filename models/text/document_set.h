// document_set.h: a tokenised corpus in flat arrays: tokens, and where sentences and documents begin.
// Filled by text_stage.cpp, read by examples.cpp. Easy to break: the arrays are in files once they are
// large, so seal() comes between the last document and the first reader, and readers copy neighbouring
// sentences at once. Test: ctest -R 'examples|spill_array'.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/text/spill_array.h"

namespace minibert {

/// Neighbouring sentences of a document, copied from a DocumentSet.
struct SentenceRun {
  std::vector<int64_t> begins;  // [sentences + 1], in ids
  std::vector<int32_t> ids;

  int64_t size() const { return static_cast<int64_t>(begins.size()) - 1; }
  std::span<const int32_t> operator[](int64_t sentence) const {
    const auto at = static_cast<size_t>(sentence);
    return {ids.data() + begins[at], static_cast<size_t>(begins[at + 1] - begins[at])};
  }
};

/// No sentence and no document is empty. Once sealed, safe to read on many threads.
class DocumentSet {
 public:
  DocumentSet() = default;
  /// memory: bytes that it may hold; beyond, its arrays go to files in `folder` named after `name`.
  /// vocab_size: ids are below it. to_store: store() will follow.
  DocumentSet(const std::filesystem::path& folder, const std::string& name, int64_t memory,
              int32_t vocab_size, bool to_store = false)
      : id_bytes_(vocab_size <= 65536 ? 2 : 4),
        document_begin_(folder / (name + "-documents.spill"), memory / 8, to_store),
        sentence_begin_(folder / (name + "-sentences.spill"), memory / 4, to_store),
        ids_(folder / (name + "-tokens.spill"), memory / 2, to_store) {}

  void begin_document() { document_begin_.push_back(sentences()); }
  void add_sentence(std::span<const int32_t> ids);
  void seal();
  /// As seal(), with all arrays in their files and on the disk: for adopt().
  void store();
  /// Takes the files that a set of the same folder and name left. False if they are not whole.
  bool adopt(int64_t documents, int64_t sentences, int64_t tokens);

  int64_t documents() const { return document_begin_.size(); }
  int64_t sentences() const { return sentence_begin_.size(); }
  int64_t tokens() const { return ids_.size() / id_bytes_; }
  /// Number of sentences of a document.
  int64_t sentences_of(int64_t document) const;
  int64_t tokens_of(int64_t document) const;

  static constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  /// Sentence `first` (0-based in the document) and those after it, until they have `wanted` tokens or
  /// the document ends; at least one.
  SentenceRun read(int64_t document, int64_t first = 0, int64_t wanted = kAll) const;

 private:
  std::pair<int64_t, int64_t> sentences_between(int64_t document) const;
  int64_t token_begin(int64_t sentence) const;
  std::vector<int64_t> token_begins(int64_t sentence, int64_t count) const;

  int64_t id_bytes_ = 4;                // as in a shard
  SpillArray<int64_t> document_begin_;  // sentence numbers
  SpillArray<int64_t> sentence_begin_;  // token numbers
  SpillArray<uint8_t> ids_;             // little-endian, id_bytes_ each
  std::vector<uint16_t> short_ids_;     // of the sentence at hand
};

}  // namespace minibert
