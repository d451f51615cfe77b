// squad_answers.h: from a window's scores back to the text of the answer. The last stage of SQuAD:
// scores of all windows of a question -> its n best spans -> text of the paragraph as it was written.
// Called by models/bert/question_answering.cpp. Easy to break: WordPiece lost case, accents and
// blanks, so the answer's characters are found again through the characters that both spellings have;
// equal scores keep the order of windows, starts and ends. Test: ctest -R models_text_squad_answers.
// Source: google-research/bert @ eedf571 run_squad.py (write_predictions, get_final_text).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/squad_windows.h"

namespace minibert {

struct AnswerOptions {
  int64_t n_best = 20;             // starts, ends and answers that are kept
  int64_t max_answer_length = 30;  // tokens
};

struct RankedAnswer {
  std::string text;
  double probability = 0;  // softmax over the question's n best
  float start_score = 0, end_score = 0;
};

/// A window with its scores, [S] each: of being the answer's first and last token.
struct ScoredWindow {
  const SquadWindow* window = nullptr;
  std::vector<float> start, end;
};

/// The best answers of one question, best first, each text once; one with the text "empty" where no
/// span is allowed.
std::vector<RankedAnswer> rank_answers(std::span<const ScoredWindow> windows,
                                       const TokenizedContext& context,
                                       const WordPieceTokenizer& tokenizer,
                                       const AnswerOptions& options);

/// The part of `original` ("Steve Smith's") that normalises to `normalised` ("steve smith"); all of
/// `original` where it cannot be told.
std::string align_answer(std::string_view normalised, std::string_view original,
                         const TokenizerOptions& options);

}  // namespace minibert
