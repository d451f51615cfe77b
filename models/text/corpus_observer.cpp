// corpus_observer.cpp: one pass over the bytes of a sentence, then sums. See corpus_observer.h.
#include "models/text/corpus_observer.h"

#include <algorithm>

#include "models/text/unicode.h"

namespace minibert {
namespace {

constexpr int64_t kCopyTokens = 8;        // shorter documents may well be equal
constexpr int64_t kWordyTokens = 4;       // and shorter sentences
constexpr size_t kShownBytes = 60;        // of the most frequent sentence
constexpr size_t kMostMissing = 1 << 16;  // distinct characters that are counted
constexpr size_t kShownMissing = 8;

bool is_ascii_letter(char c) {
  return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}
bool is_ascii_letter_or_digit(char c) {
  return is_ascii_letter(c) || (c >= '0' && c <= '9');
}

/// <name ...> or </name>, with the '>' in the same sentence.
bool has_tag(std::string_view text) {
  for (size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at + 1)) {
    const size_t name = at + 1 + (at + 1 < text.size() && text[at + 1] == '/');
    if (name < text.size() && is_ascii_letter(text[name]) &&
        text.find('>', name) != std::string_view::npos)
      return true;
  }
  return false;
}

/// &name; or &#number;
bool has_entity(std::string_view text) {
  for (size_t at = text.find('&'); at != std::string_view::npos; at = text.find('&', at + 1)) {
    size_t end = at + 1;
    if (end < text.size() && text[end] == '#') ++end;
    const size_t first = end;
    while (end < text.size() && end < first + 8 && is_ascii_letter_or_digit(text[end])) ++end;
    if (end >= first + 2 && end < text.size() && text[end] == ';') return true;
  }
  return false;
}

bool looks_like_json(std::string_view text) {
  return text.starts_with('{') && text.ends_with('}') && text.find("\":") != std::string_view::npos;
}

/// Two characters that stand side by side where UTF-8 was read as Latin-1 or Windows-1252: U+00C2 or
/// U+00C3 and a continuation byte, or the first two of a quotation mark.
bool is_twice_encoded(uint32_t before, uint32_t here) {
  return ((before == 0xC2 || before == 0xC3) && here >= 0x80 && here <= 0xBF) ||
         (before == 0xE2 && (here == 0x20AC || here == 0x80));
}

void look_at_characters(std::string_view text, SentenceLook& look) {
  uint32_t before = 0;
  auto& latin = look.letters[static_cast<size_t>(Script::latin)];
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      latin += is_ascii_letter(text[at++]);
      before = 0;
      continue;
    }
    const DecodedCharacter character = decode_utf8(text, at);
    at += character.length;
    look.has_replacement |= character.code_point == kReplacementCharacter;
    look.is_twice_encoded |= is_twice_encoded(before, character.code_point);
    ++look.letters[static_cast<size_t>(script_of(character.code_point))];
    before = character.code_point;
  }
  look.letters[0] = 0;
}

std::string start_of(const std::string& text) {
  if (text.size() <= kShownBytes) return text;
  size_t end = kShownBytes;
  while ((text[end] & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string most_frequent(const std::unordered_map<uint32_t, int64_t>& counts) {
  std::vector<std::pair<int64_t, uint32_t>> order;
  for (const auto& [code_point, count] : counts) order.emplace_back(-count, code_point);
  std::sort(order.begin(), order.end());
  std::string text;
  for (size_t i = 0; i < std::min(order.size(), kShownMissing); ++i)
    append_utf8(order[i].second, text);
  return text;
}

int64_t scaled(int64_t part, int64_t of_sample, int64_t whole) {
  if (of_sample == 0) return 0;
  return static_cast<int64_t>(static_cast<double>(part) / static_cast<double>(of_sample) *
                              static_cast<double>(whole));
}

}  // namespace

CorpusObserver::CorpusObserver(const WordPieceTokenizer& tokenizer)
    : tokenizer_(tokenizer), words_(tokenizer.options()) {
  for (const std::string& token : tokenizer.vocab().tokens()) {
    for (size_t at = 0; at < token.size();) {
      const DecodedCharacter character = decode_utf8(token, at);
      known_.insert(character.code_point);
      at += character.length;
    }
  }
  // Those of [UNK] and the like are no pieces.
  for (const char c : {'U', 'N', 'K', 'C', 'L', 'S', 'E', 'P', 'M', 'A', 'D'}) {
    const std::string letter(1, c);
    if (tokenizer.vocab().id(letter) < 0 && tokenizer.vocab().id("##" + letter) < 0)
      known_.erase(static_cast<uint32_t>(c));
  }
  const Vocab& vocab = tokenizer.vocab();
  const std::array<int32_t, kSpecialNames> ids = {vocab.cls_id(), vocab.sep_id(), vocab.mask_id(),
                                                  vocab.pad_id(), vocab.unk_id()};
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] >= 0) special_names_[i] = vocab.token(ids[i]);
  special_start_ = special_names_[1].front();
  for (const std::string& name : special_names_)
    if (!name.empty() && name.front() != special_start_) special_start_.reset();
}

uint8_t CorpusObserver::special_tokens_in(std::string_view sentence) const {
  // Most texts have no '[', which is found faster than five names.
  if (special_start_ && sentence.find(*special_start_) == std::string_view::npos) return 0;
  uint8_t found = 0;
  for (size_t i = 0; i < special_names_.size(); ++i)
    if (!special_names_[i].empty() && sentence.find(special_names_[i]) != std::string_view::npos)
      found |= static_cast<uint8_t>(1U << i);
  return found;
}

SentenceLook CorpusObserver::look(std::string_view sentence, std::span<const int32_t> ids) const {
  SentenceLook look;
  if (sentence.empty()) return look;
  look.hash = hash_of_text(sentence);
  look_at_characters(sentence, look);
  look.ends_open = is_ascii_letter_or_digit(sentence.back()) || sentence.back() == ',';
  look.starts_small = sentence.front() >= 'a' && sentence.front() <= 'z';
  look.has_tag = has_tag(sentence);
  look.is_document_tag = sentence.starts_with("<doc ") || sentence.starts_with("</doc>");
  look.has_entity = has_entity(sentence);
  look.is_json = looks_like_json(sentence);
  look.special_tokens = special_tokens_in(sentence);
  if (std::find(ids.begin(), ids.end(), tokenizer_.vocab().unk_id()) != ids.end())
    look_at_unknown(sentence, look);
  return look;
}

void CorpusObserver::look_at_unknown(std::string_view sentence, SentenceLook& look) const {
  const CharacterTable& table = CharacterTable::instance();
  const auto longest = static_cast<size_t>(tokenizer_.options().max_characters_per_word);
  words_.split(sentence, [&](std::string_view word) {
    size_t characters = 0, missing = 0, upper = 0;
    for (size_t at = 0; at < word.size();) {
      const DecodedCharacter character = decode_utf8(word, at);
      at += character.length;
      ++characters;
      if (known_.contains(character.code_point)) continue;
      ++missing;
      look.missing_characters.push_back(character.code_point);
      upper += table[character.code_point].any(CharacterProperties::kHasLower) &&
               known_.contains(table.lower(character.code_point)[0]);
    }
    const bool is_long = characters > longest;
    look.unknown_words += is_long || missing > 0;
    look.unknown_long_words += is_long;
    look.unknown_upper_words += missing > 0 && upper == missing;
  });
}

void CorpusObserver::add(const Document& document, std::span<const SentenceLook> looks,
                         std::span<const int64_t> tokens, int part) {
  Part& sums = parts_[static_cast<size_t>(part)];
  int64_t total = 0, sentences = 0;
  std::vector<uint64_t> hashes;
  for (size_t i = 0; i < document.size(); ++i) {
    total += tokens[i];
    sentences += tokens[i] > 0;
    hashes.push_back(looks[i].hash);
    add_sentence(document[i], looks[i], tokens[i], part);
    if (i + 1 < document.size())
      sums.facts.broken_off += looks[i].ends_open && looks[i + 1].starts_small;
  }
  sums.facts.empty_documents += total == 0;
  sums.facts.one_sentence_documents += sentences == 1;
  sums.facts.largest_document_tokens = std::max(sums.facts.largest_document_tokens, total);
  if (total < kCopyTokens) return;
  ++sums.documents;
  documents_.add(hash_of_text({reinterpret_cast<const char*>(hashes.data()),
                               hashes.size() * sizeof(uint64_t)}),
                 1, part);
}

void CorpusObserver::add_sentence(const std::string& text, const SentenceLook& look, int64_t tokens,
                                  int part) {
  Part& sums = parts_[static_cast<size_t>(part)];
  CorpusFacts& facts = sums.facts;
  sums.tokens += tokens;
  const int64_t seen = sentences_.add(look.hash, tokens, part);
  if (tokens >= kWordyTokens && seen > facts.most_repeated) {
    facts.most_repeated = seen;
    facts.most_repeated_text = seen > 1 ? start_of(text) : "";
  }
  facts.with_tags += look.has_tag;
  facts.document_tags += look.is_document_tag;
  facts.with_entities += look.has_entity;
  facts.json_lines += look.is_json;
  facts.twice_encoded += look.is_twice_encoded;
  facts.with_replacements += look.has_replacement;
  facts.with_special_tokens += look.special_tokens != 0;
  sums.special_tokens |= look.special_tokens;
  facts.without_letters += std::all_of(look.letters.begin(), look.letters.end(),
                                       [](uint32_t count) { return count == 0; });
  for (size_t s = 0; s < kScripts; ++s) sums.letters[s] += look.letters[s];
  facts.unknown_words += look.unknown_words;
  facts.unknown_upper_words += look.unknown_upper_words;
  facts.unknown_long_words += look.unknown_long_words;
  for (const uint32_t code_point : look.missing_characters) {
    if (sums.missing.size() < kMostMissing || sums.missing.contains(code_point))
      ++sums.missing[code_point];
  }
}

CorpusFacts CorpusObserver::facts(int part) const {
  const Part& sums = parts_[static_cast<size_t>(part)];
  CorpusFacts facts = sums.facts;
  const RepeatCounter::Repeats sentences = sentences_.of_part(part),
                               documents = documents_.of_part(part);
  facts.repeated_tokens = scaled(sentences.repeated, sentences.all, sums.tokens);
  facts.repeated_documents = scaled(documents.repeated, documents.all, sums.documents);
  facts.documents_in_both_parts = scaled(documents.in_both_parts, documents.all, sums.documents);
  for (size_t s = 1; s < kScripts; ++s) {
    if (sums.letters[s] > 0) facts.letters[name_of(static_cast<Script>(s))] = sums.letters[s];
  }
  for (size_t i = 0; i < kSpecialNames; ++i) {
    if ((sums.special_tokens >> i & 1U) == 0) continue;
    facts.special_tokens += (facts.special_tokens.empty() ? "" : " ") + special_names_[i];
  }
  facts.missing_characters = static_cast<int64_t>(sums.missing.size());
  facts.missing_character_sample = most_frequent(sums.missing);
  describe_vocabulary(facts);
  return facts;
}

void CorpusObserver::describe_vocabulary(CorpusFacts& facts) const {
  const Vocab& vocab = tokenizer_.vocab();
  const CharacterTable& table = CharacterTable::instance();
  for (int32_t id = 0; id < vocab.size(); ++id) {
    const std::string_view token = vocab.token(id);
    if (vocab.is_special(id) || (token.starts_with('[') && token.size() > 1)) continue;
    const bool continues = token.starts_with("##") && token.size() > 2;
    const std::string_view piece = continues ? token.substr(2) : token;
    Script script = Script::none;
    bool upper = false;
    for (size_t at = 0; at < piece.size();) {
      const DecodedCharacter character = decode_utf8(piece, at);
      at += character.length;
      if (script == Script::none) script = script_of(character.code_point);
      upper |= table[character.code_point].any(CharacterProperties::kHasLower);
    }
    const size_t characters = count_characters(piece);
    facts.alphabet += !continues && characters == 1;
    facts.vocabulary_upper += upper;
    if (script != Script::none && (characters > 1 || is_ideographic(script)))
      ++facts.vocabulary_letters[name_of(script)];
  }
}

}  // namespace minibert
