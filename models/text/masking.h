// masking.h: which tokens of an example are predicted, and what the model sees in their place
// (80/10/10). Called by shard_build.cpp (static masks, drawn once) and shard_set.cpp (dynamic
// masks, drawn in each epoch). Easy to break: the order of the draws.
// tools/goldens/examples_reference.py replays recorded draws through an independent version of the
// same algorithm. Source: create_pretraining_data.py of google-research/bert. Test: ctest -R
// masking.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/random.h"

namespace minibert {

class Vocab;  // models/text/vocab.h

/// One random decision, a uniform number or an integer; for the recording hook.
struct Draw {
  bool is_integer = false;
  double value = 0.0;
};

/// The three ways in which Google's script asks Python's `random` for numbers, over one named
/// Philox stream:
///   random()       uniform in [0, 1), 53 bits: RandomStream::uniform_double
///   randint(a, b)  uniform integer, both ends included: RandomStream::integer
///   shuffle(x)     Fisher-Yates in the order of Python's random.shuffle:
///                  for i = n-1 .. 1: swap x[i], x[randint(0, i)]
/// If `record` is set, each call appends its result (a shuffle: one integer per swap), so that
/// another program can replay the draws.
class DrawSource {
 public:
  explicit DrawSource(RandomStream stream, std::vector<Draw>* record = nullptr)
      : stream_(stream), record_(record) {}

  double random() {
    const double value = stream_.uniform_double();
    if (record_) record_->push_back({false, value});
    return value;
  }
  int64_t randint(int64_t low, int64_t high) {
    const int64_t value = stream_.integer(low, high);
    if (record_) record_->push_back({true, static_cast<double>(value)});
    return value;
  }
  template <typename T>
  void shuffle(std::vector<T>& x) {
    for (int64_t i = static_cast<int64_t>(x.size()) - 1; i >= 1; --i) {
      std::swap(x[static_cast<size_t>(i)], x[static_cast<size_t>(randint(0, i))]);
    }
  }

 private:
  RandomStream stream_;
  std::vector<Draw>* record_;
};

/// What masking and example building need to know about a vocabulary.
struct TokenTable {
  int32_t vocab_size = 0;
  int32_t cls = -1, sep = -1, mask = -1, unk = -1;
  std::vector<uint8_t> continues_word;  // [V], 1 for "##" pieces; read only for whole-word masking
};
/// The table of a vocabulary, continues_word included.
TokenTable token_table(const Vocab& vocab);

struct MaskingOptions {
  double masked_lm_prob = 0.15;
  int max_predictions = 20;
  /// All pieces of a word or none; words that would exceed the wanted number are skipped.
  bool whole_word = false;
};

/// The masked form of an example. Positions ascend.
struct MaskedTokens {
  std::vector<int32_t> ids;        // [length], as the model sees them
  std::vector<int32_t> positions;  // [P], 0-based in the example
  std::vector<int32_t> labels;     // [P], the token before masking
};

/// min(max_predictions, max(1, length * masked_lm_prob rounded half to even)): length counts [CLS]
/// and [SEP].
int masked_count(int64_t length, const MaskingOptions& options);

/// Masks `ids` ([CLS] A [SEP] B [SEP], or [CLS] A [SEP]) by Google's algorithm. The draws, in this
/// order:
///   1  shuffle of the candidates: every token but [CLS] and [SEP]; whole-word: every group of a
///      word's pieces
///   2  for each token taken: random() < 0.8 -> [MASK]; else random() < 0.5 -> kept;
///      else randint(0, V - 1) -> that id
MaskedTokens mask_tokens(std::span<const int32_t> ids, const TokenTable& table,
                         const MaskingOptions& options, DrawSource& draws);

}  // namespace minibert
