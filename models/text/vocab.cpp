// vocab.cpp: reads vocab.txt strictly, looks tokens up by binary search, writes it. See vocab.h.
#include "models/text/vocab.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "models/text/atomic_file.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

constexpr uint64_t kFnvOffset = 0xcbf29ce484222325, kFnvPrime = 0x100000001b3;

/// Lines without line ends and trailing blanks. Empty lines at the end of the file are dropped.
std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    lines.emplace_back(line.substr(0, line.find_last_not_of(" \t\r") + 1));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

}  // namespace

Vocab Vocab::load(const std::filesystem::path& file) {
  std::error_code ignored;
  MB_CHECK_AS(DataError, !std::filesystem::is_directory(file, ignored),
              "{}: is a folder, expected a vocabulary file. Give the path of its vocab.txt.",
              file.string());
  std::string text = read_whole_file(
      file, "Check the path, or train a vocabulary with `minibert tokenizer train`.");
  if (text.starts_with("\xEF\xBB\xBF"))
    text.erase(0, 3);  // a byte order mark is not part of the first token
  return from_tokens(split_lines(text), file.string());
}

Vocab Vocab::from_tokens(std::vector<std::string> tokens, std::string_view origin) {
  MB_CHECK_AS(DataError, !tokens.empty(),
              "{}: vocabulary is empty, expected one token per line. Train one with "
              "`minibert tokenizer train`.",
              origin);
  for (size_t i = 0; i < tokens.size(); ++i) {
    MB_CHECK_AS(DataError, !tokens[i].empty(),
                "{}: line {} is empty, expected a token (ids are line numbers). Put a token such "
                "as [unused{}] there.",
                origin, i + 1, i);
    MB_CHECK_AS(DataError, count_invalid_utf8(tokens[i]) == 0,
                "{}: line {} is not valid UTF-8, expected text. Convert the file to UTF-8, or get "
                "the vocabulary again.",
                origin, i + 1);
  }
  Vocab vocab;
  vocab.tokens_ = std::move(tokens);
  auto& order = vocab.by_text_;
  order.resize(vocab.tokens_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return std::tie(vocab.tokens_[a], a) < std::tie(vocab.tokens_[b], b);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    MB_CHECK_AS(
        DataError, vocab.tokens_[order[i - 1]] != vocab.tokens_[order[i]],
        "{}: token '{}' is in line {} and in line {}, expected each token once (its line is "
        "its id). Rename the one that the model was not trained with.",
        origin, vocab.tokens_[order[i]], order[i - 1] + 1, order[i] + 1);
  }
  const auto required = [&](std::string_view token) {
    const int32_t id = vocab.id(token);
    MB_CHECK_AS(DataError, id >= 0,
                "{}: token {} is missing from {} lines, expected [UNK], [CLS], [SEP] and [MASK] "
                "(BERT's special tokens). Add it, or train a vocabulary with `minibert tokenizer "
                "train`.",
                origin, token, vocab.size());
    return id;
  };
  vocab.pad_ = vocab.id(kPadToken);
  vocab.unk_ = required(kUnkToken);
  vocab.cls_ = required(kClsToken);
  vocab.sep_ = required(kSepToken);
  vocab.mask_ = required(kMaskToken);
  return vocab;
}

int32_t Vocab::id(std::string_view token) const {
  const auto found = std::lower_bound(
      by_text_.begin(), by_text_.end(), token,
      [this](int32_t id, std::string_view wanted) { return tokens_[id] < wanted; });
  return found != by_text_.end() && tokens_[*found] == token ? *found : -1;
}

std::string_view Vocab::token(int32_t id) const {
  MB_CHECK(id >= 0 && id < size(),
           "vocab: id is {}, expected 0 to {} (the size of the vocabulary minus 1).", id,
           size() - 1);
  return tokens_[id];
}

bool Vocab::is_special(int32_t id) const {
  return id >= 0 && (id == pad_ || id == unk_ || id == cls_ || id == sep_ || id == mask_);
}

void Vocab::save(const std::filesystem::path& file) const {
  std::string text;
  for (const std::string& token : tokens_) (text += token) += '\n';
  write_file_atomically(file, text);
}

uint64_t Vocab::hash() const {
  uint64_t hash = kFnvOffset;
  const auto add = [&](char c) { hash = (hash ^ static_cast<uint8_t>(c)) * kFnvPrime; };
  for (const std::string& token : tokens_) {
    for (const char c : token) add(c);
    add('\n');
  }
  return hash;
}

}  // namespace minibert
