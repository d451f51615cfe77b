// finetune.cpp: `minibert finetune squad` and `minibert finetune classify`: a model learns to answer
// questions or to label texts. The settings of a run are those of `train`; what is read is
// models/training/finetune.h's business. Try: minibert finetune squad --help. Test: ctest -R
// finetune_verb.
#include "models/training/finetune.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <unistd.h>

#include "core/error.h"
#include "models/training/resume.h"
#include "tools/minibert/local_ranks.h"
#include "tools/minibert/squad_flags.h"
#include "tools/minibert/training_verb.h"

namespace minibert {
namespace {

/// Settings of pre-training that a fine-tuned model has from its folder, or that its data cannot have.
const std::vector<std::string> kFixed = {"model.model",
                                         "model.num_hidden_layers",
                                         "model.hidden_size",
                                         "model.num_attention_heads",
                                         "model.intermediate_size",
                                         "model.max_position_embeddings",
                                         "model.initializer_range",
                                         "model.position_initializer",
                                         "model.nsp",
                                         "data.vocab",
                                         "train.fixed_shapes",
                                         "train.graph",
                                         "data.sequence_length",
                                         "data.sequences",
                                         "log.evaluation_batches"};

struct FinetuneFlags {
  explicit FinetuneFlags(const char* recipe, const char* name)
      : training{.settings = TrainFlags({kFixed, recipe, name})} {}

  TrainingVerb training;
  double epochs = 0;

  void add_to(CLI::App& verb) {
    training.add_to(verb, "Check settings and data, print the plan, write nothing");
    verb.add_option("--epochs", epochs, "Passes over the data; --max-steps overrides it")
        ->check(CLI::Range(0.0, 1e6))
        ->capture_default_str();
  }
};

/// Settings and plan, for --dry-run.
void print_plan(const ConfigBuilder& builder, const RunInputs& inputs, const TaskSettings& task,
                int ranks) {
  const std::vector<std::string> changed = check_start(builder.config(), inputs, task);
  fmt::print("{}\n", builder.to_toml());
  for (const std::string& line : describe_plan(builder.config(), inputs, ranks))
    fmt::print("{}\n", line);
  for (const auto* notes : {&inputs.notes, &changed})
    for (const std::string& note : *notes) fmt::print("note: {}\n", note);
}

bool was_given(const ConfigBuilder& builder, const char* key) {
  return builder.origin(key) != "default";
}

/// Reads the data, and sets the number of steps that it makes.
template <typename Open>
void run_finetune(const FinetuneFlags& flags, const TaskSettings& task, const Open& open,
                  const std::vector<std::string>& arguments) {
  ConfigBuilder builder = flags.training.resolve();
  const Launch launch = flags.training.dry_run || flags.training.print_config
                            ? Launch{}
                            : flags.training.start(builder, arguments);
  const RunInputs inputs = open(builder.config());
  if (!was_given(builder, "train.max_steps")) {
    const ConfigKey& key = *std::ranges::find(config_keys(), "train.max_steps", &ConfigKey::name);
    builder.apply_text(key, std::to_string(steps_of(flags.epochs, *inputs.phases.front().loader)),
                       fmt::format("--epochs {}", flags.epochs));
  }
  validate(builder.config());
  if (flags.training.print_config) {
    fmt::print("{}", builder.to_toml());
    return;
  }
  if (flags.training.dry_run)
    return print_plan(builder, inputs, task,
                      std::max({flags.training.ranks, flags.training.gpus, 1}));
  run_training({builder.config(), builder.to_toml(), arguments, environ, flags.training.json,
                launch, [&inputs](const TrainConfig&) { return inputs; }, task});
}

struct SquadVerb {
  FinetuneFlags run{squad_recipe(), "finetune squad"};
  SquadTask task;
};

struct ClassifyVerb {
  FinetuneFlags run{classify_recipe(), "finetune classify"};
  ClassifyTask task;
};

void add_squad(CLI::App& finetune) {
  auto flags = std::make_shared<SquadVerb>();
  flags->run.epochs = 2;
  CLI::App* verb = finetune.add_subcommand("squad",
                                           "Learn to find answers in a text, from a file of SQuAD "
                                           "1.1 (--data). Settings: Google's recipe "
                                           "< --config < environment < flags");
  flags->run.add_to(*verb);
  add_window_flags(*verb, flags->task.windows);
  add_answer_flags(*verb, flags->task.answers);
  verb->add_flag("--skip-bad-answers", flags->task.skip_bad_answers,
                 "Leave out questions whose answer is not where answer_start says, instead of "
                 "stopping");
  verb->callback([flags] {
    run_finetune(
        flags->run, settings_of(flags->task),
        [&](const TrainConfig& config) { return open_squad(config, flags->task); },
        own_arguments());
  });
}

void add_classify(CLI::App& finetune) {
  auto flags = std::make_shared<ClassifyVerb>();
  flags->run.epochs = 3;
  CLI::App* verb = finetune.add_subcommand(
      "classify",
      "Learn to label texts, from a file with a text and a label in each line: .csv, .tsv or "
      ".jsonl "
      "(--data). Settings: Google's recipe < --config < environment < flags");
  flags->run.add_to(*verb);
  verb->add_option("--max-sequence-length", flags->task.max_sequence_length,
                   "Tokens of a text with [CLS] and [SEP], at most; longer ones are cut off")
      ->check(CLI::Range(3, 65536))
      ->capture_default_str();
  add_column_flags(*verb, flags->task.columns);
  verb->callback([flags] {
    run_finetune(
        flags->run, settings_of(flags->task),
        [&](const TrainConfig& config) { return open_classify(config, flags->task); },
        own_arguments());
  });
}

}  // namespace

void add_finetune_verb(CLI::App& app) {
  CLI::App* finetune = app.add_subcommand(
      "finetune", "Teach a pre-trained model to answer questions or label texts");
  finetune->require_subcommand(1);
  add_squad(*finetune);
  add_classify(*finetune);
}

}  // namespace minibert
