// examples.cpp: turns chunks of sentences into pairs. Follows create_instances_from_document of
// google-research/bert step by step.
#include "models/text/examples.h"

#include <algorithm>
#include <deque>

#include "core/error.h"
#include "models/text/document_set.h"

namespace minibert {
namespace {

using Tokens = std::deque<int32_t>;  // cut at both ends

constexpr size_t kNearBorder = 8;  // tokens: longer words are cut

/// Cuts the longer of the two, one token at a time, at the front or the back with equal
/// probability. b may be empty.
void truncate_pair(Tokens& a, Tokens& b, int64_t budget, DrawSource& draws) {
  while (static_cast<int64_t>(a.size() + b.size()) > budget) {
    Tokens& longer = a.size() > b.size() ? a : b;
    if (draws.random() < 0.5) {
      longer.pop_front();
    } else {
      longer.pop_back();
    }
  }
}

Example join(const Tokens& a, const Tokens& b, const TokenTable& table, int8_t label) {
  Example example;
  example.ids.reserve(a.size() + b.size() + 3);
  example.ids.push_back(table.cls);
  example.ids.insert(example.ids.end(), a.begin(), a.end());
  example.ids.push_back(table.sep);
  example.first_segment = static_cast<int32_t>(example.ids.size());
  example.nsp_label = label;
  if (label == kNspNone) return example;
  example.ids.insert(example.ids.end(), b.begin(), b.end());
  example.ids.push_back(table.sep);
  return example;
}

/// One pass over one document: grows a chunk of sentences and turns it into an example.
class DocumentPass {
 public:
  DocumentPass(const DocumentSet& documents, int64_t document, const TokenTable& table,
               const ExampleOptions& options, DrawSource& draws)
      : documents_(documents),
        document_(document),
        own_(documents.read(document)),
        table_(table),
        options_(options),
        draws_(draws),
        budget_(token_budget(options)),
        target_(budget_) {}

  std::vector<Example> run() {
    if (draws_.random() < options_.short_sequence_prob) target_ = draws_.randint(2, budget_);
    const int64_t sentences = own_.size();
    int64_t chunk_begin = 0, chunk_tokens = 0;
    for (int64_t i = 0; i < sentences; ++i) {
      chunk_tokens += static_cast<int64_t>(own_[i].size());
      if (i + 1 < sentences && chunk_tokens < target_) continue;
      i -= options_.nsp ? finish_pair(chunk_begin, i + 1) : finish_single(chunk_begin, i + 1);
      chunk_begin = i + 1;
      chunk_tokens = 0;
    }
    return std::move(examples_);
  }

 private:
  void append(Tokens& to, int64_t sentence) const {
    const auto ids = own_[sentence];
    to.insert(to.end(), ids.begin(), ids.end());
  }

  /// Turns sentences [begin, end) into one pair. Returns how many of the last ones are put back.
  int64_t finish_pair(int64_t begin, int64_t end) {
    const int64_t size = end - begin;
    const int64_t a_size = size >= 2 ? draws_.randint(1, size - 1) : 1;
    Tokens a, b;
    for (int64_t j = begin; j < begin + a_size; ++j) append(a, j);
    const bool random_next = size == 1 || draws_.random() < 0.5;
    if (random_next) {
      random_b(target_ - static_cast<int64_t>(a.size()), b);
    } else {
      for (int64_t j = begin + a_size; j < end; ++j) append(b, j);
    }
    const size_t own = a.size() + (random_next ? 0 : b.size());
    truncate_pair(a, b, budget_, draws_);
    examples_.push_back(join(a, b, table_, random_next ? kNspRandom : kNspNext));
    examples_.back().lost_tokens =
        static_cast<int32_t>(own - a.size() - (random_next ? 0 : b.size()));
    return random_next ? size - a_size : 0;
  }

  /// Takes B from a random place of another document, up to the room that the target leaves, at
  /// least one sentence.
  void random_b(int64_t wanted, Tokens& b) {
    int64_t other = document_;
    for (int attempt = 0; attempt < 10 && other == document_; ++attempt) {
      other = draws_.randint(0, documents_.documents() - 1);
    }
    const int64_t first = draws_.randint(0, documents_.sentences_of(other) - 1);
    const SentenceRun run = documents_.read(other, first, wanted);
    b.assign(run.ids.begin(), run.ids.end());
  }

  int64_t finish_single(int64_t begin, int64_t end) {
    Tokens a, none;
    for (int64_t j = begin; j < end; ++j) append(a, j);
    const size_t own = a.size();
    truncate_pair(a, none, budget_, draws_);
    examples_.push_back(join(a, none, table_, kNspNone));
    examples_.back().lost_tokens = static_cast<int32_t>(own - a.size());
    return 0;
  }

  const DocumentSet& documents_;
  const int64_t document_;
  const SentenceRun own_;  // the document
  const TokenTable& table_;
  const ExampleOptions& options_;
  DrawSource& draws_;
  const int64_t budget_;
  int64_t target_;
  std::vector<Example> examples_;
};

}  // namespace

void cut_sentence(std::span<const int32_t> ids, const TokenTable& table,
                  const ExampleOptions& options, std::vector<std::span<const int32_t>>& pieces) {
  const int64_t budget = token_budget(options);
  const int64_t limit = options.max_sentence_tokens == ExampleOptions::kWhatFits
                            ? budget
                            : options.max_sentence_tokens;
  if (limit == 0 || static_cast<int64_t>(ids.size()) <= limit) return pieces.push_back(ids);
  const auto wanted = static_cast<size_t>(std::min(limit, options.nsp ? (budget + 1) / 2 : budget));
  const auto continues = [&](size_t at) {
    return table.continues_word[static_cast<size_t>(ids[at])] != 0;
  };
  for (size_t begin = 0; begin < ids.size();) {
    size_t end = std::min(begin + wanted, ids.size());
    while (end < ids.size() && end < begin + wanted + kNearBorder && continues(end)) ++end;
    if (end < ids.size() && continues(end)) end = begin + wanted;  // no border is near
    pieces.push_back(ids.subspan(begin, end - begin));
    begin = end;
  }
}

std::vector<Example> create_examples(const DocumentSet& documents, int64_t document,
                                     const TokenTable& table, const ExampleOptions& options,
                                     DrawSource& draws) {
  MB_ASSERT(options.sequence_length >= 5, "examples: sequence length {}", options.sequence_length);
  return DocumentPass(documents, document, table, options, draws).run();
}

}  // namespace minibert
