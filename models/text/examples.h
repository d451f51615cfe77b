// examples.h: documents of tokenised sentences to pairs [CLS] A [SEP] B [SEP] with a next-sentence
// label, without masks, which masking.h adds. Called by shard_build.cpp. Easy to break: the order
// of the draws, and that after a random B the unused sentences of the chunk are put back (so fewer
// than half of the pairs are true next sentences). The draws of a document come from the stream
// (seed, examples, document number, duplicate), so the result does not depend on threads. Source:
// create_pretraining_data.py of google-research/bert. Test: ctest -R examples;
// tools/goldens/examples_reference.py.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/text/masking.h"

namespace minibert {

class DocumentSet;  // document_set.h: a tokenised corpus

struct ExampleOptions {
  int sequence_length = 128;         // tokens with [CLS] and [SEP], at most
  double short_sequence_prob = 0.1;  // share of passes over documents with a shorter, random target
  bool nsp = true;                   // false: only [CLS] A [SEP], one segment, no label
  /// Sentences of more tokens are cut into pieces (cut_sentence). kWhatFits: those that an example
  /// cannot hold; 0: none, as in Google's script, which then drops what does not fit.
  int32_t max_sentence_tokens = kWhatFits;
  static constexpr int32_t kWhatFits = -1;
};

/// Tokens of text in a full example: the sequence without [CLS] and [SEP].
constexpr int64_t token_budget(const ExampleOptions& options) {
  return options.sequence_length - (options.nsp ? 3 : 2);
}

/// Appends the pieces of a sentence to `pieces`: the sentence itself where it is short enough. A piece
/// has half a budget with NSP (two of them fill a pair), else a whole one, or max_sentence_tokens
/// where that is less. It ends at the next border of a word if one is near, for a piece that is too
/// short would let the next one in, and that would be truncated.
void cut_sentence(std::span<const int32_t> ids, const TokenTable& table,
                  const ExampleOptions& options, std::vector<std::span<const int32_t>>& pieces);

inline constexpr int8_t kNspNext = 0, kNspRandom = 1, kNspNone = -1;

/// One training example before masking.
struct Example {
  std::vector<int32_t> ids;     // [CLS] A [SEP] B [SEP], or [CLS] A [SEP]
  int32_t first_segment = 0;    // tokens of segment 0: [CLS] A [SEP]
  int8_t nsp_label = kNspNone;  // 0 = B follows A, 1 = B is random, -1 = there is no B
  int32_t lost_tokens = 0;      // of its own document, truncated: in no other example of the pass
};

/// All examples of one document in one pass over it. The draws, in this order:
///   once      random() < short_sequence_prob, and if so randint(2, budget) -> target;
///             budget = sequence_length - 3 (no NSP: - 2)
///   per chunk (of n sentences: until target is reached or the document ends)
///     NSP     n >= 2: randint(1, n - 1) -> sentences of A;  random() < 0.5 -> B is random
///             a random B (always where n = 1): up to ten randint(0, documents - 1) until another
///             document is hit;  randint(0, sentences - 1) -> its first sentence
///     always  random() < 0.5 for each token cut (front, else back) while A and B together exceed
///             the budget
/// With a single document, a random B comes from the same document, as in Google's script.
/// Units  sequence_length in tokens, at least 5.
/// Errors  none: shard_build.cpp has checked the options.
std::vector<Example> create_examples(const DocumentSet& documents, int64_t document,
                                     const TokenTable& table, const ExampleOptions& options,
                                     DrawSource& draws);

}  // namespace minibert
