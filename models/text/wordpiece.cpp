// wordpiece.cpp: added tokens first, then words, then greedy longest pieces. See wordpiece.h.
#include "models/text/wordpiece.h"

#include <array>
#include <utility>

#include "core/error.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

constexpr size_t kBytesPerPiece = 4;  // of English prose, or a bit more: room is reserved by it

/// Replacements that decode() makes, as `tokenizers`' WordPiece decoder with cleanup.
constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kCleanups = {{
    {" .", "."},
    {" ?", "?"},
    {" !", "!"},
    {" ,", ","},
    {" ' ", "'"},
    {" n't", "n't"},
    {" 'm", "'m"},
    {" 's", "'s"},
    {" 've", "'ve"},
    {" 're", "'re"},
}};

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

}  // namespace

namespace {

std::vector<AddedToken> special_tokens_of(const Vocab& vocab) {
  std::vector<AddedToken> tokens;
  for (const int32_t id :
       {vocab.pad_id(), vocab.unk_id(), vocab.cls_id(), vocab.sep_id(), vocab.mask_id()}) {
    if (id < 0) continue;
    tokens.push_back(
        {.content = std::string(vocab.token(id)), .id = id, .normalized = false, .special = true});
  }
  return tokens;
}

/// Those that are looked for in normalized texts, or in texts as they are; special ones first, since
/// of equal contents the first is found.
std::vector<AddedToken> tokens_for(const std::vector<AddedToken>& added, bool normalized,
                                   const BasicTokenizer& words, const TokenizerOptions& options) {
  std::vector<AddedToken> tokens;
  for (const bool special : {true, false}) {
    if (special && !options.recognise_special_tokens) continue;
    for (AddedToken token : added) {
      if (token.special != special || token.normalized != normalized) continue;
      if (normalized) {
        const std::string content = words.normalize(token.content);
        MB_CHECK_AS(DataError, !content.empty(),
                    "added token '{}' is empty after normalization, so it would be found "
                    "everywhere. Set its \"normalized\" to false.",
                    token.content);
        token.content = content;
      }
      tokens.push_back(std::move(token));
    }
  }
  return tokens;
}

/// Bytes of the longest piece that a word can hold.
size_t longest_piece(const TokenizerOptions& options) {
  constexpr size_t kBytesPerCharacter = 4;
  return kBytesPerCharacter * static_cast<size_t>(options.max_characters_per_word);
}

}  // namespace

WordPieceTokenizer::WordPieceTokenizer(Vocab vocab, const TokenizerOptions& options)
    : WordPieceTokenizer(vocab, options, special_tokens_of(vocab)) {}

WordPieceTokenizer::WordPieceTokenizer(Vocab vocab, const TokenizerOptions& options,
                                       const std::vector<AddedToken>& added)
    : vocab_(std::move(vocab)),
      options_(options),
      words_(options),
      whole_words_(vocab_.pieces(), static_cast<size_t>(options.max_characters_per_word)),
      cutter_(vocab_.pieces(), longest_piece(options)),
      added_(added),
      raw_(tokens_for(added, /* normalized= */ false, words_, options)),
      normalized_(tokens_for(added, /* normalized= */ true, words_, options)) {}

std::vector<int32_t> WordPieceTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / kBytesPerPiece);
  encode_into(text, ids);
  return ids;
}

std::vector<int32_t> WordPieceTokenizer::encode_with_special_tokens(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / kBytesPerPiece + 2);
  ids.push_back(vocab_.cls_id());
  encode_into(text, ids);
  ids.push_back(vocab_.sep_id());
  return ids;
}

void WordPieceTokenizer::encode_into(std::string_view text, std::vector<int32_t>& out) const {
  if (raw_.empty()) return encode_between(text, out);
  raw_.split(
      text, [&](std::string_view part) { encode_between(part, out); },
      [&](int32_t id) { out.push_back(id); });
}

void WordPieceTokenizer::encode_between(std::string_view text, std::vector<int32_t>& out) const {
  if (normalized_.empty()) return encode_plain(text, out);
  normalized_.split(
      words_.normalize(text), [&](std::string_view part) { encode_plain(part, out); },
      [&](int32_t id) { out.push_back(id); });
}

void WordPieceTokenizer::encode_plain(std::string_view text, std::vector<int32_t>& out) const {
  static_assert(BasicTokenizer::kReadable >= WholeWords::kReadable);
  words_.split(text, [&](std::string_view word) {
    const int32_t id = whole_words_.find(word);
    id >= 0 ? out.push_back(id) : encode_pieces(word, out);
  });
}

void WordPieceTokenizer::encode_pieces(std::string_view word, std::vector<int32_t>& out) const {
  const auto limit = static_cast<size_t>(options_.max_characters_per_word);
  const bool too_long = word.size() > limit && count_characters(word) > limit;
  if (too_long || !cutter_.cut(word, out)) out.push_back(vocab_.unk_id());
}

std::string WordPieceTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string_view token = vocab_.token(ids[i]);
    const bool continues = i > 0 && token.starts_with("##");
    std::string piece(i > 0 && !continues ? " " : "");
    piece += continues ? token.substr(2) : token;
    for (const auto& [from, to] : kCleanups) replace_all(piece, from, to);
    text += piece;
  }
  return text;
}

}  // namespace minibert
