// squad_answers.cpp: ranking spans, and characters found again.
#include "models/text/squad_answers.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/error.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

struct Span {
  size_t window;
  int32_t start, end;  // in its ids
  float start_score, end_score;
};

/// Positions of the largest scores, largest first, equal ones in order.
std::vector<int32_t> largest(std::span<const float> scores, int64_t count) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + std::min<ptrdiff_t>(count, std::ssize(order));
  std::partial_sort(order.begin(), end, order.end(), [&](int32_t a, int32_t b) {
    const float x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  order.erase(end, order.end());
  return order;
}

bool allowed(const SquadWindow& window, int32_t start, int32_t end, int64_t max_answer_length) {
  const int32_t first = window.first_segment, last = first + window.part_tokens() - 1;
  return start >= first && start <= last && end >= start && end <= last &&
         window.max_context[static_cast<size_t>(start - first)] &&
         end - start + 1 <= max_answer_length;
}

/// All spans of the n best starts and ends, by the sum of their scores; equal ones in order.
std::vector<Span> spans_of(std::span<const ScoredWindow> windows, const AnswerOptions& options) {
  std::vector<Span> spans;
  for (size_t w = 0; w < windows.size(); ++w) {
    const ScoredWindow& scored = windows[w];
    MB_ASSERT(scored.start.size() == scored.window->ids.size() &&
                  scored.end.size() == scored.window->ids.size(),
              "squad: {} and {} scores of a window of {} tokens", scored.start.size(),
              scored.end.size(), scored.window->ids.size());
    const std::vector<int32_t> ends = largest(scored.end, options.n_best);
    for (const int32_t start : largest(scored.start, options.n_best))
      for (const int32_t end : ends)
        if (allowed(*scored.window, start, end, options.max_answer_length))
          spans.push_back({w, start, end, scored.start[static_cast<size_t>(start)],
                           scored.end[static_cast<size_t>(end)]});
  }
  std::ranges::stable_sort(spans, std::greater(), [](const Span& span) {
    return static_cast<double>(span.start_score) + static_cast<double>(span.end_score);
  });
  return spans;
}

std::string text_of(const Span& span, const SquadWindow& window, const TokenizedContext& context,
                    const WordPieceTokenizer& tokenizer) {
  const int32_t shift = window.first_token - window.first_segment;
  std::string normalised;
  for (int32_t i = span.start; i <= span.end; ++i) {
    const std::string_view token = tokenizer.vocab().token(window.ids[static_cast<size_t>(i)]);
    const bool continues = token.starts_with("##");
    if (!continues && !normalised.empty()) normalised += ' ';
    normalised += continues ? token.substr(2) : token;
  }
  const auto word = [&](int32_t i) {
    return static_cast<size_t>(context.word_of_token[static_cast<size_t>(i + shift)]);
  };
  const std::span words(context.words.begin() + static_cast<ptrdiff_t>(word(span.start)),
                        context.words.begin() + static_cast<ptrdiff_t>(word(span.end)) + 1);
  return align_answer(normalised, fmt::format("{}", fmt::join(words, " ")), tokenizer.options());
}

void set_probabilities(std::vector<RankedAnswer>& answers) {
  const auto score = [](const RankedAnswer& a) {
    return static_cast<double>(a.start_score) + static_cast<double>(a.end_score);
  };
  double largest = score(answers.front()), sum = 0;
  for (const RankedAnswer& answer : answers) largest = std::max(largest, score(answer));
  for (RankedAnswer& answer : answers)
    sum += answer.probability = std::exp(score(answer) - largest);
  for (RankedAnswer& answer : answers) answer.probability /= sum;
}

// ---- Alignment ---------------------------------------------------------------------------------

/// Characters that are not blanks, and where each begins and ends.
struct Letters {
  std::vector<size_t> begin, end;  // bytes of the text
};

Letters letters_of(std::string_view text) {
  Letters letters;
  for (size_t at = 0; at < text.size();) {
    const size_t length = decode_utf8(text, at).length;
    if (text[at] != ' ') {
      letters.begin.push_back(at);
      letters.end.push_back(at + length);
    }
    at += length;
  }
  return letters;
}

}  // namespace

std::string align_answer(std::string_view normalised, std::string_view original,
                         const TokenizerOptions& options) {
  const std::string spelt =
      fmt::format("{}", fmt::join(BasicTokenizer(options).split(original), " "));
  const size_t at = spelt.find(normalised);
  if (at == std::string::npos || normalised.empty()) return std::string(original);
  const Letters there = letters_of(original), here = letters_of(spelt);
  if (there.begin.size() != here.begin.size()) return std::string(original);
  const auto first = std::ranges::find(here.begin, at);
  const auto last = std::ranges::find(here.end, at + normalised.size());
  if (first == here.begin.end() || last == here.end.end()) return std::string(original);
  const size_t begin = there.begin[static_cast<size_t>(first - here.begin.begin())];
  const size_t end = there.end[static_cast<size_t>(last - here.end.begin())];
  return std::string(original.substr(begin, end - begin));
}

std::vector<RankedAnswer> rank_answers(std::span<const ScoredWindow> windows,
                                       const TokenizedContext& context,
                                       const WordPieceTokenizer& tokenizer,
                                       const AnswerOptions& options) {
  std::vector<RankedAnswer> answers;
  std::set<std::string> seen;
  for (const Span& span : spans_of(windows, options)) {
    if (std::ssize(answers) >= options.n_best) break;
    std::string text = text_of(span, *windows[span.window].window, context, tokenizer);
    if (!seen.insert(text).second) continue;
    answers.push_back({std::move(text), 0, span.start_score, span.end_score});
  }
  if (answers.empty()) answers.push_back({"empty", 0, 0, 0});
  set_probabilities(answers);
  return answers;
}

}  // namespace minibert
