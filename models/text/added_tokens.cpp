// added_tokens.cpp: the first byte of a token is looked for, then the longest token there.
#include "models/text/added_tokens.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/error.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

bool is_word_character(uint32_t c) {
  return CharacterTable::instance()[c].any(CharacterProperties::kWord);
}

/// The character that ends before byte `at` > 0.
DecodedCharacter character_before(std::string_view text, size_t at) {
  size_t start = at - 1;
  while (start > 0 && at - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
  const DecodedCharacter character = decode_utf8(text, start);
  if (start + character.length == at) return character;
  return {kReplacementCharacter, 1, false};  // malformed
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && is_word_character(character_before(text, begin).code_point)) return false;
  return end == text.size() || !is_word_character(decode_utf8(text, end).code_point);
}

size_t white_space_before(std::string_view text, size_t at) {
  while (at > 0) {
    const DecodedCharacter character = character_before(text, at);
    if (!is_white_space(character.code_point)) break;
    at -= character.length;
  }
  return at;
}

size_t white_space_after(std::string_view text, size_t at) {
  while (at < text.size()) {
    const DecodedCharacter character = decode_utf8(text, at);
    if (!is_white_space(character.code_point)) break;
    at += character.length;
  }
  return at;
}

/// The first of each content, without those that have none.
std::vector<AddedToken> findable(std::vector<AddedToken> tokens) {
  std::set<std::string> seen;
  std::vector<AddedToken> result;
  for (AddedToken& token : tokens) {
    MB_CHECK_AS(DataError, token.content.size() <= AddedTokenMatcher::kLongest,
                "added token '{}...' has {} bytes, expected at most {}. Remove it from the "
                "tokenizer's files.",
                token.content.substr(0, 40), token.content.size(), AddedTokenMatcher::kLongest);
    if (!token.content.empty() && seen.insert(token.content).second)
      result.push_back(std::move(token));
  }
  return result;
}

/// All as pieces that continue a word, since a trie has two roots, and this is the other's mark.
WordPieceTrie trie_of(const std::vector<AddedToken>& tokens) {
  std::vector<std::pair<std::string, int32_t>> pieces;
  size_t longest = 0;
  for (const AddedToken& token : tokens) {
    pieces.emplace_back("##" + token.content, static_cast<int32_t>(pieces.size()));
    longest = std::max(longest, token.content.size());
  }
  return {pieces, longest};
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens)
    : tokens_(findable(std::move(tokens))), trie_(trie_of(tokens_)) {
  for (const AddedToken& token : tokens_) first_[static_cast<uint8_t>(token.content[0])] = true;
  if (std::ranges::count(first_, true) == 1) only_first_ = tokens_.front().content[0];
}

size_t AddedTokenMatcher::next_candidate(std::string_view text, size_t from) const {
  if (only_first_) return std::min(text.find(*only_first_, from), text.size());
  while (from < text.size() && !first_[static_cast<uint8_t>(text[from])]) ++from;
  return from;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::string_view text, size_t from,
                                                                size_t done) const {
  for (size_t at = next_candidate(text, from); at < text.size(); at = next_candidate(text, from)) {
    const WordPieceTrie::Match longest = trie_.longest_continuation(text.substr(at));
    from = at + std::max<size_t>(longest.length, 1);
    if (longest.id < 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(longest.id)];
    if (token.single_word && !stands_alone(text, at, from)) continue;
    Match match{at, from, from, token.id};
    if (token.lstrip) match.begin = std::max(white_space_before(text, at), done);
    if (token.rstrip) match.end = white_space_after(text, from);
    return match;
  }
  return std::nullopt;
}

}  // namespace minibert
