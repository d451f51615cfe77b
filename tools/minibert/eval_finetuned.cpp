// eval_finetuned.cpp: `minibert eval squad` and `minibert eval classify`: how good a fine-tuned model's
// answers or labels are, or how good the answers in a file are. Try: minibert eval squad --help.
// Test: ctest -R finetune_verb.
#include <algorithm>
#include <memory>
#include <set>

#include <fmt/format.h>

#include "core/device_stream.h"
#include "core/error.h"
#include "core/parallel.h"
#include "models/bert/classification.h"
#include "models/bert/hugging_face.h"
#include "models/bert/question_answering.h"
#include "models/text/atomic_file.h"
#include "models/text/squad_metrics.h"
#include "models/text/tokenizer_config.h"
#include "models/training/finetune.h"
#include "models/training/task_settings.h"
#include "tools/minibert/compute_flags.h"
#include "tools/minibert/squad_flags.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

struct ModelFlags {
  std::string model, data;
  int threads = 0;
  bool json = false;
  ComputeFlags compute;

  void add_to(CLI::App& verb, const char* what) {
    verb.add_option("--data", data, what)->required();
    verb.add_option("--threads", threads, "Threads; 0 = all")->check(CLI::Range(0, 1024));
    compute.add_to(verb);
    verb.add_flag("--json", json, "Print one JSON object");
  }
};

struct SquadEvaluation {
  ModelFlags common;
  std::string predictions, output_dir;
  WindowOptions windows;
  AnswerOptions answers;
  bool dry_run = false;
};

void print(const SquadScores& scores, const ModelFlags& flags) {
  if (flags.json) {
    fmt::print("{}\n", to_json(scores));
    return;
  }
  fmt::print("F1 {:.4f} %, exact match {:.4f} % of {} questions\n", scores.f1, scores.exact_match,
             scores.questions);
}

/// As the official script does, but with one line for all.
void warn_of_unanswered(const SquadScores& scores) {
  if (scores.unanswered.empty()) return;
  fmt::print(stderr, "note: {} questions have no prediction and score 0, the first is {}\n",
             scores.unanswered.size(), scores.unanswered.front());
}

/// The official script passes over them: half of a file of answers may be of another set of questions.
void note_answers_to_others(const SquadData& data, const SquadPredictions& predictions,
                            const SquadEvaluation& flags) {
  std::set<std::string> left;
  for (const auto& [id, answer] : predictions) left.insert(id);
  for (const SquadQuestion& question : data.questions) left.erase(question.id);
  if (left.empty()) return;
  fmt::print(stderr, "note: {} answers of {} are to no question of {}, the first is {}\n",
             left.size(), flags.predictions, flags.common.data, *left.begin());
}

/// Windows of another length are another task than the one learnt.
void note_other_settings(const std::string& model, const TaskSettings& now) {
  for (const std::string& line : differing_task(model, now)) fmt::print(stderr, "note: {}\n", line);
}

/// Errors: UsageError unless the folder can be made.
void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  MB_CHECK(fs::is_directory(folder),
           "{}: the folder can't be created: {}. Choose another "
           "--output-dir.",
           folder, error ? error.message() : "a file has that name");
}

TaskSettings task_of(const SquadEvaluation& flags) {
  SquadTask task;
  task.windows = flags.windows;
  task.answers = flags.answers;
  TaskSettings settings = settings_of(task);
  std::erase_if(settings, [](const auto& flag) { return flag.first == "--skip-bad-answers"; });
  return settings;
}

void answer_and_score(const SquadEvaluation& flags, const SquadData& data) {
  const ComputeOptions compute = flags.common.compute.options();
  const DeviceStream stream(compute);
  BertParts required = parts_for(Objective::question_answering);
  const LoadedBert loaded =
      load_hugging_face(flags.common.model, ModelUse::inference, required, compute);
  const BertConfig& config = loaded.model.config();
  MB_CHECK(flags.windows.max_sequence_length <= config.max_position_embeddings,
           "max_sequence_length is {}, expected at most {} (max_position_embeddings of {}). Use "
           "--max-sequence-length {}",
           flags.windows.max_sequence_length, config.max_position_embeddings, flags.common.model,
           config.max_position_embeddings);
  const WordPieceTokenizer tokenizer = open_tokenizer(flags.common.model, config);
  note_other_settings(flags.common.model, task_of(flags));
  const SquadWindows windows(data, tokenizer, flags.windows, SquadUse::evaluate);
  if (flags.dry_run) {
    fmt::print(
        "{} questions in {} windows{}\n", data.questions.size(), windows.all().size(),
        flags.output_dir.empty()
            ? ""
            : "; would write predictions.json and nbest_predictions.json to " + flags.output_dir);
    return;
  }
  if (!flags.output_dir.empty()) make_folder(flags.output_dir);
  const auto answers = answer_questions(loaded.model, windows, tokenizer, flags.answers);
  if (!flags.output_dir.empty()) {
    const fs::path folder = flags.output_dir;
    write_file_atomically(folder / "predictions.json", predictions_json(data, *answers));
    write_file_atomically(folder / "nbest_predictions.json", n_best_json(data, *answers));
  }
  print(score_squad(data, predictions_of(data, *answers)), flags.common);
}

void run_squad(const SquadEvaluation& flags) {
  const bool has_model = !flags.common.model.empty();
  MB_CHECK(has_model != !flags.predictions.empty(),
           "eval squad: expected either --model, which answers the questions, or --predictions, a "
           "file of answers");
  MB_CHECK(has_model || flags.output_dir.empty(),
           "eval squad: --output-dir is for the answers of a --model. Leave it out.");
  if (flags.common.threads > 0) set_num_threads(flags.common.threads);
  const SquadData data = read_squad(flags.common.data, {.use = SquadUse::evaluate});
  if (has_model) return answer_and_score(flags, data);
  const SquadPredictions predictions = read_predictions(flags.predictions);
  note_answers_to_others(data, predictions, flags);
  const SquadScores scores = score_squad(data, predictions);
  warn_of_unanswered(scores);
  print(scores, flags.common);
}

struct ClassifyEvaluation {
  ModelFlags common;
  LabelledTextOptions columns;
  int64_t max_sequence_length = 128;
};

/// A model whose labels were never named has LABEL_0, LABEL_1, ...; files have their numbers.
void take_numbers_for_names(const std::vector<LabelledText>& texts,
                            std::vector<std::string>& names) {
  const auto found = names_in(labels_of(texts), names);
  if (!found || *found == names) return;
  fmt::print(stderr,
             "note: the model's labels have no names but {} to {}: numbers of the file are taken "
             "as theirs\n",
             names.front(), names.back());
  names = *found;
}

void run_classify(const ClassifyEvaluation& flags) {
  if (flags.common.threads > 0) set_num_threads(flags.common.threads);
  const ComputeOptions compute = flags.common.compute.options();
  const DeviceStream stream(compute);
  check_classifier(flags.common.model);
  const LoadedBert loaded = load_hugging_face(flags.common.model, ModelUse::inference,
                                              parts_for(Objective::classification, 2), compute);
  const BertForPreTraining& model = loaded.model;
  const BertConfig& config = model.config();
  const std::string config_file = (fs::path(flags.common.model) / "config.json").string();
  std::vector<std::string> names = class_names(model, config_file);
  const WordPieceTokenizer tokenizer = open_tokenizer(flags.common.model, config);
  std::vector<std::string> notes;
  const std::vector<LabelledText> texts =
      read_labelled_texts(flags.common.data, flags.columns, &notes);
  for (const std::string& note : notes) fmt::print(stderr, "note: {}\n", note);
  take_numbers_for_names(texts, names);
  const std::vector<int32_t> labels = label_numbers(texts, names, flags.common.data, config_file);
  note_other_settings(flags.common.model,
                      {{"--max-sequence-length", std::to_string(flags.max_sequence_length)}});
  int64_t cut = 0;
  const int64_t longest = std::min(flags.max_sequence_length, config.max_position_embeddings);
  std::vector<int32_t> guesses = *classify(
      model, encode_texts(texts, tokenizer, longest, load_cuts_left(flags.common.model), cut));
  for (int32_t& guess : guesses)  // two rows of one name are one label, as in Transformers
    guess = static_cast<int32_t>(std::ranges::find(names, names[static_cast<size_t>(guess)]) -
                                 names.begin());
  if (cut > 0)
    fmt::print(stderr, "note: {} texts are longer than {} tokens and were cut off there\n", cut,
               longest);
  const ClassScores scores = score_classes(guesses, labels, model.parts().classes);
  if (flags.common.json) {
    fmt::print("{}\n", to_json(scores));
    return;
  }
  fmt::print("accuracy {:.4f} %, macro F1 {:.4f} % of {} texts\n", 100 * scores.accuracy,
             100 * scores.macro_f1, scores.texts);
}

}  // namespace

void add_eval_squad(CLI::App& eval) {
  auto flags = std::make_shared<SquadEvaluation>();
  CLI::App* verb = eval.add_subcommand(
      "squad",
      "F1 and exact match of a model's answers, or of a file of answers, as the official "
      "script of SQuAD 1.1 computes them");
  verb->add_option("--model", flags->common.model,
                   "Checkpoint or Transformers folder with a head for question answering");
  verb->add_option("--predictions", flags->predictions,
                   "Answers instead of a model: {\"ID\": \"answer\", ...}");
  flags->common.add_to(*verb, "File of SQuAD 1.1");
  add_window_flags(*verb, flags->windows);
  add_answer_flags(*verb, flags->answers);
  verb->add_option("--output-dir", flags->output_dir,
                   "Folder for predictions.json and nbest_predictions.json");
  verb->add_flag("--dry-run", flags->dry_run, "Check model and data, write nothing");
  verb->callback([flags] { run_squad(*flags); });
}

void add_eval_classify(CLI::App& eval) {
  auto flags = std::make_shared<ClassifyEvaluation>();
  CLI::App* verb =
      eval.add_subcommand("classify", "Accuracy and macro F1 of a model's labels for texts");
  verb->add_option("--model", flags->common.model,
                   "Checkpoint or Transformers folder with a classifier")
      ->required();
  flags->common.add_to(*verb, "Texts with their labels: .csv, .tsv or .jsonl");
  verb->add_option("--max-sequence-length", flags->max_sequence_length,
                   "Tokens of a text with [CLS] and [SEP], at most; longer ones are cut off")
      ->check(CLI::Range(3, 65536))
      ->capture_default_str();
  add_column_flags(*verb, flags->columns);
  verb->callback([flags] { run_classify(*flags); });
}

}  // namespace minibert
