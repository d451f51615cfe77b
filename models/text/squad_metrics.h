// squad_metrics.h: exact match and F1 of SQuAD 1.1, with the bits of the official script. Called by
// `eval squad` and by fine-tuning. Easy to break: the script's steps are Python's (str.lower, \b of
// re, str.split), so lower case knows the final sigma, an article is a whole run of word characters,
// and blanks are Unicode's; sums run in the order of the file. Two empty answers match exactly, yet
// have an F1 of 0. Test: ctest -R squad_metrics. Source: rajpurkar/SQuAD-explorer evaluate-v1.1.py.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/text/squad.h"

namespace minibert {

/// Lower case; ASCII punctuation removed; the words a, an, the removed; blanks squeezed. `text` is
/// UTF-8.
std::string normalize_answer(std::string_view text);

/// Harmonic mean of precision and recall over the two answers' words, each counted as often as it
/// occurs; 0 to 1.
double squad_f1(std::string_view prediction, std::string_view answer);
bool squad_exact_match(std::string_view prediction, std::string_view answer);

struct SquadScores {
  double exact_match = 0,
         f1 = 0;  // percent, mean over all questions; the best of each one's answers
  int64_t questions = 0;
  std::vector<std::string> unanswered;  // ids without a prediction: they score 0
};
/// Errors: DataError if a question has no answer (read_squad() lets none through).
SquadScores score_squad(const SquadData& data, const SquadPredictions& predictions);

/// {"exact_match": 81.25, "f1": 88.41, "questions": 10570, "unanswered": 0}; the first two as the
/// official script prints them.
std::string to_json(const SquadScores& scores);

}  // namespace minibert
