// squad_metrics.cpp: the official script's steps, each as Python does it.
#include "models/text/squad_metrics.h"

#include <algorithm>
#include <cstdint>
#include <map>

#include "core/error.h"
#include "models/text/python_text_tables.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

using unicode_tables::CodePointRange;
using unicode_tables::Mapping;
using Characters = std::vector<uint32_t>;

constexpr uint32_t kCapitalSigma = 0x3A3, kSigma = 0x3C3, kFinalSigma = 0x3C2;

bool in(std::span<const CodePointRange> ranges, uint32_t c) {
  const auto after = std::ranges::upper_bound(ranges, c, {}, &CodePointRange::first);
  return after != ranges.begin() && c <= std::prev(after)->last;
}

bool is_word(uint32_t c) {
  return in(python_text_tables::kWord, c);
}

/// str.isspace of one character.
bool is_blank(uint32_t c) {
  constexpr CodePointRange kBlanks[] = {
      {0x09, 0x0D},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
      {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
  return in(kBlanks, c);
}

/// string.punctuation.
bool is_punctuation(uint32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

Characters characters_of(std::string_view text) {
  Characters characters;
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter next = decode_utf8(text, at);
    characters.push_back(next.code_point);
    at += next.length;
  }
  return characters;
}

/// Whether the next character that is not case-ignorable, from `at` on in steps of `step`, is cased.
bool cased_beyond(const Characters& text, size_t at, ptrdiff_t step) {
  for (auto i = static_cast<ptrdiff_t>(at) + step; i >= 0 && i < std::ssize(text); i += step) {
    const uint32_t c = text[static_cast<size_t>(i)];
    if (!in(python_text_tables::kCaseIgnorable, c)) return in(python_text_tables::kCased, c);
  }
  return false;
}

/// str.lower: a capital sigma at the end of a word has a form of its own.
Characters lower(const Characters& text) {
  Characters result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == kCapitalSigma) {
      const bool final = cased_beyond(text, i, -1) && !cased_beyond(text, i, +1);
      result.push_back(final ? kFinalSigma : kSigma);
      continue;
    }
    const auto map =
        std::ranges::lower_bound(python_text_tables::kLower, text[i], {}, &Mapping::from);
    if (map == python_text_tables::kLower.end() || map->from != text[i]) {
      result.push_back(text[i]);
      continue;
    }
    for (const uint32_t c : map->to)
      if (c != 0) result.push_back(c);
  }
  return result;
}

bool is_article(std::span<const uint32_t> word) {
  for (const std::string_view article : {"a", "an", "the"})
    if (std::ranges::equal(word, article,
                           [](uint32_t c, char a) { return c == static_cast<unsigned char>(a); }))
      return true;
  return false;
}

/// re.sub(r'\b(a|an|the)\b', ' '): an article is a whole run of word characters.
Characters without_articles(const Characters& text) {
  Characters result;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && is_word(text[end])) ++end;
    if (end == i) {
      result.push_back(text[i++]);
      continue;
    }
    const std::span run = std::span(text).subspan(i, end - i);
    if (is_article(run)) {
      result.push_back(' ');
    } else {
      result.insert(result.end(), run.begin(), run.end());
    }
    i = end;
  }
  return result;
}

/// The words of a normalised answer.
std::vector<std::string> words_of(std::string_view text) {
  Characters characters = lower(characters_of(text));
  std::erase_if(characters, is_punctuation);
  std::vector<std::string> words;
  bool inside = false;
  for (const uint32_t c : without_articles(characters)) {
    if (is_blank(c)) {
      inside = false;
      continue;
    }
    if (!inside) words.emplace_back();
    inside = true;
    append_utf8(c, words.back());
  }
  return words;
}

double f1_of(const std::vector<std::string>& prediction, const std::vector<std::string>& answer) {
  std::map<std::string_view, int64_t> left;
  for (const std::string& word : answer) ++left[word];
  int64_t same = 0;
  for (const std::string& word : prediction) {
    const auto found = left.find(word);
    if (found == left.end() || found->second == 0) continue;
    --found->second;
    ++same;
  }
  if (same == 0) return 0;
  const double precision = static_cast<double>(same) / static_cast<double>(prediction.size());
  const double recall = static_cast<double>(same) / static_cast<double>(answer.size());
  return (2 * precision * recall) / (precision + recall);
}

}  // namespace

std::string normalize_answer(std::string_view text) {
  return fmt::format("{}", fmt::join(words_of(text), " "));
}

double squad_f1(std::string_view prediction, std::string_view answer) {
  return f1_of(words_of(prediction), words_of(answer));
}

bool squad_exact_match(std::string_view prediction, std::string_view answer) {
  return words_of(prediction) == words_of(answer);
}

SquadScores score_squad(const SquadData& data, const SquadPredictions& predictions) {
  SquadScores scores;
  double exact = 0, f1 = 0;
  for (const SquadQuestion& question : data.questions) {
    ++scores.questions;
    MB_CHECK_AS(DataError, !question.answers.empty(), "{}: question {} has no answer", data.file,
                question.id);
    const auto found = predictions.find(question.id);
    if (found == predictions.end()) {
      scores.unanswered.push_back(question.id);
      continue;
    }
    const std::vector<std::string> prediction = words_of(found->second);
    double best_exact = 0, best_f1 = 0;
    for (const SquadAnswer& answer : question.answers) {
      const std::vector<std::string> right = words_of(answer.text);
      best_exact = std::max(best_exact, prediction == right ? 1.0 : 0.0);
      best_f1 = std::max(best_f1, f1_of(prediction, right));
    }
    exact += best_exact;
    f1 += best_f1;
  }
  const auto total = static_cast<double>(scores.questions);
  scores.exact_match = total > 0 ? 100.0 * exact / total : 0;
  scores.f1 = total > 0 ? 100.0 * f1 / total : 0;
  return scores;
}

std::string to_json(const SquadScores& s) {
  return fmt::format("{{\"exact_match\": {}, \"f1\": {}, \"questions\": {}, \"unanswered\": {}}}",
                     s.exact_match, s.f1, s.questions, s.unanswered.size());
}

}  // namespace minibert
