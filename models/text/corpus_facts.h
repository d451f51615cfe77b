// corpus_facts.h: what data build noticed in a text besides its counts: repeated lines, lost tokens,
// scripts, unknown characters. Kept in the manifest, so that data inspect and train can judge the
// text (corpus_lint.h) without reading it again. Counted by corpus_observer.h and shard_build.cpp.
// Easy to break: older manifests lack all of it or single fields, so each has a default.
// Test: ctest -R corpus_lint.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace minibert {

struct CorpusFacts {
  // Documents. "Repeated" ones equal an earlier document of this text, word for word.
  int64_t one_sentence_documents = 0, empty_documents = 0, largest_document_tokens = 0;
  int64_t repeated_documents = 0;
  int64_t documents_in_both_parts = 0;  // held out, and also in the training text
  // Sentences as the reader found them. Tokens of sentences that equal an earlier one; of large
  // texts an estimate from a sample of the sentences.
  int64_t repeated_tokens = 0;
  int64_t most_repeated = 0;       // times, of the most frequent sentence of several words
  std::string most_repeated_text;  // its start
  // Sentences that ...
  int64_t broken_off = 0;       // end without a mark, with a small letter at the start of the next
  int64_t with_tags = 0;        // hold <tag> or </tag>
  int64_t document_tags = 0;    // begin with <doc or </doc, as WikiExtractor's
  int64_t with_entities = 0;    // hold &amp; &nbsp; &#39; or the like
  int64_t json_lines = 0;       // are JSON objects by their look
  int64_t without_letters = 0;  // numbers, marks, rules
  int64_t twice_encoded = 0;    // hold UTF-8 that was read as Latin-1 or Windows-1252, such as Ã©
  int64_t with_replacements = 0;    // hold U+FFFD
  int64_t with_special_tokens = 0;  // hold [SEP] or another special token as characters
  std::string special_tokens;       // those, such as "[CLS] [SEP]"
  // Letters of the text, and tokens of the vocabulary with letters, by script.
  std::map<std::string, int64_t> letters, vocabulary_letters;
  int64_t vocabulary_upper = 0;  // tokens with an upper-case letter
  int64_t alphabet = 0;          // tokens of a single character
  // Words that are [UNK]: with a character that the vocabulary lacks, or longer than WordPiece takes.
  int64_t unknown_words = 0, unknown_upper_words = 0, unknown_long_words = 0;
  int64_t missing_characters = 0;        // distinct ones
  std::string missing_character_sample;  // the most frequent of them
  // Sentences that were cut into pieces and their tokens; tokens that no example of a pass holds.
  int64_t cut_sentences = 0, cut_tokens = 0, lost_tokens = 0;
  int64_t empty_masks = 0;  // examples without a masked token (dynamic masking: in epoch 0)
};

nlohmann::json to_json(const CorpusFacts& facts);
/// Fields that are missing keep their defaults. Errors: nlohmann::json::exception.
CorpusFacts corpus_facts_from_json(const nlohmann::json& value);

}  // namespace minibert
