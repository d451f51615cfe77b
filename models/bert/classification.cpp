// classification.cpp: texts through the model, guesses counted.
#include "models/bert/classification.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "models/bert/hugging_face.h"
#include "models/bert/inference.h"
#include "models/bert/weight_files.h"
#include "models/text/tokenizer_fields.h"

namespace minibert {
namespace {

constexpr int64_t kTokensAtATime = 4096;  // limits the memory of activations

int32_t best_class(std::span<const float> scores, size_t text) {
  for (const float score : scores)
    MB_CHECK_AS(NumericError, !std::isnan(score),
                "classification: a score of text {} is NaN, expected a number. The model's weights "
                "are damaged, or too large for their type",
                text + 1);
  return static_cast<int32_t>(std::ranges::max_element(scores) - scores.begin());
}

/// A number that has no name would get another's, or LABEL_3.
void check_names(const nlohmann::json& names, const TokenizerFields& fields) {
  size_t named = 0;  // numbers from 0 on that have one
  while (names.is_object() && names.contains(std::to_string(named))) ++named;
  MB_CHECK_AS(
      DataError, names.is_object() && named == names.size(),
      "{}: id2label {}, expected names for all numbers from 0. Write it as {{\"0\": "
      "\"...\", \"1\": \"...\"}}, with the numbers of the classifier's rows",
      fields.source,
      names.is_object() ? fmt::format("has no name for {}", named) : "is " + json_text(names));
}

/// Transformers keeps both maps as they are: its predictions take id2label, its training label2id.
void check_ids(const nlohmann::json& names, const TokenizerFields& fields) {
  const nlohmann::json* ids = fields.find("label2id");
  if (!ids || !ids->is_object() || !names.is_object()) return;
  for (const auto& [id, name] : names.items()) {
    const auto found = name.is_string() ? ids->find(name.get<std::string>()) : ids->end();
    if (found == ids->end() || !found->is_number_integer()) continue;
    const std::string number = found->dump();  // of several rows with this name, label2id has one
    MB_CHECK_AS(DataError, number == id || (names.contains(number) && names[number] == name),
                "{}: id2label has \"{}\": {}, but label2id has {}: {}, expected one number for a "
                "label. Make them equal: the numbers that the model was trained with",
                fields.source, id, json_text(name), json_text(name), number);
  }
}

/// Whether config.json is of a model that labels no whole texts.
bool labels_other_things(const nlohmann::json& config) {
  const nlohmann::json architectures = config.value("architectures", nlohmann::json::array());
  return architectures.is_array() && architectures.size() == 1 &&
         (architectures[0] == "BertForTokenClassification" ||
          architectures[0] == "BertForMultipleChoice");
}

std::string default_name(size_t number) {
  return fmt::format("LABEL_{}", number);
}

}  // namespace

std::vector<std::string> classifier_labels(const std::filesystem::path& folder) {
  constexpr const char* kWeight = "classifier.weight";
  const nlohmann::json config = read_json_object(folder / "config.json");
  const nlohmann::json problem = config.value("problem_type", nlohmann::json());
  if (labels_other_things(config) ||
      !(problem.is_null() || problem == "single_label_classification"))
    return {};
  if (!WeightFiles::in_folder(folder)) return {};
  const WeightFiles weights = WeightFiles::open_folder(folder);
  if (!weights.has(kWeight) || weights.entry(kWeight).shape.size() != 2) return {};
  const auto classes = static_cast<size_t>(weights.entry(kWeight).shape[0]);
  std::vector<std::string> labels = load_hugging_face_config(folder).labels;
  if (labels.empty())
    for (size_t i = 0; i < classes; ++i) labels.push_back(default_name(i));
  const bool distinct = std::set<std::string>(labels.begin(), labels.end()).size() == classes;
  return distinct && labels.size() == classes && classes > 1 ? labels : std::vector<std::string>();
}

std::optional<std::vector<std::string>> names_in(const std::vector<std::string>& labels,
                                                 const std::vector<std::string>& classifier) {
  const auto holds = [&](const std::vector<std::string>& names) {
    return std::ranges::all_of(labels, [&](const std::string& label) {
      return std::ranges::find(names, label) != names.end();
    });
  };
  if (holds(classifier)) return classifier;
  std::vector<std::string> numbers;
  for (size_t i = 0; i < classifier.size(); ++i) {
    if (classifier[i] != default_name(i)) return std::nullopt;
    numbers.push_back(std::to_string(i));
  }
  return holds(numbers) ? std::optional(numbers) : std::nullopt;
}

void check_classifier(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  const nlohmann::json config = read_json_object(file);
  const TokenizerFields fields{config, file.string()};
  const nlohmann::json* problem = fields.find("problem_type");
  MB_CHECK_AS(DataError, !problem || *problem == "single_label_classification",
              "{}: problem_type is {}, expected \"single_label_classification\": the model gives a "
              "text no one label. Only models that do can be scored",
              file.string(), json_text(*problem));
  const nlohmann::json architectures = config.value("architectures", nlohmann::json::array());
  MB_CHECK_AS(
      DataError, !labels_other_things(config),
      "{}: architectures is {}, expected BertForSequenceClassification: the model labels no "
      "whole texts. Only models that do can be scored",
      file.string(), json_text(architectures));
  const nlohmann::json* names = fields.find("id2label");
  MB_CHECK_AS(DataError, !names || names->size() != 1,
              "{}: id2label has one label, expected two or more: the model computes a number "
              "(regression), no label. Only models that choose a label can be scored",
              file.string());
  if (names) {
    check_names(*names, fields);
    check_ids(*names, fields);
  }
}

std::vector<std::string> class_names(const BertForPreTraining& model,
                                     const std::string& config_file) {
  std::vector<std::string> names = model.config().labels;
  const int64_t classes = model.parts().classes;
  if (names.empty())
    for (int64_t i = 0; i < classes; ++i) names.push_back(default_name(static_cast<size_t>(i)));
  MB_CHECK_AS(DataError, std::ssize(names) == classes,
              "{}: id2label has {} labels, expected {} (rows of classifier.weight). Name them: "
              "\"id2label\": {{\"0\": \"...\", ...}}",
              config_file, names.size(), classes);
  return names;
}

std::optional<std::vector<int32_t>> classify(const BertForPreTraining& model,
                                             std::span<const std::vector<int32_t>> texts,
                                             const std::function<bool()>& stop) {
  const NoGrad guard;
  std::vector<int32_t> guesses;
  size_t first = 0;
  for (const size_t end : group_by_tokens(texts, kTokensAtATime)) {
    if (stop()) return std::nullopt;
    const DeviceBatch batch =
        upload(pack_sequences(texts.subspan(first, end - first), model.limits()), model.device());
    const Tensor scores = model.class_scores(model.encode(batch, StepContext{}), batch);
    for (int64_t b = 0; b < scores.dim(0); ++b)
      guesses.push_back(best_class(scores.rows(b, 1).span<float>(), guesses.size()));
    first = end;
  }
  return guesses;
}

ClassScores score_classes(std::span<const int32_t> guesses, std::span<const int32_t> labels,
                          int64_t classes) {
  MB_CHECK(guesses.size() == labels.size(), "classification: {} guesses, {} labels", guesses.size(),
           labels.size());
  struct Counts {
    int64_t right = 0, guessed = 0, there = 0;
  };
  std::vector<Counts> counts(static_cast<size_t>(classes));
  int64_t right = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    Counts& label = counts[static_cast<size_t>(labels[i])];
    ++label.there;
    ++counts[static_cast<size_t>(guesses[i])].guessed;
    if (guesses[i] != labels[i]) continue;
    ++label.right;
    ++right;
  }
  ClassScores scores;
  scores.texts = std::ssize(labels);
  double sum = 0, occurring = 0;
  for (const Counts& c : counts) {
    if (c.guessed + c.there == 0) continue;
    ++occurring;
    sum += 2 * static_cast<double>(c.right) / static_cast<double>(c.guessed + c.there);
  }
  if (scores.texts == 0) return scores;
  scores.accuracy = static_cast<double>(right) / static_cast<double>(scores.texts);
  scores.macro_f1 = sum / occurring;
  return scores;
}

std::string to_json(const ClassScores& s) {
  return fmt::format("{{\"accuracy\": {}, \"macro_f1\": {}, \"texts\": {}}}", s.accuracy,
                     s.macro_f1, s.texts);
}

}  // namespace minibert
