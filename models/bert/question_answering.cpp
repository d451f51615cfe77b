// question_answering.cpp: windows through the model, a few thousand tokens at a time.
#include "models/bert/question_answering.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "models/text/json_text.h"

namespace minibert {
namespace {

constexpr int64_t kTokensAtATime = 4096;  // limits the memory of activations

/// The windows from `first` on that fit into one forward pass, at least one.
size_t group_end(const std::vector<SquadWindow>& windows, size_t first) {
  int64_t tokens = 0;
  size_t end = first;
  while (end < windows.size()) {
    tokens += std::ssize(windows[end].ids);
    if (end > first && tokens > kTokensAtATime) break;
    ++end;
  }
  return end;
}

PackedBatch pack_windows(std::span<const SquadWindow> windows, const BatchLimits& limits) {
  std::vector<SequenceToPack> sequences;
  for (const SquadWindow& window : windows)
    sequences.push_back({.ids = window.ids,
                         .first_segment = window.first_segment,
                         .sample = static_cast<int32_t>(sequences.size())});
  return pack(sequences, limits, /* nsp= */ false);
}

/// scores [N, 2] of the batch, to a window each.
void add_scores(const Tensor& scores, const PackedBatch& batch,
                std::span<const SquadWindow> windows, std::vector<ScoredWindow>& all) {
  const float* row = scores.data<float>();
  for (size_t b = 0; b < windows.size(); ++b) {
    ScoredWindow& scored = all.emplace_back();
    scored.window = &windows[b];
    const int32_t* ends = batch.cu_seqlens.data<int32_t>();
    for (int32_t t = ends[b]; t < ends[b + 1]; ++t) {
      scored.start.push_back(row[2 * t]);
      scored.end.push_back(row[2 * t + 1]);
      MB_CHECK_AS(
          NumericError, std::isfinite(scored.start.back() + scored.end.back()),
          "question answering: a score of question {} is not finite, expected a number. The "
          "model's weights are damaged, or too large for their type",
          windows[b].question);
    }
  }
}

}  // namespace

std::optional<AnswersByQuestion> answer_questions(const BertForPreTraining& model,
                                                  const SquadWindows& windows,
                                                  const WordPieceTokenizer& tokenizer,
                                                  const AnswerOptions& options,
                                                  const std::function<bool()>& stop) {
  const NoGrad guard;
  const std::vector<SquadWindow>& all = windows.all();
  std::vector<ScoredWindow> scored;  // of questions that are not ranked yet
  AnswersByQuestion answers(windows.data().questions.size());
  const auto rank_before = [&](size_t question) {  // all windows of earlier questions are scored
    size_t first = 0;
    while (first < scored.size() && scored[first].window->question < question) {
      const size_t number = scored[first].window->question;
      size_t end = first;
      while (end < scored.size() && scored[end].window->question == number) ++end;
      answers[number] = rank_answers(std::span(scored).subspan(first, end - first),
                                     windows.context_of(*scored[first].window), tokenizer, options);
      first = end;
    }
    scored.erase(scored.begin(), scored.begin() + static_cast<ptrdiff_t>(first));
  };
  for (size_t first = 0; first < all.size();) {
    if (stop()) return std::nullopt;
    const size_t end = group_end(all, first);
    const std::span group = std::span(all).subspan(first, end - first);
    const PackedBatch batch = pack_windows(group, model.limits());
    const Variable hidden = model.encode(upload(batch, model.device()), StepContext{});
    add_scores(model.span_scores(hidden), batch, group, scored);
    rank_before(end < all.size() ? all[end].question : answers.size());
    first = end;
  }
  // A context without tokens has no window.
  for (std::vector<RankedAnswer>& ranked : answers)
    if (ranked.empty()) ranked.push_back({.text = "empty", .probability = 1});
  return answers;
}

SquadPredictions predictions_of(const SquadData& data, const AnswersByQuestion& answers) {
  SquadPredictions predictions;
  for (size_t q = 0; q < answers.size(); ++q)
    predictions[data.questions[q].id] = answers[q].front().text;
  return predictions;
}

namespace {

/// {"ID": VALUE, ...}, an id a line. Not by way of one JSON object: keys in order make it quadratic.
template <typename ValueOf>
std::string by_id(const SquadData& data, const AnswersByQuestion& answers, const ValueOf& value) {
  std::string text = "{";
  for (size_t q = 0; q < answers.size(); ++q) {
    const nlohmann::json id = data.questions[q].id;
    text += fmt::format("{}\n    {}: {}", q == 0 ? "" : ",", json_text(id), value(answers[q]));
  }
  return text + "\n}\n";
}

}  // namespace

std::string predictions_json(const SquadData& data, const AnswersByQuestion& answers) {
  return by_id(data, answers, [](const std::vector<RankedAnswer>& ranked) {
    return json_text(nlohmann::json(ranked.front().text));
  });
}

std::string n_best_json(const SquadData& data, const AnswersByQuestion& answers) {
  return by_id(data, answers, [](const std::vector<RankedAnswer>& ranked) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const RankedAnswer& answer : ranked)
      list.push_back({{"text", answer.text},
                      {"probability", answer.probability},
                      {"start_logit", answer.start_score},
                      {"end_logit", answer.end_score}});
    return json_text(list);
  });
}

}  // namespace minibert
