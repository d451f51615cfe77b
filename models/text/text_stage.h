// text_stage.h: the first stage of data build: documents of sentences to token ids, with what was
// noticed on the way. Called by shard_build.cpp. Easy to break: the number of a document, which
// names its random draws and decides whether it is held out, counts only documents with a token;
// batches are cut by bytes, so threads change nothing. Test: ctest -R shard_build.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/text/corpus_observer.h"
#include "models/text/document_set.h"
#include "models/text/in_order_worker.h"
#include "models/text/manifest.h"
#include "models/text/wordpiece.h"

namespace minibert {

/// The tokenised text of one folder.
struct TextPart {
  DocumentSet documents;
  DataCounts counts;
  CorpusFacts facts;
  std::vector<uint64_t> unigrams;  // [V]
};

/// Takes documents in order, tokenises them in batches while its caller reads on, and deals each to the
/// training part or the held-out part. Keeps references to its arguments.
class TextStage {
 public:
  /// memory: bytes for the ids of both parts; beyond, they go to files in `folder`. to_store: their
  /// store() will follow.
  TextStage(const WordPieceTokenizer& tokenizer, const TokenTable& table,
            const DataSettings& settings, const std::filesystem::path& folder, int64_t memory,
            bool to_store);

  void add(Document&& document);
  /// Must follow the last document.
  void finish();

  TextPart& training() { return parts_[0]; }
  TextPart& held_out() { return parts_[1]; }

 private:
  struct Sentence {
    std::vector<int32_t> ids;
    SentenceLook look;
  };
  void flush();
  void tokenise(const std::vector<Document>& documents);
  void deal(const Document& document, std::span<Sentence> sentences);
  void add_in_pieces(std::span<const int32_t> sentence, TextPart& part);

  const WordPieceTokenizer& tokenizer_;
  const TokenTable& table_;
  const DataSettings& settings_;
  CorpusObserver observer_;
  std::vector<std::span<const int32_t>> pieces_;  // of the sentence at hand
  int64_t dealt_ = 0;
  std::vector<Document> pending_;
  int64_t pending_bytes_ = 0;
  TextPart parts_[2];
  InOrderWorker worker_;  // last: its tasks use the others
};

}  // namespace minibert
