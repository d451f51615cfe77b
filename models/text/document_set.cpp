// document_set.cpp: see document_set.h.
#include "models/text/document_set.h"

#include <algorithm>
#include <bit>

namespace minibert {
namespace {

static_assert(std::endian::native == std::endian::little, "ids are kept as they are in memory");

template <typename T>
std::span<const uint8_t> bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()};
}

}  // namespace

void DocumentSet::add_sentence(std::span<const int32_t> ids) {
  sentence_begin_.push_back(tokens());
  if (id_bytes_ == sizeof(int32_t)) return ids_.append(bytes_of(ids));
  short_ids_.resize(ids.size());
  std::transform(ids.begin(), ids.end(), short_ids_.begin(),
                 [](int32_t id) { return static_cast<uint16_t>(id); });
  ids_.append(bytes_of(std::span<const uint16_t>(short_ids_)));
}

void DocumentSet::seal() {
  document_begin_.seal();
  sentence_begin_.seal();
  ids_.seal();
}

void DocumentSet::store() {
  document_begin_.store();
  sentence_begin_.store();
  ids_.store();
}

bool DocumentSet::adopt(int64_t documents, int64_t sentences, int64_t tokens) {
  return document_begin_.adopt(documents) && sentence_begin_.adopt(sentences) &&
         ids_.adopt(tokens * id_bytes_);
}

int64_t DocumentSet::sentences_of(int64_t document) const {
  const auto [begin, end] = sentences_between(document);
  return end - begin;
}

int64_t DocumentSet::tokens_of(int64_t document) const {
  const auto [begin, end] = sentences_between(document);
  return token_begin(end) - token_begin(begin);
}

SentenceRun DocumentSet::read(int64_t document, int64_t first, int64_t wanted) const {
  const auto [begin, end] = sentences_between(document);
  const int64_t from = begin + first;
  SentenceRun run;
  // No sentence is empty: as many as tokens are enough.
  run.begins = token_begins(from, std::clamp<int64_t>(wanted, 1, end - from));
  const int64_t start = run.begins[0];
  for (int64_t& place : run.begins) place -= start;
  const auto enough = std::lower_bound(run.begins.begin() + 1, run.begins.end(), wanted);
  if (enough != run.begins.end()) run.begins.erase(enough + 1, run.begins.end());
  const int64_t count = run.begins.back();
  run.ids.resize(static_cast<size_t>(count));
  if (id_bytes_ == sizeof(int32_t)) {
    ids_.read(start * id_bytes_, count * id_bytes_, reinterpret_cast<uint8_t*>(run.ids.data()));
  } else {
    std::vector<uint16_t> short_ids(run.ids.size());
    ids_.read(start * id_bytes_, count * id_bytes_, reinterpret_cast<uint8_t*>(short_ids.data()));
    std::copy(short_ids.begin(), short_ids.end(), run.ids.begin());
  }
  return run;
}

/// Number of its first sentence, and of the first of the next document.
std::pair<int64_t, int64_t> DocumentSet::sentences_between(int64_t document) const {
  int64_t borders[2] = {0, sentences()};
  document_begin_.read(document, document + 1 < documents() ? 2 : 1, borders);
  return {borders[0], borders[1]};
}

int64_t DocumentSet::token_begin(int64_t sentence) const {
  return sentence < sentences() ? sentence_begin_[sentence] : tokens();
}

/// Of `count` sentences, and of the one after them.
std::vector<int64_t> DocumentSet::token_begins(int64_t sentence, int64_t count) const {
  std::vector<int64_t> begins(static_cast<size_t>(count) + 1, tokens());
  sentence_begin_.read(sentence, std::min(count + 1, sentences() - sentence), begins.data());
  return begins;
}

}  // namespace minibert
