// classification.h: a BERT with a classifier on its pooler labels texts, and how good the labels are.
// Called by the verb `eval classify` and, while fine-tuning, by models/training. Easy to break: macro
// F1 is the mean over the classes that occur, as a label or as a guess, whatever their sizes.
// Test: ctest -R models_bert_classification. Source: scikit-learn f1_score(average="macro").
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/bert/bert.h"

namespace minibert {

/// Errors: DataError if the folder's config.json says that its classifier does something else than to
/// choose one of several classes for a text, or if its label2id contradicts its id2label.
void check_classifier(const std::filesystem::path& folder);

/// Labels of the classifier that a folder holds, by number: id2label, or Transformers' LABEL_0,
/// LABEL_1, ... Empty if it has none, or one that does something else. Errors: DataError for files
/// that can't be read.
std::vector<std::string> classifier_labels(const std::filesystem::path& folder);

/// What texts with these labels call a classifier's: its names if they are among them; numbers, if its
/// names are LABEL_0, LABEL_1, ... and the texts have their numbers; nothing if some label is unknown.
std::optional<std::vector<std::string>> names_in(const std::vector<std::string>& labels,
                                                 const std::vector<std::string>& classifier);

/// The most probable class of each text, given as ids with [CLS] and [SEP]; of equals the first.
/// `stop` is asked between forward passes; if true, nothing is returned.
/// Errors: UsageError if the model lacks a classifier or pooler; NumericError if a score is NaN.
std::optional<std::vector<int32_t>> classify(
    const BertForPreTraining& model, std::span<const std::vector<int32_t>> texts,
    const std::function<bool()>& stop = [] { return false; });

/// Names of the classes of a classifier: id2label of its config.json, or Transformers' LABEL_0,
/// LABEL_1, ..., which config.json leaves out. Errors: DataError, naming `config_file`, if it has
/// another number of names.
std::vector<std::string> class_names(const BertForPreTraining& model,
                                     const std::string& config_file);

struct ClassScores {
  double accuracy = 0, macro_f1 = 0;  // shares of 1
  int64_t texts = 0;
};
/// Errors: UsageError unless there is a label for each guess.
ClassScores score_classes(std::span<const int32_t> guesses, std::span<const int32_t> labels,
                          int64_t classes);
/// {"accuracy": 0.93, "macro_f1": 0.92, "texts": 3080}
std::string to_json(const ClassScores& scores);

}  // namespace minibert
