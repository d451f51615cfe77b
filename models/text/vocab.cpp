// vocab.cpp: reads vocab.txt, looks tokens up by binary search, writes it. See vocab.h.
#include "models/text/vocab.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/error.h"
#include "core/shell_word.h"
#include "models/text/atomic_file.h"
#include "models/text/shard.h"  // kMostIds
#include "models/text/unicode.h"

namespace minibert {
namespace {

constexpr uint64_t kFnvOffset = 0xcbf29ce484222325, kFnvPrime = 0x100000001b3;
constexpr int32_t kMostHoles = 1 << 20;  // ids without a token; each takes 32 bytes

std::string_view without_blanks(std::string_view line) {
  return line.substr(0, line.find_last_not_of(" \t\r") + 1);
}

/// Lines without line ends and trailing blanks.
std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    lines.emplace_back(without_blanks(line));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// Without the white space of any kind at its end, which `tokenizers` removes from a line.
std::string_view trim_end(std::string_view token) {
  while (!token.empty()) {
    size_t start = token.size() - 1;
    while (start > 0 && (static_cast<uint8_t>(token[start]) & 0xC0) == 0x80) --start;
    if (!is_white_space(decode_utf8(token, start).code_point)) break;
    token.remove_suffix(token.size() - start);
  }
  return token;
}

void drop_blank_tail(std::vector<std::string>& lines) {
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
}

}  // namespace

Vocab Vocab::load(const std::filesystem::path& file) {
  Vocab vocab = load_lines(file);
  vocab.set_special({}, file.string());
  return vocab;
}

Vocab Vocab::load_lines(const std::filesystem::path& file) {
  std::error_code ignored;
  MB_CHECK_AS(DataError, !std::filesystem::is_directory(file, ignored),
              "{}: is a folder, expected a vocabulary file. Give the path of its vocab.txt.",
              file.string());
  const std::string text = read_whole_file(
      file, "Check the path, or train a vocabulary with `minibert tokenizer train`.");
  MB_CHECK_AS(DataError, !text.starts_with("\xEF\xBB\xBF"),
              "{}: begins with a byte order mark, which Transformers takes for a part of the first "
              "token, expected that token. Remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' {}",
              file.string(), shell_word(file.string()));
  std::vector<std::string> lines = split_lines(text);
  std::vector<Entry> entries;
  for (size_t i = 0; i < lines.size(); ++i)
    entries.emplace_back(trim_end(lines[i]), static_cast<int32_t>(i));
  drop_blank_tail(lines);
  Vocab vocab;
  vocab.tokens_ = std::move(lines);
  vocab.check_utf8(file.string());
  vocab.index(std::move(entries));
  return vocab;
}

Vocab Vocab::from_tokens(std::vector<std::string> tokens, std::string_view origin) {
  std::vector<Entry> entries;
  for (const std::string& token : tokens)
    entries.emplace_back(token, static_cast<int32_t>(entries.size()));
  Vocab vocab;
  vocab.tokens_ = std::move(tokens);
  vocab.check_utf8(origin);
  vocab.index(std::move(entries));
  vocab.set_special({}, origin);
  return vocab;
}

Vocab Vocab::from_entries(const std::vector<Entry>& entries, std::string_view origin) {
  Vocab vocab;
  std::vector<bool> taken;
  const auto most = std::min<int64_t>(kMostIds, std::ssize(entries) + kMostHoles);
  for (const auto& [token, id] : entries) {
    MB_CHECK_AS(DataError, id >= 0 && id < most,
                "{}: token '{}' has id {}, expected 0 to {} for {} tokens. Get the file again from "
                "where the model came from.",
                origin, token, id, most - 1, entries.size());
    const auto at = static_cast<size_t>(id);
    if (at >= taken.size()) {
      taken.resize(at + 1);
      vocab.tokens_.resize(at + 1);
    }
    MB_CHECK_AS(DataError, !taken[at],
                "{}: tokens '{}' and '{}' both have id {}, expected an id for each. Get the file "
                "again from where the model came from.",
                origin, vocab.tokens_[at], token, id);
    taken[at] = true;
    vocab.tokens_[at] = token;
  }
  vocab.check_utf8(origin);
  vocab.index(entries);
  return vocab;
}

void Vocab::check_utf8(std::string_view origin) const {
  MB_CHECK_AS(DataError, !tokens_.empty(),
              "{}: vocabulary is empty, expected one token per line. Train one with "
              "`minibert tokenizer train`.",
              origin);
  for (size_t i = 0; i < tokens_.size(); ++i)
    MB_CHECK_AS(DataError, count_invalid_utf8(tokens_[i]) == 0,
                "{}: line {} is not valid UTF-8, expected text. Convert the file to UTF-8, or get "
                "the vocabulary again.",
                origin, i + 1);
}

/// Keeps the last id of each token.
void Vocab::index(std::vector<Entry> entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.first < b.first; });
  for (Entry& entry : entries) {
    if (!pieces_.empty() && pieces_.back().first == entry.first) {
      pieces_.back().second = entry.second;
    } else {
      pieces_.push_back(std::move(entry));
    }
  }
  size_ = static_cast<int32_t>(tokens_.size());
  distinct_ = static_cast<int32_t>(pieces_.size());
  if (!pieces_.empty() && pieces_.front().first.empty()) pieces_.erase(pieces_.begin());
}

void Vocab::set_special(const SpecialNames& names, std::string_view origin) {
  std::string missing;
  const auto required = [&](const std::string& token) {
    const int32_t found = id(token);
    if (found < 0) missing += (missing.empty() ? "" : ", ") + token;
    return found;
  };
  pad_ = id(names.pad);
  unk_ = required(names.unk);
  cls_ = required(names.cls);
  sep_ = required(names.sep);
  mask_ = required(names.mask);
  MB_CHECK_AS(DataError, missing.empty(),
              "{}: token {} is missing from {} lines, expected {}, {}, {} and {} (BERT's special "
              "tokens). Add it, or train a vocabulary with `minibert tokenizer train`.",
              origin, missing, size(), names.unk, names.cls, names.sep, names.mask);
}

void Vocab::add(std::string_view token, int32_t id, bool listed) {
  if (this->id(token) == id) return;
  MB_ASSERT(id >= 0, "vocab: id {} of added token {}", id, token);
  const auto at = static_cast<size_t>(id);
  if (at >= tokens_.size()) tokens_.resize(at + 1);
  tokens_[at] = token;
  added_[std::string(token)] = id;
  if (listed) size_ = std::max(size_, id + 1);
}

int32_t Vocab::id(std::string_view token) const {
  if (const auto added = added_.find(token); added != added_.end()) return added->second;
  const auto found =
      std::lower_bound(pieces_.begin(), pieces_.end(), token,
                       [](const Entry& a, std::string_view b) { return a.first < b; });
  return found != pieces_.end() && found->first == token ? found->second : -1;
}

std::string_view Vocab::token(int32_t id) const {
  MB_CHECK(id >= 0 && id < std::ssize(tokens_),
           "vocab: id is {}, expected 0 to {} (the size of the vocabulary minus 1).", id,
           std::ssize(tokens_) - 1);
  return tokens_[static_cast<size_t>(id)];
}

bool Vocab::is_special(int32_t id) const {
  return id >= 0 && (id == pad_ || id == unk_ || id == cls_ || id == sep_ || id == mask_);
}

void Vocab::save(const std::filesystem::path& file) const {
  write_file_atomically(file, text());
}

std::string Vocab::text() const {
  std::string text;
  for (const std::string& token : std::span(tokens_).first(static_cast<size_t>(size_))) {
    const bool fits = token.find('\n') == std::string::npos;
    text += fits ? without_blanks(token) : "";
    text += '\n';
  }
  return text;
}

uint64_t Vocab::hash() const {
  uint64_t hash = kFnvOffset;
  for (const char c : text()) hash = (hash ^ static_cast<uint8_t>(c)) * kFnvPrime;
  return hash;
}

}  // namespace minibert
