// corpus_observer.h: looks at every sentence of a text while data build tokenises it, and sums up what
// corpus_facts.h holds. Called by shard_build.cpp: look() on all threads, add() in the order of the
// documents. Easy to break: memory stays bounded however large the text is (repeat_counter.h), and
// nothing depends on threads. Test: ctest -R corpus_lint.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "models/text/corpus_facts.h"
#include "models/text/repeat_counter.h"
#include "models/text/scripts.h"
#include "models/text/text_reader.h"
#include "models/text/wordpiece.h"

namespace minibert {

/// What one sentence shows by itself.
struct SentenceLook {
  uint64_t hash = 0;
  std::array<uint32_t, kScripts> letters{};  // by script
  bool ends_open = false;                    // without a mark at its end
  bool starts_small = false;                 // with a small letter
  bool has_tag = false, is_document_tag = false, has_entity = false, is_json = false;
  bool is_twice_encoded = false, has_replacement = false;
  uint8_t special_tokens = 0;  // bit i: holds the i-th of the vocabulary's five
  // Of its [UNK]:
  int32_t unknown_words = 0, unknown_upper_words = 0, unknown_long_words = 0;
  std::vector<uint32_t> missing_characters;
};

class CorpusObserver {
 public:
  /// Keeps a reference to the tokenizer.
  explicit CorpusObserver(const WordPieceTokenizer& tokenizer);

  /// ids: the sentence's. Thread-safe.
  SentenceLook look(std::string_view sentence, std::span<const int32_t> ids) const;
  /// A document of `part` (0: training text, 1: held out). tokens: of each sentence, 0 where it has
  /// none.
  void add(const Document& document, std::span<const SentenceLook> looks,
           std::span<const int64_t> tokens, int part);
  /// Everything but what the examples tell (cut, lost and masked tokens).
  CorpusFacts facts(int part) const;

 private:
  struct Part {
    CorpusFacts facts;
    std::array<int64_t, kScripts> letters{};
    uint8_t special_tokens = 0;         // of all sentences
    int64_t documents = 0, tokens = 0;  // those that repeats are sought among
    std::unordered_map<uint32_t, int64_t> missing;
  };
  void look_at_unknown(std::string_view sentence, SentenceLook& look) const;
  /// [CLS], [SEP], [MASK], [PAD] and [UNK], as the vocabulary calls them.
  static constexpr size_t kSpecialNames = 5;
  uint8_t special_tokens_in(std::string_view sentence) const;
  void add_sentence(const std::string& text, const SentenceLook& look, int64_t tokens, int part);
  void describe_vocabulary(CorpusFacts& facts) const;

  const WordPieceTokenizer& tokenizer_;
  BasicTokenizer words_;
  std::unordered_set<uint32_t> known_;  // characters of the vocabulary
  std::array<std::string, kSpecialNames> special_names_;
  std::optional<char> special_start_;  // that all of them begin with
  RepeatCounter documents_, sentences_;
  std::array<Part, 2> parts_;
};

}  // namespace minibert
