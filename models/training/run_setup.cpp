// run_setup.cpp: opening and checking what a run reads.
#include "models/training/run_setup.h"

#include "core/device.h"
#include "core/error.h"
#include "core/kernels/gemm.h"
#include "core/precision.h"
#include "core/simd.h"
#include "models/bert/hugging_face.h"
#include "models/text/checksum.h"
#include "models/text/vocab.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// A size from the configuration, or the one that the model's name or another size implies.
int64_t size_or(int64_t given, int64_t implied) {
  return given > 0 ? given : implied;
}

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

BertConfig model_shape(const TrainConfig& config, const ShardSet& data) {
  const int32_t vocab_size = data.traits().vocab_size;
  BertConfig model = configured_shape(config);
  if (config.init_from.empty()) {
    model.vocab_size = vocab_size;
  } else {
    model = load_hugging_face_config(config.init_from);
    MB_CHECK(model.vocab_size == vocab_size,
             "{}: vocab_size is {}, expected {} (the vocabulary of the data in {}). Build the data "
             "with the vocab.txt of that model.",
             (fs::path(config.init_from) / "config.json").string(), model.vocab_size, vocab_size,
             config.data);
  }
  if (config.init_from.empty()) check_heads(model);
  model.hidden_dropout_prob = static_cast<float>(config.hidden_dropout);
  model.attention_probs_dropout_prob = static_cast<float>(config.attention_dropout);
  model.validate("configuration, section model");
  return model;
}

/// vocab.txt of the run; the data must have been built with it.
TokenizerFiles open_tokenizer(const TrainConfig& config, const ShardSet& data) {
  const fs::path path =
      config.vocab.empty() ? fs::path(config.data) / "vocab.txt" : fs::path(config.vocab);
  check_vocabulary(path, data, "Leave out --vocab, or build the data with this vocabulary.");
  return {path, data.manifest().settings.cased ? TokenizerOptions::cased() : TokenizerOptions{}};
}

void check_lengths(const ShardSet& data, const BertConfig& model) {
  MB_CHECK(data.traits().sequence_length <= model.max_position_embeddings,
           "{}: sequences have up to {} tokens, expected at most {} (max_position_embeddings of "
           "the model). Use --max-position-embeddings {}, or build the data with a smaller "
           "--sequence-length.",
           data.folder().string(), data.traits().sequence_length, model.max_position_embeddings,
           data.traits().sequence_length);
}

void check_nsp(const ShardSet& data, bool nsp) {
  MB_CHECK(!nsp || data.traits().nsp,
           "{}: has no sentence pairs, expected them for next-sentence prediction. Use --no-nsp, "
           "or build the data with pairs.",
           data.folder().string());
}

/// Copies the parameters that both models have, by name. Returns how many `source` lacks.
int copy_weights(const BertForPreTraining& source, BertForPreTraining& target) {
  int missing = 0;
  const ParameterTable& table = target.arena().table();
  for (int i = 0; i < table.count(); ++i) {
    const int found = source.arena().table().find(table[i].name);
    if (found < 0) {
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

}  // namespace

RunInputs open_inputs(const TrainConfig& config) {
  validate(config);
  simd_level();  // throws if MINIBERT_SIMD names a level that this CPU lacks
  RunInputs inputs;
  inputs.data = ShardSet::open(config.data);
  inputs.parts = {.pooler = config.nsp, .mlm_head = true, .nsp_head = config.nsp};
  inputs.model = model_shape(config, *inputs.data);
  inputs.tokenizer = open_tokenizer(config, *inputs.data);
  const fs::path source_vocab = fs::path(config.init_from) / "vocab.txt";
  if (!config.init_from.empty() && fs::exists(source_vocab))
    check_vocabulary(source_vocab, *inputs.data,
                     "Build the data with this vocabulary, or start from another model.");
  check_lengths(*inputs.data, inputs.model);
  check_nsp(*inputs.data, config.nsp);
  inputs.loader = std::make_shared<Loader>(
      inputs.data, LoaderOptions{.global_batch_size = config.global_batch_size,
                                 .micro_batch_size = config.micro_batch_size,
                                 .token_capacity = config.token_capacity,
                                 .seed = static_cast<uint64_t>(config.seed),
                                 .nsp = config.nsp,
                                 .fixed_shapes = config.fixed_shapes});
  const ExpectedData expected{inputs.data->traits().vocab_size,
                              inputs.data->manifest().vocabulary_hash};
  for (const auto& [name, path] : evaluation_sets(config)) {
    inputs.evaluation.emplace_back(name, ShardSet::open(path, expected));
    check_lengths(*inputs.evaluation.back().second, inputs.model);
    check_nsp(*inputs.evaluation.back().second, config.nsp);
    inputs.evaluation.back().second->unigram_counts();  // reports a damaged file now
  }
  return inputs;
}

void check_vocabulary(const fs::path& vocab, const ShardSet& data, const std::string& fix) {
  const std::string hash = fmt::format("{:016x}", Vocab::load(vocab).hash());
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
  const int missing = copy_weights(loaded.model, model);
  notes.push_back(fmt::format("weights from {}: {} tensors; {} are not in it and were drawn",
                              config.init_from, model.arena().table().count() - missing, missing));
  return model;
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
  const double rows = (L - 1) * T + P + B;  // the last layer has only the rows of the heads
  const double rest = rows * (2 * H * H + 4 * H * F);
  const double heads = P * (2 * H * H + 2 * H * V) + B * 2 * H * H;
  return 3 * (attention + rest + heads);
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

std::vector<std::string> describe_plan(const TrainConfig& config, const RunInputs& inputs) {
  const ParameterTable table = bert_parameters(inputs.model, inputs.parts);
  const int64_t accumulation = accumulation_steps(config);
  const double epochs = inputs.loader->epoch_of(config.max_steps);
  std::vector<std::string> lines;
  lines.push_back(fmt::format("model: {} layers x {}, {} heads, vocabulary {}, {} parameters{}",
                              inputs.model.num_hidden_layers, inputs.model.hidden_size,
                              inputs.model.num_attention_heads, inputs.model.vocab_size,
                              table.parameters(), inputs.parts.nsp_head ? "" : ", without NSP"));
  lines.push_back(fmt::format("batch: micro {} x accumulation {} = {} sequences per step",
                              config.micro_batch_size, accumulation, config.global_batch_size));
  lines.push_back(fmt::format(
      "data: {} examples of up to {} tokens, {}; {} steps are {:.2f} passes",
      inputs.data->examples(), inputs.data->traits().sequence_length,
      inputs.data->traits().masked ? "static masks" : "dynamic masks", config.max_steps, epochs));
  lines.push_back(describe_precision(config));
  const DType E = compute_options(config).dtype;
  const int64_t working = E == DType::f32 ? 0 : static_cast<int64_t>(size_of(E));  // bytes a weight
  const int64_t moments = moment_count(config);
  const double megabyte = 1 << 20;
  lines.push_back(fmt::format(
      "memory: {:.0f} MB weights, gradients and optimizer state, {:.0f} MB more while a checkpoint "
      "is written; disk: {:.0f} MB per checkpoint",
      static_cast<double>(table.size() * (8 + 4 * moments + working)) / megabyte,
      static_cast<double>(table.size() * (4 + 4 * moments)) / megabyte,
      static_cast<double>(checkpoint_bytes(table, moments)) / megabyte));
  return lines;
}

}  // namespace minibert
