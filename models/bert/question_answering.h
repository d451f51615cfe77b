// question_answering.h: a BERT with a head for spans answers the questions of a file. Called by the
// verb `eval squad` and, while fine-tuning, by models/training. Nothing is padded: windows lie one
// after the other. Easy to break: a question's windows are ranked together, so they stay together.
// Test: ctest -R finetune_verb.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/bert/bert.h"
#include "models/text/squad_answers.h"

namespace minibert {

/// The best answers of each question, in the order of the file.
using AnswersByQuestion = std::vector<std::vector<RankedAnswer>>;

/// `stop` is asked between forward passes; if true, nothing is returned.
/// Errors: UsageError if the model lacks qa_outputs; NumericError for a score that is NaN.
std::optional<AnswersByQuestion> answer_questions(
    const BertForPreTraining& model, const SquadWindows& windows,
    const WordPieceTokenizer& tokenizer, const AnswerOptions& options,
    const std::function<bool()>& stop = [] { return false; });

/// The best answer of each question by id.
SquadPredictions predictions_of(const SquadData& data, const AnswersByQuestion& answers);
/// {"ID": "text", ...}, as the official script reads it, in the order of the file.
std::string predictions_json(const SquadData& data, const AnswersByQuestion& answers);
/// {"ID": [{"text", "probability", "start_logit", "end_logit"}, ...], ...}, as run_squad.py writes it.
std::string n_best_json(const SquadData& data, const AnswersByQuestion& answers);

}  // namespace minibert
