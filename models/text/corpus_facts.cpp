// corpus_facts.cpp: the facts as JSON. See corpus_facts.h.
#include "models/text/corpus_facts.h"

#include <nlohmann/json.hpp>

namespace minibert {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(
    CorpusFacts, one_sentence_documents, empty_documents, largest_document_tokens,
    repeated_documents, documents_in_both_parts, repeated_tokens, most_repeated, most_repeated_text,
    broken_off, with_tags, document_tags, with_entities, json_lines, without_letters, twice_encoded,
    with_replacements, with_special_tokens, special_tokens, letters, vocabulary_letters,
    vocabulary_upper, alphabet, unknown_words, unknown_upper_words, unknown_long_words,
    missing_characters, missing_character_sample, cut_sentences, cut_tokens, lost_tokens,
    empty_masks)

nlohmann::json to_json(const CorpusFacts& facts) {
  nlohmann::json value;
  to_json(value, facts);
  return value;
}

CorpusFacts corpus_facts_from_json(const nlohmann::json& value) {
  return value.get<CorpusFacts>();
}

}  // namespace minibert
