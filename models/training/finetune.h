// finetune.h: what fine-tuning reads: a file of questions or of labelled texts, and a model folder to
// start from, made into the inputs of a training run (run_setup.h). The loop, the run folder, resume
// and the log are those of pre-training: trainer.h. Called by the verb `finetune`. Easy to break: the
// tokenizer is that of the model folder, and a checkpoint of the run says in config.json which head
// and which labels it has. Test: ctest -R finetune.
// Source: google-research/bert @ eedf571 run_squad.py, run_classifier.py.
#pragma once

#include <memory>
#include <string>

#include "models/text/labelled_loader.h"
#include "models/text/labelled_text.h"
#include "models/text/squad_answers.h"
#include "models/text/squad_windows.h"
#include "models/training/config.h"
#include "models/training/run_setup.h"

namespace minibert {

struct SquadTask {
  WindowOptions windows;
  AnswerOptions answers;
  bool skip_bad_answers = false;
};

struct ClassifyTask {
  LabelledTextOptions columns;
  int64_t max_sequence_length = 128;  // tokens; what is longer is cut off
};

/// Reads config.data, config.evaluation_data (one file or none) and the configuration of
/// config.init_from.
/// Errors  DataError for what is wrong with a file, or with the folder; UsageError for settings that do
///         not fit the model. Nothing is written.
RunInputs open_squad(const TrainConfig& config, const SquadTask& task);
RunInputs open_classify(const TrainConfig& config, const ClassifyTask& task);

/// What a checkpoint records of a task, by flag.
TaskSettings settings_of(const SquadTask& task);
TaskSettings settings_of(const ClassifyTask& task);

/// The settings of a run in TOML that are the recipe's: AdamW as google-research/bert has it, warm-up
/// over a tenth of the steps, linear decay.
const char* squad_recipe();
const char* classify_recipe();

/// Steps of so many passes over the data, rounded up. Errors: UsageError unless epochs > 0.
int64_t steps_of(double epochs, const StepSource& data);

/// A model folder's tokenizer. Errors: DataError if the vocabulary has more tokens than the model rows.
WordPieceTokenizer open_tokenizer(const std::filesystem::path& folder, const BertConfig& model);

/// Texts as [CLS] text [SEP], at most `longest` tokens: the first ones, or with `cuts_left`
/// (truncation_side of the folder) the last ones. Adds the number of those cut off to `cut`.
std::vector<std::vector<int32_t>> encode_texts(const std::vector<LabelledText>& texts,
                                               const WordPieceTokenizer& tokenizer, int64_t longest,
                                               bool cuts_left, int64_t& cut);

}  // namespace minibert
