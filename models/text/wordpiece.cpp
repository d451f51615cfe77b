// wordpiece.cpp: special tokens first, then words, then greedy longest pieces. See wordpiece.h.
#include "models/text/wordpiece.h"

#include <array>
#include <utility>

namespace minibert {
namespace {

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

WordPieceTokenizer::WordPieceTokenizer(Vocab vocab, const TokenizerOptions& options)
    : vocab_(std::move(vocab)), options_(options), words_(options), trie_(vocab_.tokens()) {
  for (const std::string_view text : {kPadToken, kUnkToken, kClsToken, kSepToken, kMaskToken}) {
    if (vocab_.id(text) >= 0) special_tokens_.push_back({text, vocab_.id(text)});
  }
}

std::vector<int32_t> WordPieceTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encode_into(text, ids);
  return ids;
}

std::vector<int32_t> WordPieceTokenizer::encode_with_special_tokens(std::string_view text) const {
  std::vector<int32_t> ids = {vocab_.cls_id()};
  encode_into(text, ids);
  ids.push_back(vocab_.sep_id());
  return ids;
}

void WordPieceTokenizer::encode_into(std::string_view text, std::vector<int32_t>& out) const {
  if (!options_.recognise_special_tokens) return encode_plain(text, out);
  size_t from = 0;
  for (SpecialMatch match = find_special(text, 0); match.length > 0;
       match = find_special(text, from)) {
    encode_plain(text.substr(from, match.begin - from), out);
    out.push_back(match.id);
    from = match.begin + match.length;
  }
  encode_plain(text.substr(from), out);
}

WordPieceTokenizer::SpecialMatch WordPieceTokenizer::find_special(std::string_view text,
                                                                  size_t from) const {
  for (size_t at = text.find('[', from); at != std::string_view::npos;
       at = text.find('[', at + 1)) {
    for (const SpecialToken& special : special_tokens_) {
      if (text.substr(at).starts_with(special.text)) return {at, special.text.size(), special.id};
    }
  }
  return {text.size(), 0, -1};
}

void WordPieceTokenizer::encode_plain(std::string_view text, std::vector<int32_t>& out) const {
  words_.split(text, [&](std::string_view word) { encode_word(word, out); });
}

void WordPieceTokenizer::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  const size_t before = out.size();
  const bool too_long =
      word.size() > kMaxCharactersPerWord && count_characters(word) > kMaxCharactersPerWord;
  WordPieceTrie::Match match = too_long ? WordPieceTrie::Match{-1, 0} : trie_.longest_initial(word);
  while (match.id >= 0) {
    out.push_back(match.id);
    word.remove_prefix(match.length);
    if (word.empty()) return;
    match = trie_.longest_continuation(word);
  }
  out.resize(before);
  out.push_back(vocab_.unk_id());
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
