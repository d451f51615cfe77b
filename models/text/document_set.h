// document_set.h: a tokenised corpus in flat arrays: tokens, and where sentences and documents begin.
// Filled by text_stage.cpp, read by examples.cpp. Easy to break: the arrays are in files once they are
// large, so seal() comes between the last document and the first reader. Test: ctest -R examples.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "models/text/spill_array.h"

namespace minibert {

/// No sentence and no document is empty.
class DocumentSet {
 public:
  DocumentSet() = default;
  /// memory: bytes that it may hold; beyond, its arrays go to files in `folder` named after `name`.
  DocumentSet(const std::filesystem::path& folder, const std::string& name, int64_t memory)
      : document_begin_(folder / (name + "-documents.spill"), memory / 8),
        sentence_begin_(folder / (name + "-sentences.spill"), memory / 4),
        tokens_(folder / (name + "-tokens.spill"), memory / 2) {}

  void begin_document() { document_begin_.push_back(sentences()); }
  void add_sentence(std::span<const int32_t> ids) {
    sentence_begin_.push_back(tokens());
    tokens_.append(ids);
  }
  void seal() {
    document_begin_.seal();
    sentence_begin_.seal();
    tokens_.seal();
  }
  /// As seal(), with all arrays in their files and on the disk: for adopt().
  void store() {
    document_begin_.store();
    sentence_begin_.store();
    tokens_.store();
  }
  /// Takes the files that a set of the same folder and name left. False if they are not whole.
  bool adopt(int64_t documents, int64_t sentences, int64_t tokens) {
    return document_begin_.adopt(documents) && sentence_begin_.adopt(sentences) &&
           tokens_.adopt(tokens);
  }
  /// Gives the memory of mapped files back; what is read next is read from them again.
  void forget() const {
    document_begin_.forget();
    sentence_begin_.forget();
    tokens_.forget();
  }

  int64_t documents() const { return document_begin_.size(); }
  int64_t sentences() const { return sentence_begin_.size(); }
  int64_t tokens() const { return tokens_.size(); }
  /// Number of sentences of a document.
  int64_t sentences_of(int64_t document) const {
    return end_of(document_begin_, document, sentences()) - document_begin_[document];
  }
  int64_t tokens_of(int64_t document) const {
    const int64_t first = document_begin_[document];
    return end_of(sentence_begin_, first + sentences_of(document) - 1, tokens()) -
           sentence_begin_[first];
  }
  /// Token ids of sentence `sentence` (0-based in the document).
  std::span<const int32_t> sentence(int64_t document, int64_t sentence) const {
    const int64_t number = document_begin_[document] + sentence;
    const int64_t begin = sentence_begin_[number];
    return {tokens_.data() + begin,
            static_cast<size_t>(end_of(sentence_begin_, number, tokens()) - begin)};
  }

 private:
  static int64_t end_of(const SpillArray<int64_t>& begins, int64_t number, int64_t end) {
    return number + 1 < begins.size() ? begins[number + 1] : end;
  }
  SpillArray<int64_t> document_begin_;  // sentence numbers
  SpillArray<int64_t> sentence_begin_;  // token numbers
  SpillArray<int32_t> tokens_;
};

}  // namespace minibert
