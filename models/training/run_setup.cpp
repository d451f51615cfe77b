// run_setup.cpp: opening and checking what a run reads.
#include "models/training/run_setup.h"

#include <algorithm>
#include <map>

#include "core/device.h"
#include "core/error.h"
#include "core/kernels/gemm.h"
#include "core/precision.h"
#include "core/shell_word.h"
#include "core/simd.h"
#include "models/bert/classification.h"
#include "models/bert/hugging_face.h"
#include "models/text/casing.h"
#include "models/text/checksum.h"
#include "models/text/corpus_lint.h"
#include "models/text/tokenizer_folder.h"
#include "models/training/plan.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// A size from the configuration, or the one that the model's name or another size implies.
int64_t size_or(int64_t given, int64_t implied) {
  return given > 0 ? given : implied;
}

}  // namespace

BertConfig configured_shape(const TrainConfig& config) {
  BertConfig model = BertConfig::named(config.model);
  if (config.hidden_size > 0) {
    model.hidden_size = config.hidden_size;
    model.num_attention_heads = std::max<int64_t>(1, config.hidden_size / 64);
    model.intermediate_size = 4 * config.hidden_size;
  }
  model.num_hidden_layers = size_or(config.num_hidden_layers, model.num_hidden_layers);
  model.num_attention_heads = size_or(config.num_attention_heads, model.num_attention_heads);
  model.intermediate_size = size_or(config.intermediate_size, model.intermediate_size);
  model.max_position_embeddings = config.max_position_embeddings;
  model.initializer_range = static_cast<float>(config.initializer_range);
  return model;
}

namespace {

void check_heads(const BertConfig& model) {
  const int64_t hidden = model.hidden_size, heads = model.num_attention_heads;
  constexpr int64_t kMaxHeadSize = 256;  // core/kernels/attention.h
  MB_CHECK(
      hidden % heads == 0,
      "model.hidden_size is {}, expected a multiple of model.num_attention_heads = {} (a head "
      "is a whole number of units wide). Use --hidden-size {} or another --num-attention-heads.",
      hidden, heads, (hidden + heads - 1) / heads * heads);
  MB_CHECK(
      hidden / heads <= kMaxHeadSize,
      "model.num_attention_heads is {}, expected at least {} for model.hidden_size = {} (a head "
      "is at most {} units wide). Use more --num-attention-heads.",
      heads, (hidden + kMaxHeadSize - 1) / kMaxHeadSize, hidden, kMaxHeadSize);
}

/// The data must have been read as what stands beside a vocabulary says.
void check_casing(const fs::path& vocabulary, const ShardSet& data) {
  const std::optional<OptionsOnDisk> model = options_beside(vocabulary);
  if (!model) return;
  const std::string fault =
      casing_fault(data.folder(), data.manifest(), model->options, vocabulary);
  if (!fault.empty()) fail<UsageError>("{}", fault);
}

/// vocab.txt of the run; the data must have been built with it.
TokenizerFiles open_tokenizer(const TrainConfig& config, const ShardSet& data) {
  const fs::path path =
      config.vocab.empty() ? fs::path(config.data) / "vocab.txt" : fs::path(config.vocab);
  check_vocabulary(path, data, "Leave out --vocab, or build the data with this vocabulary.");
  check_casing(path, data);
  TokenizerFiles files{path, options_of(data.manifest().settings)};
  // A checkpoint keeps what says how to tokenize: the model's own files, or those beside the data.
  if (!config.init_from.empty() && holds_vocabulary(config.init_from)) {
    files.kept = tokenizer_files(config.init_from);
  } else if (has_tokenizer_settings(path)) {
    files.kept = tokenizer_files(path.parent_path());
  }
  return files;
}

/// Of a model that is taken as it is, neither positions nor segments can be changed.
void check_shape(const TrainConfig& phase, const ShardSet& data, const BertConfig& model) {
  const int64_t length = data.traits().sequence_length;
  MB_CHECK(length <= model.max_position_embeddings,
           "{}{}: sequences have up to {} tokens, expected at most {} (max_position_embeddings of "
           "the model). {} the data with --sequence-length {}.",
           phase_prefix(phase), data.folder().string(), length, model.max_position_embeddings,
           phase.init_from.empty()
               ? fmt::format("Use --max-position-embeddings {}, or build", length)
               : "Build",
           model.max_position_embeddings);
  check_segments(data, model);
}

void check_nsp(const std::string& where, const ShardSet& data, bool nsp) {
  MB_CHECK(!nsp || data.traits().nsp,
           "{}{}: has no sentence pairs, expected them for next-sentence prediction. Use --no-nsp, "
           "or build the data with pairs.",
           where, data.folder().string());
}

/// Against what the settings say of the data.
void check_as_described(const TrainConfig& phase, const ShardSet& data) {
  const int64_t found = data.traits().sequence_length;
  MB_CHECK(phase.sequence_length == 0 || phase.sequence_length == found,
           "{}{}: was built for sequences of {} tokens, expected {} (data.sequence_length). Give "
           "another folder, or use {}.",
           phase_prefix(phase), data.folder().string(), found, phase.sequence_length,
           flag_text(phase, "sequence_length", std::to_string(found)));
}

/// Opens each folder once.
class DataFolders {
 public:
  std::shared_ptr<const ShardSet> open(const std::string& path) {
    std::shared_ptr<const ShardSet>& set = sets_[fs::weakly_canonical(path).string()];
    if (!set) set = ShardSet::open(path);
    return set;
  }

 private:
  std::map<std::string, std::shared_ptr<const ShardSet>> sets_;
};

/// A later phase's data, whose token ids must mean what they do in the first's.
void check_same_vocabulary(const TrainConfig& phase, const ShardSet& data, const ShardSet& first) {
  MB_CHECK(
      data.manifest().vocabulary_hash == first.manifest().vocabulary_hash &&
          same_words(options_of(data.manifest().settings), options_of(first.manifest().settings)),
      "{}{}: was built with another vocabulary (hash {}, {}) than the data of phase 1 in {} (hash "
      "{}, {}), expected the same: a token's number must mean the same in all phases. Build it "
      "again: `{}`",
      phase_prefix(phase), data.folder().string(), data.manifest().vocabulary_hash,
      describe(options_of(data.manifest().settings)), first.folder().string(),
      first.manifest().vocabulary_hash, describe(options_of(first.manifest().settings)),
      rebuild_command(data.folder(), data.manifest(), first.folder() / "vocab.txt"));
}

void open_evaluation(const TrainConfig& phase, const BertConfig& model, PhaseInputs& own) {
  const ExpectedData expected{own.data->traits().vocab_size, own.data->manifest().vocabulary_hash,
                              options_of(own.data->manifest().settings),
                              own.data->folder() / "vocab.txt"};
  for (const auto& [name, path] : evaluation_sets(phase)) {
    const auto set = ShardSet::open(path, expected);
    if (own.evaluation.empty()) own.evaluation_fingerprint = fingerprint(*set);
    own.evaluation.emplace_back(name, set);
    check_shape(phase, *set, model);
    check_nsp(phase_prefix(phase), *set, phase.nsp);
    set->unigram_counts();  // reports a damaged file now
  }
}

/// Copies the parameters that both models have, by name; a classifier's only if its labels are the
/// same. Returns how many `source` lacks.
int copy_weights(const BertForPreTraining& source, BertForPreTraining& target,
                 const fs::path& folder) {
  int missing = 0;
  const ParameterTable& table = target.arena().table();
  const std::vector<std::string>& labels = target.config().labels;
  const bool same_labels =
      target.parts().classes > 0 && names_in(labels, classifier_labels(folder)) == labels;
  for (int i = 0; i < table.count(); ++i) {
    const int found = source.arena().table().find(table[i].name);
    if (found < 0 || (table[i].name.starts_with("classifier.") && !same_labels)) {
      ++missing;
      continue;
    }
    std::vector<float> values(static_cast<size_t>(table[i].used()));
    source.arena().read(found, values);
    target.arena().write(i, values);
  }
  target.arena().refresh();
  return missing;
}

/// Sizes that are set, but are another model's than the one to start from.
void check_sizes(const TrainConfig& config, const BertConfig& model) {
  const TrainConfig defaults;
  const auto same = [&](const char* name, int64_t set, int64_t otherwise, int64_t has) {
    std::string flag = std::string("--") + name;
    std::ranges::replace(flag, '_', '-');
    MB_CHECK(set == otherwise || set == has,
             "model.{} is {}, but the model of --init-from has {} ({}), and its weights are taken. "
             "Leave out {}.",
             name, set, has, (fs::path(config.init_from) / "config.json").string(), flag);
  };
  same("num_hidden_layers", config.num_hidden_layers, 0, model.num_hidden_layers);
  same("hidden_size", config.hidden_size, 0, model.hidden_size);
  same("num_attention_heads", config.num_attention_heads, 0, model.num_attention_heads);
  same("intermediate_size", config.intermediate_size, 0, model.intermediate_size);
  same("max_position_embeddings", config.max_position_embeddings, defaults.max_position_embeddings,
       model.max_position_embeddings);
}

/// Held-out data that are the training data: their loss falls, whatever the model learns.
void note_same_data(const PhaseInputs& phase, std::vector<std::string>& notes) {
  for (const auto& [name, set] : phase.evaluation)
    if (fingerprint(*set) == phase.fingerprint)
      notes.push_back(fmt::format(
          "{}: the evaluation data are the training data, so that the loss says nothing of other "
          "text. minibert data build --hold-out-every 20 keeps some of the text apart",
          set->folder().string()));
}

}  // namespace

void check_segments(const ShardSet& data, const BertConfig& model) {
  MB_CHECK(!data.traits().nsp || model.type_vocab_size > 1,
           "{}: has pairs of sentences, of which the second is segment 1, expected no pairs: the "
           "model has one segment (type_vocab_size). Build the data with --no-nsp",
           data.folder().string());
}

BertConfig model_shape(const TrainConfig& config, int64_t vocab_size) {
  BertConfig model = configured_shape(config);
  if (config.init_from.empty()) {
    model.vocab_size = vocab_size;
  } else {
    model = load_hugging_face_config(config.init_from);
    check_sizes(config, model);
    MB_CHECK(
        model.vocab_size >= vocab_size,
        "{}: vocab_size is {}, expected at least {} (the vocabulary of the data{}). Build the data "
        "with `--vocab {}`.",
        (fs::path(config.init_from) / "config.json").string(), model.vocab_size, vocab_size,
        config.data.empty() ? "" : " in " + config.data, shell_word(config.init_from));
  }
  if (config.init_from.empty()) check_heads(model);
  model.hidden_dropout_prob = static_cast<float>(config.hidden_dropout);
  model.attention_probs_dropout_prob = static_cast<float>(config.attention_dropout);
  model.validate("configuration, section model");
  return model;
}

RunInputs open_inputs(const TrainConfig& config) {
  validate(config);
  return open_data(config);
}

RunInputs open_data(const TrainConfig& config) {
  simd_level();  // throws if MINIBERT_SIMD names a level that this CPU lacks
  RunInputs inputs;
  const std::vector<Phase> phases = phases_of(config);
  DataFolders folders;
  const TrainConfig& first_phase = phases.front().config;
  const std::shared_ptr<const ShardSet> first = folders.open(first_phase.data);
  inputs.parts = {.pooler = config.nsp, .mlm_head = true, .nsp_head = config.nsp};
  inputs.model = model_shape(first_phase, first->traits().vocab_size);
  inputs.tokenizer = open_tokenizer(first_phase, *first);
  inputs.check_vocabulary = [first](const fs::path& vocab) {
    check_vocabulary(
        vocab, *first,
        "Resume with the data of that run, or start a new run in another --output-dir.");
  };
  const fs::path source_vocab = fs::path(config.init_from) / "vocab.txt";
  if (!config.init_from.empty() && holds_vocabulary(config.init_from)) {
    check_vocabulary(
        source_vocab, *first,
        fmt::format("Build the data with this vocabulary: `{}`, or start from another model.",
                    rebuild_command(first->folder(), first->manifest(), config.init_from)));
    check_casing(config.init_from, *first);
  }
  std::vector<int64_t> first_steps;
  for (const Phase& phase : phases) {
    PhaseInputs& own = inputs.phases.emplace_back();
    own.data = folders.open(phase.config.data);
    check_same_vocabulary(phase.config, *own.data, *first);
    check_as_described(phase.config, *own.data);
    check_shape(phase.config, *own.data, inputs.model);
    check_nsp(phase_prefix(phase.config), *own.data, config.nsp);
    first_steps.push_back(phase.first_step);
    own.fingerprint = fingerprint(*own.data);
    own.sequence_length = own.data->traits().sequence_length;
    own.description =
        fmt::format("{} examples of up to {} tokens, {}", own.data->examples(), own.sequence_length,
                    own.data->traits().masked ? "static masks" : "dynamic masks");
    own.loader =
        make_loader(phase.config, own.data, phase.first_step,
                    first_sample_of(phases, inputs, inputs.phases.size() - 1, first_steps));
    open_evaluation(phase.config, inputs.model, own);
    note_same_data(own, inputs.notes);
  }
  return inputs;
}

std::shared_ptr<const Loader> make_loader(const TrainConfig& phase,
                                          std::shared_ptr<const ShardSet> data, int64_t first_step,
                                          int64_t first_sample) {
  return std::make_shared<Loader>(std::move(data),
                                  LoaderOptions{.global_batch_size = phase.global_batch_size,
                                                .micro_batch_size = phase.micro_batch_size,
                                                .token_capacity = phase.token_capacity,
                                                .seed = static_cast<uint64_t>(phase.seed),
                                                .nsp = phase.nsp,
                                                .fixed_shapes = phase.fixed_shapes,
                                                .first_step = first_step,
                                                .first_sample = first_sample});
}

int64_t first_sample_of(const std::vector<Phase>& phases, const RunInputs& inputs, size_t phase,
                        const std::vector<int64_t>& first_steps) {
  int64_t samples = 0;
  for (; phase > 0 && inputs.phases[phase].data == inputs.phases[phase - 1].data; --phase)
    samples +=
        (first_steps[phase] - first_steps[phase - 1]) * phases[phase - 1].config.global_batch_size;
  return samples;
}

void check_vocabulary(const fs::path& vocab, const ShardSet& data, const std::string& fix) {
  const std::string hash = fmt::format("{:016x}", open_vocabulary(vocab).hash());
  MB_CHECK(hash == data.manifest().vocabulary_hash,
           "{}: is a different vocabulary (hash {}) from that of the data in {} (hash {}). {}",
           vocab.string(), hash, data.folder().string(), data.manifest().vocabulary_hash, fix);
}

BertForPreTraining first_model(const TrainConfig& config, const RunInputs& inputs,
                               std::vector<std::string>& notes) {
  BertForPreTraining model(inputs.model, ModelUse::training, inputs.parts, compute_options(config));
  model.initialize(static_cast<uint64_t>(config.seed), config.position_initializer == "sinusoidal"
                                                           ? PositionInitializer::sinusoidal
                                                           : PositionInitializer::normal);
  if (config.init_from.empty()) return model;
  const LoadedBert loaded = load_hugging_face(config.init_from);
  const int missing = copy_weights(loaded.model, model, config.init_from);
  notes.push_back(fmt::format("weights from {}: {} tensors; {} others were drawn", config.init_from,
                              model.arena().table().count() - missing, missing));
  return model;
}

TrainStepOptions step_options(const TrainConfig& config, int64_t bucket_megabytes,
                              Objective objective) {
  return {.seed = static_cast<uint64_t>(config.seed),
          .nsp = config.nsp,
          .objective = objective,
          .recompute = config.recompute == "layer" ? Recompute::layer : Recompute::none,
          .graph = config.graph,
          .deterministic = config.deterministic,
          .bucket_bytes = bucket_megabytes << 20,
          .wire = compute_options(parse_precision(config.reduce_precision), Device::cpu).dtype,
          .shard_optimizer = config.shard_optimizer};
}

OptimizerOptions optimizer_options(const TrainConfig& config) {
  OptimizerOptions options;
  options.name = config.optimizer;
  options.beta1 = config.beta1;
  options.beta2 = config.beta2;
  if (config.epsilon > 0) options.eps = static_cast<float>(config.epsilon);
  options.weight_decay = static_cast<float>(config.weight_decay);
  options.max_grad_norm = static_cast<float>(config.max_grad_norm);
  OptimizerKnobs& knobs = options.knobs;
  set_knob(knobs, "adapt", config.adapt);
  set_knob(knobs, "bias_correction", config.bias_correction);
  set_knob(knobs, "gradient_clipping", config.gradient_clipping);
  set_knob(knobs, "epsilon_inside_root", config.epsilon_inside_root);
  set_knob(knobs, "gradient_averaging", config.gradient_averaging);
  set_knob(knobs, "nesterov", config.nesterov);
  knobs.trust_coefficient = config.trust_coefficient;
  knobs.weight_norm_min = config.weight_norm_min;
  knobs.weight_norm_max = config.weight_norm_max;
  knobs.trust_ratio_min = config.trust_ratio_min;
  knobs.trust_ratio_max = config.trust_ratio_max;
  return options;
}

int64_t moment_count(const TrainConfig& config) {
  return moment_count(optimizer_variant(config.optimizer).policies);
}

ComputeOptions compute_options(const TrainConfig& config) {
  return compute_options(parse_precision(config.precision), parse_device(config.device));
}

GemmCudaBackend gemm_backend(const TrainConfig& config) {
  const GemmCudaBackend backend = parse_gemm_cuda_backend(config.gemm);
  return config.deterministic && backend == GemmCudaBackend::fastest ? GemmCudaBackend::ours
                                                                     : backend;
}

LossScaling loss_scaling(const TrainConfig& config) {
  return {.enabled = scales_loss(config),
          .initial = static_cast<float>(config.loss_scale),
          .growth = config.loss_scale_growth,
          .backoff = config.loss_scale_backoff,
          .growth_interval = static_cast<int32_t>(config.loss_scale_interval),
          .floor = static_cast<float>(config.loss_scale_floor),
          .max_skips = static_cast<int32_t>(config.max_skips)};
}

std::string fingerprint(const ShardSet& data) {
  uint32_t crc = 0;
  for (const ShardEntry& shard : data.manifest().shards) {
    const std::string line = fmt::format("{} {:08x}\n", shard.file, shard.crc32);
    crc = crc32_of(line.data(), line.size(), crc);
  }
  return fmt::format("{:08x}", crc);
}

double step_flops(const BertConfig& model, const BertParts& parts, const StepPlan& step) {
  const auto H = static_cast<double>(model.hidden_size);
  const auto F = static_cast<double>(model.intermediate_size);
  const auto V = static_cast<double>(model.vocab_size);
  const auto L = static_cast<double>(model.num_hidden_layers);
  const auto T = static_cast<double>(step.tokens), P = static_cast<double>(step.masked_rows);
  const double B = parts.pooler ? static_cast<double>(step.sequences) : 0;
  const auto squares = static_cast<double>(step.squared_lengths);
  const double attention = L * (T * 6 * H * H + 4 * H * squares);
  // The last layer has only the rows of the heads.
  const double last = parts.span_head ? T : (parts.mlm_head ? P : 0) + B;
  const double rows = (L - 1) * T + last;
  const double rest = rows * (2 * H * H + 4 * H * F);
  const double scored = parts.mlm_head ? P * (2 * H * H + 2 * H * V) : 0;
  const double heads = scored + B * 2 * H * H + (parts.span_head ? T * 4 * H : 0);
  return 3 * (attention + rest + heads);
}

double usual_step_flops(const BertConfig& model, const BertParts& parts, const StepPlan& step) {
  const auto H = static_cast<double>(model.hidden_size);
  const auto F = static_cast<double>(model.intermediate_size);
  const double B = parts.pooler ? static_cast<double>(step.sequences) : 0;
  const double left_out = static_cast<double>(step.tokens - step.masked_rows) - B;
  const double pair_scores = parts.nsp_head ? B * 2 * 2 * H : 0;
  return step_flops(model, parts, step) + 3 * (left_out * (2 * H * H + 4 * H * F) + pair_scores);
}

/// What computes in which type, and what multiplies: "bf16: ... products by built-in (v3)".
std::string describe_precision(const TrainConfig& config) {
  const DType E = compute_options(config).dtype;
  const std::string types = E == DType::f32
                                ? "everything in f32"
                                : fmt::format(
                                      "activations and working weights in {}, masters, moments and "
                                      "parameter gradients in f32",
                                      name_of(E));
  const std::string products = config.device == "cuda"
                                   ? gemm_cuda_implementation(gemm_backend(config))
                                   : gemm_implementation(E);
  return fmt::format("precision: {}: {}; products: {}", config.precision, types, products);
}

constexpr size_t kPlanFindings = 3;  // data inspect has all

std::vector<std::string> describe_plan(const TrainConfig& config, const RunInputs& inputs,
                                       int ranks) {
  const ParameterTable table = bert_parameters(inputs.model, inputs.parts);
  std::vector<std::string> lines;
  lines.push_back(
      fmt::format("model: {} layers x {}, {} heads, vocabulary {}, {} parameters{}",
                  inputs.model.num_hidden_layers, inputs.model.hidden_size,
                  inputs.model.num_attention_heads, inputs.model.vocab_size, table.parameters(),
                  inputs.parts.mlm_head && !inputs.parts.nsp_head ? ", without NSP" : ""));
  const std::vector<Phase> phases = phases_of(config);
  for (size_t i = 0; i < phases.size(); ++i) {
    const TrainConfig& c = phases[i].config;
    const StepSource& loader = *inputs.phases[i].loader;
    lines.push_back(fmt::format("{}batch: micro {} x accumulation {} = {} sequences per step",
                                phase_prefix(c), c.micro_batch_size, accumulation_steps(c),
                                c.global_batch_size));
    lines.push_back(fmt::format(
        "{}data: {}; {} steps are {:.2f} passes", phase_prefix(c), inputs.phases[i].description,
        phases[i].steps, loader.epoch_of(phases[i].end()) - loader.epoch_of(phases[i].first_step)));
    if (inputs.phases[i].data == nullptr) continue;  // fine-tuning
    for (const std::string& line : describe(lint(inputs.phases[i].data->manifest()), kPlanFindings))
      lines.push_back(fmt::format("{}data, finding: {}", phase_prefix(c), line));
  }
  lines.push_back(describe_precision(config));
  lines.push_back(describe_memory(config, inputs, ranks));
  lines.push_back(
      fmt::format("disk: {:.0f} MB per checkpoint",
                  static_cast<double>(checkpoint_bytes(table, moment_count(config))) / (1 << 20)));
  return lines;
}

}  // namespace minibert
