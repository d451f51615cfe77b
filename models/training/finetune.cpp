// finetune.cpp: files and a model folder to the inputs of a run.
#include "models/training/finetune.h"

#include <algorithm>
#include <cmath>
#include <ranges>

#include "core/error.h"
#include "core/simd.h"
#include "models/bert/classification.h"
#include "models/bert/hugging_face.h"
#include "models/bert/question_answering.h"
#include "models/text/casing.h"
#include "models/text/checksum.h"
#include "models/text/data_faults.h"
#include "models/text/squad_metrics.h"
#include "models/text/tokenizer_config.h"
#include "models/text/tokenizer_fields.h"
#include "models/text/tokenizer_folder.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr const char* kResumeFix =
    "Resume with the --init-from of that run, or start a new run in another --output-dir.";

/// A cased vocabulary whose folder leaves out that it is cased: Transformers lower-cases the text then, too.
void note_capitals(const fs::path& folder, const WordPieceTokenizer& tokenizer,
                   std::vector<std::string>& notes) {
  const fs::path settings = folder / kTokenizerConfigFile;
  if (!tokenizer.options().lowercase || !looks_cased(tokenizer.vocab()) ||
      read_json_object(settings).contains("do_lower_case"))
    return;
  std::error_code ignored;
  const fs::path list = folder / "vocab.txt";
  notes.push_back(fmt::format(
      "{} has tokens with capital letters, which text in lower case never reaches. If the model "
      "is cased, write {{\"do_lower_case\": false}} into {}.",
      (fs::exists(list, ignored) ? list : folder / "tokenizer.json").string(), settings.string()));
}

/// What both tasks begin with: the model's shape and its tokenizer.
RunInputs open_model(const TrainConfig& config, Objective objective) {
  MB_CHECK(!config.init_from.empty(),
           "model.init_from is empty, expected the model to fine-tune: a Transformers folder or a "
           "checkpoint. Give it with --init-from.");
  MB_CHECK(!config.data.empty(),
           "data.data is empty, expected the file to learn from. Give it with --data.");
  MB_CHECK(
      phases_of(config).size() == 1,
      "the settings have {} phases, expected one: fine-tuning has no others. Remove the [[phase]] "
      "tables.",
      phases_of(config).size());
  validate(config);
  simd_level();  // throws if MINIBERT_SIMD names a level that this CPU lacks
  const fs::path folder = config.init_from;
  RunInputs inputs;
  inputs.objective = objective;
  inputs.model = load_hugging_face_config(folder);
  inputs.model.labels.clear();
  inputs.model.hidden_dropout_prob = static_cast<float>(config.hidden_dropout);
  inputs.model.attention_probs_dropout_prob = static_cast<float>(config.attention_dropout);
  inputs.parts = parts_for(objective);
  const FolderTokenizer found = open_tokenizer_folder(folder);
  inputs.notes = found.notes;
  inputs.tokenizer = {folder / "vocab.txt", found.tokenizer.options(), tokenizer_files(folder)};
  note_capitals(folder, found.tokenizer, inputs.notes);
  const uint64_t hash = found.tokenizer.vocab().hash();
  inputs.check_vocabulary = [hash, ours = inputs.tokenizer.vocab](const fs::path& vocab) {
    MB_CHECK(open_vocabulary(vocab).hash() == hash, "{}: is a different vocabulary from {}. {}",
             vocab.string(), ours.string(), kResumeFix);
  };
  return inputs;
}

void check_length(int64_t length, const BertConfig& model, const std::string& folder) {
  MB_CHECK(length <= model.max_position_embeddings,
           "max_sequence_length is {}, expected at most {} (max_position_embeddings of {}). Use "
           "--max-sequence-length {}",
           length, model.max_position_embeddings, folder, model.max_position_embeddings);
}

/// Text that the model never learnt to read: another language, or another casing.
template <typename Texts>
void note_unknown(const Texts& texts, const WordPieceTokenizer& tokenizer, RunInputs& inputs) {
  constexpr double kMost = 0.05;  // of the tokens
  int64_t unknown = 0, tokens = 0;
  for (const std::vector<int32_t>& ids : texts) {
    unknown += std::ranges::count(ids, tokenizer.vocab().unk_id());
    tokens += std::ssize(ids) - 2;  // [CLS] and [SEP]
  }
  const double share = tokens > 0 ? static_cast<double>(unknown) / static_cast<double>(tokens) : 0;
  if (share > kMost)
    inputs.notes.push_back(fmt::format(
        "{:.1f} % of the tokens are {}: the model's vocabulary lacks the words and characters of "
        "these texts. A model of their language would learn more",
        100 * share, tokenizer.vocab().token(tokenizer.vocab().unk_id())));
}

/// The one file of held-out data, or "".
std::string evaluation_file(const TrainConfig& config, RunInputs& inputs) {
  const auto sets = evaluation_sets(config);
  std::error_code ignored;
  if (sets.size() == 1 && fs::equivalent(sets[0].second, config.data, ignored))
    inputs.notes.push_back(fmt::format(
        "{}: the evaluation data are the training data, so that the score says nothing of other "
        "texts",
        config.data));
  MB_CHECK(sets.size() <= 1,
           "data.evaluation_data names {} files, expected one at most. Score others with minibert "
           "eval",
           sets.size());
  return sets.empty() ? "" : sets[0].second;
}

/// A checksum over texts, each with a zero byte behind it.
class TextSum {
 public:
  void add(const std::string& text) { crc_ = crc32_of(text.c_str(), text.size() + 1, crc_); }
  std::string hex() const { return to_hex(crc_); }

 private:
  uint32_t crc_ = 0;
};

std::string fingerprint(const SquadData& data) {
  TextSum sum;
  for (const SquadQuestion& question : data.questions) {
    for (const std::string* text : {&question.id, &question.text, &data.contexts[question.context]})
      sum.add(*text);
    for (const SquadAnswer& answer : question.answers) sum.add(answer.text);
  }
  return sum.hex();
}

std::string fingerprint(const std::vector<LabelledText>& texts) {
  TextSum sum;
  for (const LabelledText& text : texts) sum.add(text.text), sum.add(text.label);
  return sum.hex();
}

BatchLimits limits_of(const RunInputs& inputs) {
  return {inputs.model.vocab_size, inputs.model.max_position_embeddings,
          inputs.model.type_vocab_size, std::max<int64_t>(2, inputs.parts.classes)};
}

void set_loader(const TrainConfig& config, std::vector<LabelledSequence> sequences, LabelKind kind,
                const std::string& what, RunInputs& inputs) {
  const auto loader =
      std::make_shared<LabelledLoader>(std::move(sequences), kind, limits_of(inputs),
                                       LoaderOptions{.global_batch_size = config.global_batch_size,
                                                     .micro_batch_size = config.micro_batch_size,
                                                     .token_capacity = config.token_capacity,
                                                     .seed = static_cast<uint64_t>(config.seed)});
  PhaseInputs& phase = inputs.phases.emplace_back();
  phase.fingerprint = loader->fingerprint();
  phase.sequence_length = loader->longest();
  phase.description =
      fmt::format("{} of up to {} tokens, {:.1f} on average", what, loader->longest(),
                  static_cast<double>(loader->tokens()) / static_cast<double>(loader->examples()));
  phase.loader = loader;
}

}  // namespace

WordPieceTokenizer open_tokenizer(const fs::path& folder, const BertConfig& model) {
  FolderTokenizer found = open_tokenizer_folder(folder);
  found.check_rows(folder, model.vocab_size);
  return std::move(found.tokenizer);
}

int64_t steps_of(double epochs, const StepSource& data) {
  MB_CHECK(epochs > 0 && std::isfinite(epochs), "epochs is {}, expected more than 0", epochs);
  constexpr double kRounding = 1e-6;  // of a quotient that is a whole number
  const double steps = std::ceil(epochs / data.epoch_of(1) - kRounding);
  return std::max<int64_t>(1, static_cast<int64_t>(steps));
}

// ---- Questions ---------------------------------------------------------------------------------

namespace {

/// What scoring needs; windows hold views of the data.
struct HeldOutQuestions {
  SquadData data;
  WordPieceTokenizer tokenizer;
  SquadWindows windows;

  HeldOutQuestions(const std::string& file, const WordPieceTokenizer& tokenizer,
                   const WindowOptions& options)
      : data(read_squad(file, {.use = SquadUse::evaluate})),
        tokenizer(tokenizer),
        windows(data, tokenizer, options, SquadUse::evaluate) {}
};

}  // namespace

RunInputs open_squad(const TrainConfig& config, const SquadTask& task) {
  RunInputs inputs = open_model(config, Objective::question_answering);
  check_length(task.windows.max_sequence_length, inputs.model, config.init_from);
  const WordPieceTokenizer tokenizer = open_tokenizer(config.init_from, inputs.model);
  const SquadData data = read_squad(config.data, {SquadUse::train, task.skip_bad_answers});
  inputs.notes.insert(inputs.notes.end(), data.notes.begin(), data.notes.end());
  const SquadWindows windows(data, tokenizer, task.windows, SquadUse::train);
  if (windows.cut_questions() > 0)
    inputs.notes.push_back(
        fmt::format("{} questions are longer than {} tokens and were cut off "
                    "there (--max-query-length)",
                    windows.cut_questions(), task.windows.max_query_length));
  note_unknown(std::views::transform(windows.all(), &SquadWindow::ids), tokenizer, inputs);
  std::vector<LabelledSequence> sequences;
  int64_t without = 0;
  for (const SquadWindow& window : windows.all()) {
    without += window.end == 0;
    sequences.push_back({.ids = window.ids,
                         .first_segment = window.first_segment,
                         .span_start = window.start,
                         .span_end = window.end});
  }
  const size_t count = sequences.size();
  set_loader(config, std::move(sequences), LabelKind::span,
             fmt::format("{} questions, {} windows ({} without the whole answer)",
                         data.questions.size(), count, without),
             inputs);
  const std::string file = evaluation_file(config, inputs);
  if (file.empty()) return inputs;
  const auto held_out = std::make_shared<const HeldOutQuestions>(file, tokenizer, task.windows);
  inputs.phases.front().evaluation_fingerprint = fingerprint(held_out->data);
  inputs.score = [held_out, options = task.answers](
                     const BertForPreTraining& model,
                     const std::function<bool()>& stop) -> std::optional<HeldOutScores> {
    const auto answers =
        answer_questions(model, held_out->windows, held_out->tokenizer, options, stop);
    if (!answers) return std::nullopt;
    const SquadScores scores =
        score_squad(held_out->data, predictions_of(held_out->data, *answers));
    return HeldOutScores{to_json(scores),
                         fmt::format("F1 {:.2f} exact match {:.2f} | {} questions", scores.f1,
                                     scores.exact_match, scores.questions),
                         BestBy::f1, scores.f1};
  };
  return inputs;
}

TaskSettings settings_of(const SquadTask& task) {
  const auto number = [](int64_t n) { return std::to_string(n); };
  return {{"--max-sequence-length", number(task.windows.max_sequence_length)},
          {"--doc-stride", number(task.windows.doc_stride)},
          {"--max-query-length", number(task.windows.max_query_length)},
          {"--n-best", number(task.answers.n_best)},
          {"--max-answer-length", number(task.answers.max_answer_length)},
          {"--skip-bad-answers", task.skip_bad_answers ? "true" : "false"}};
}

TaskSettings settings_of(const ClassifyTask& task) {
  return {{"--max-sequence-length", std::to_string(task.max_sequence_length)},
          {"--text-column", task.columns.text_column},
          {"--label-column", task.columns.label_column}};
}

const char* squad_recipe() {
  return R"([model]
nsp = false
[train]
micro_batch_size = 12
global_batch_size = 12
[optim]
optimizer = "adamw-google"
schedule = "google-linear"
learning_rate = 3e-5
warmup = 0.1
weight_decay = 0.01
max_grad_norm = 1.0
[log]
evaluate_every = 0
trust_ratio_every = 0
)";
}

// ---- Labelled texts ----------------------------------------------------------------------------

std::vector<std::vector<int32_t>> encode_texts(const std::vector<LabelledText>& texts,
                                               const WordPieceTokenizer& tokenizer, int64_t longest,
                                               bool cuts_left, int64_t& cut) {
  std::vector<std::vector<int32_t>> all;
  for (const LabelledText& text : texts) {
    std::vector<int32_t>& ids = all.emplace_back(tokenizer.encode_with_special_tokens(text.text));
    if (std::ssize(ids) <= longest) continue;
    cut_ids(ids, static_cast<size_t>(longest), cuts_left);
    ++cut;
  }
  return all;
}

/// The labels of the data, by number; those of the folder's classifier if it knows them all, which
/// then continues to learn.
std::vector<std::string> choose_labels(const std::vector<LabelledText>& texts,
                                       const TrainConfig& config, std::vector<std::string>& notes) {
  const std::vector<std::string> own = labels_of(texts);
  MB_CHECK_AS(DataError, own.size() >= 2,
              "{}: has one label, \"{}\", expected at least two to tell apart", config.data,
              own[0]);
  const std::vector<std::string> classifier = classifier_labels(config.init_from);
  if (classifier.empty()) return own;
  const auto known = names_in(own, classifier);
  const std::string found = fmt::format("{} has a classifier for the labels {}", config.init_from,
                                        first_of(classifier, 6));
  notes.push_back(found + (known ? ": it goes on learning"
                                 : ", which the data do not have: another one is drawn"));
  return known.value_or(own);
}

RunInputs open_classify(const TrainConfig& config, const ClassifyTask& task) {
  RunInputs inputs = open_model(config, Objective::classification);
  check_length(task.max_sequence_length, inputs.model, config.init_from);
  const WordPieceTokenizer tokenizer = open_tokenizer(config.init_from, inputs.model);
  const std::vector<LabelledText> texts =
      read_labelled_texts(config.data, task.columns, &inputs.notes);
  for (const std::string& doubt : doubts_about(texts))
    inputs.notes.push_back(fmt::format("{}: {}", config.data, doubt));
  inputs.model.labels = choose_labels(texts, config, inputs.notes);
  const auto classes = std::ssize(inputs.model.labels);
  inputs.parts = parts_for(Objective::classification, classes);
  inputs.check_vocabulary = [before = inputs.check_vocabulary, ours = inputs.model.labels,
                             file = config.data](const fs::path& vocab) {
    before(vocab);
    MB_CHECK(
        load_hugging_face_config(vocab.parent_path()).labels == ours,
        "{}: has other labels than {}. Resume with the file of that run, or start a new run in "
        "another --output-dir.",
        (vocab.parent_path() / "config.json").string(), file);
  };
  const std::vector<int32_t> labels =
      label_numbers(texts, inputs.model.labels, config.data, config.data);
  int64_t cut = 0;
  const bool cuts_left = load_cuts_left(config.init_from);
  std::vector<std::vector<int32_t>> ids =
      encode_texts(texts, tokenizer, task.max_sequence_length, cuts_left, cut);
  if (cut > 0)
    inputs.notes.push_back(
        fmt::format("{} texts are longer than {} tokens and were cut off there "
                    "(--max-sequence-length)",
                    cut, task.max_sequence_length));
  note_unknown(ids, tokenizer, inputs);
  std::vector<LabelledSequence> sequences;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto length = static_cast<int32_t>(ids[i].size());
    sequences.push_back({.ids = std::move(ids[i]), .first_segment = length, .label = labels[i]});
  }
  set_loader(config, std::move(sequences), LabelKind::class_of_sequence,
             fmt::format("{} texts with {} labels", texts.size(), classes), inputs);
  const std::string file = evaluation_file(config, inputs);
  if (file.empty()) return inputs;
  const std::vector<LabelledText> held_out = read_labelled_texts(file, task.columns);
  inputs.phases.front().evaluation_fingerprint = fingerprint(held_out);
  const std::vector<int32_t> right =
      label_numbers(held_out, inputs.model.labels, file, config.data);
  inputs.score = [right, classes,
                  ids =
                      encode_texts(held_out, tokenizer, task.max_sequence_length, cuts_left, cut)](
                     const BertForPreTraining& model,
                     const std::function<bool()>& stop) -> std::optional<HeldOutScores> {
    const auto guesses = classify(model, ids, stop);
    if (!guesses) return std::nullopt;
    const ClassScores scores = score_classes(*guesses, right, classes);
    return HeldOutScores{to_json(scores),
                         fmt::format("accuracy {:.2f}% macro F1 {:.2f}% | {} texts",
                                     100 * scores.accuracy, 100 * scores.macro_f1, scores.texts),
                         BestBy::accuracy, scores.accuracy};
  };
  return inputs;
}

const char* classify_recipe() {
  return R"([model]
nsp = false
[train]
micro_batch_size = 32
global_batch_size = 32
[optim]
optimizer = "adamw-google"
schedule = "google-linear"
learning_rate = 2e-5
warmup = 0.1
weight_decay = 0.01
max_grad_norm = 1.0
[log]
evaluate_every = 0
trust_ratio_every = 0
)";
}

}  // namespace minibert
