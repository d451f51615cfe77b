// squad_windows.cpp: words, tokens, the answer's tokens, windows.
#include "models/text/squad_windows.h"

#include <algorithm>

#include "core/error.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

/// What separates words in run_squad.py; other blanks the tokenizer finds inside a word.
bool is_separator(uint32_t c) {
  constexpr uint32_t kNarrowNoBreakSpace = 0x202F;
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == kNarrowNoBreakSpace;
}

struct Part {
  int32_t first, tokens;
};

std::vector<Part> parts_of(int32_t tokens, int32_t room, int32_t stride) {
  std::vector<Part> parts;
  for (int32_t first = 0; first < tokens;) {
    const int32_t length = std::min(tokens - first, room);
    parts.push_back({first, length});
    if (first + length == tokens) break;
    first += std::min(length, stride);
  }
  return parts;
}

/// The part in which a token has the most context: the smaller of what is left and right of it, and
/// a hundredth of the part's length, so that longer parts win. Of equals the first.
size_t best_part(const std::vector<Part>& parts, int32_t token) {
  size_t best = 0;
  double best_score = -1;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int32_t end = parts[i].first + parts[i].tokens - 1;
    if (token < parts[i].first || token > end) continue;
    const double score =
        std::min(token - parts[i].first, end - token) + 0.01 * static_cast<double>(parts[i].tokens);
    if (score > best_score) {
      best = i;
      best_score = score;
    }
  }
  return best;
}

/// First and last token of an answer in its context.
struct TokenRange {
  int32_t first, last;
};

/// The tokens of the answer's words; inside them, the answer's own tokens, if they are there as they
/// are: "1895" of "(1895-1943)." Source: run_squad.py, _improve_answer_span.
TokenRange answer_tokens(const SquadAnswer& answer, const TokenizedContext& context,
                         const WordPieceTokenizer& tokenizer) {
  const auto last_character =
      answer.start + static_cast<int64_t>(count_characters(answer.text)) - 1;
  const auto word_at = [&](int64_t character) {
    return static_cast<size_t>(
        std::max(0, context.word_of_character[static_cast<size_t>(character)]));
  };
  const int32_t first = context.first_token[word_at(answer.start)];
  const int32_t last = context.first_token[word_at(last_character) + 1] - 1;
  const std::vector<int32_t> wanted = tokenizer.encode(answer.text);
  const auto length = static_cast<int32_t>(wanted.size());
  if (length == 0) return {first, last};
  for (int32_t start = first; start + length - 1 <= last; ++start)
    if (std::equal(wanted.begin(), wanted.end(), context.ids.begin() + start))
      return {start, start + length - 1};
  return {first, last};
}

void check(const WindowOptions& options) {
  MB_CHECK(options.max_query_length >= 1, "squad: max_query_length is {}, expected at least 1",
           options.max_query_length);
  MB_CHECK(options.doc_stride >= 1, "squad: doc_stride is {}, expected at least 1",
           options.doc_stride);
  MB_CHECK(
      options.max_sequence_length > options.max_query_length + 3,
      "squad: max_sequence_length is {}, expected more than {} (max_query_length, [CLS] and two "
      "[SEP]). Raise --max-sequence-length or lower --max-query-length",
      options.max_sequence_length, options.max_query_length + 3);
}

}  // namespace

TokenizedContext tokenize_context(std::string_view context, const WordPieceTokenizer& tokenizer) {
  TokenizedContext result;
  size_t word_start = std::string_view::npos;
  const auto end_word = [&](size_t at) {
    if (word_start != std::string_view::npos)
      result.words.push_back(context.substr(word_start, at - word_start));
    word_start = std::string_view::npos;
  };
  for (size_t at = 0; at < context.size();) {
    const DecodedCharacter next = decode_utf8(context, at);
    if (is_separator(next.code_point)) {
      end_word(at);
    } else if (word_start == std::string_view::npos) {
      word_start = at;
    }
    const bool inside = word_start != std::string_view::npos;
    result.word_of_character.push_back(static_cast<int32_t>(result.words.size()) -
                                       (inside ? 0 : 1));
    at += next.length;
  }
  end_word(context.size());
  for (size_t word = 0; word < result.words.size(); ++word) {
    result.first_token.push_back(static_cast<int32_t>(result.ids.size()));
    tokenizer.encode_into(result.words[word], result.ids);
    result.word_of_token.resize(result.ids.size(), static_cast<int32_t>(word));
  }
  result.first_token.push_back(static_cast<int32_t>(result.ids.size()));
  return result;
}

SquadWindows::SquadWindows(const SquadData& data, const WordPieceTokenizer& tokenizer,
                           const WindowOptions& options, SquadUse use)
    : data_(data), options_(options) {
  check(options);
  for (const std::string& context : data.contexts)
    contexts_.push_back(tokenize_context(context, tokenizer));
  for (size_t question = 0; question < data.questions.size(); ++question)
    add(question, tokenizer, use);
}

void SquadWindows::add(size_t number, const WordPieceTokenizer& tokenizer, SquadUse use) {
  const SquadQuestion& question = data_.questions[number];
  const TokenizedContext& context = contexts_[question.context];
  std::vector<int32_t> query = tokenizer.encode(question.text);
  if (std::ssize(query) > options_.max_query_length) {
    query.resize(static_cast<size_t>(options_.max_query_length));
    ++cut_questions_;
  }
  const auto room = static_cast<int32_t>(options_.max_sequence_length - std::ssize(query) - 3);
  const auto tokens = static_cast<int32_t>(context.ids.size());
  const std::vector<Part> parts = parts_of(tokens, room, static_cast<int32_t>(options_.doc_stride));
  const bool training = use == SquadUse::train;
  const TokenRange answer =
      training ? answer_tokens(question.answers.front(), context, tokenizer) : TokenRange{0, -1};
  std::vector<size_t> best(static_cast<size_t>(tokens));
  for (int32_t token = 0; token < tokens; ++token)
    best[static_cast<size_t>(token)] = best_part(parts, token);
  for (size_t p = 0; p < parts.size(); ++p) {
    const Part part = parts[p];
    SquadWindow window{.question = number, .first_token = part.first};
    window.ids.push_back(tokenizer.vocab().cls_id());
    window.ids.insert(window.ids.end(), query.begin(), query.end());
    window.ids.push_back(tokenizer.vocab().sep_id());
    window.first_segment = static_cast<int32_t>(window.ids.size());
    for (int32_t i = part.first; i < part.first + part.tokens; ++i) {
      window.ids.push_back(context.ids[static_cast<size_t>(i)]);
      window.max_context.push_back(best[static_cast<size_t>(i)] == p);
    }
    window.ids.push_back(tokenizer.vocab().sep_id());
    const bool whole = answer.first >= part.first && answer.last < part.first + part.tokens &&
                       answer.first <= answer.last;
    if (training && whole) {
      window.start = answer.first - part.first + window.first_segment;
      window.end = answer.last - part.first + window.first_segment;
    }
    windows_.push_back(std::move(window));
  }
}

}  // namespace minibert
