// config_keys.cpp: the table of settings. A line here is the setting's TOML key, flag (underscores
// become dashes), environment variable, range and help.
#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "core/error.h"
#include "models/training/config.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

namespace minibert {
namespace {

using C = TrainConfig;
constexpr double kAny = std::numeric_limits<double>::infinity();
constexpr double kMost = 1e15;  // integers stay exact in a double

ConfigKey number(const char* section, const char* key, ConfigMember member, double low, double high,
                 const char* help) {
  return {section, key, member, low, high, {}, help};
}
ConfigKey word(const char* section, const char* key, ConfigMember member,
               std::vector<std::string> choices, std::string help) {
  return {section, key, member, 0, 0, std::move(choices), std::move(help)};
}

/// A word out of a table of optim: its rows' names are the choices, their summaries the help.
template <typename Rows>
ConfigKey row_of(const char* section, const char* key, ConfigMember member, const Rows& rows,
                 const std::string& help) {
  std::vector<std::string> names;
  std::string text;
  for (const auto& row : rows) {
    names.push_back(row.name);
    text += fmt::format(". {}: {}", row.name, row.summary);
  }
  return word(section, key, member, std::move(names), help + text);
}

/// A knob of the optimizer: its words and meaning are optim's. Numbers lie between `low` and `high`.
ConfigKey knob(const char* name, ConfigMember member, double low = 0, double high = 0) {
  const auto& knobs = optimizer_knobs();
  const auto found = std::find_if(knobs.begin(), knobs.end(), [&](const OptimizerKnob& k) {
    return k.key == std::string(name);
  });
  MB_ASSERT(found != knobs.end(), "config: {} is no knob of the optimizer", name);
  return {"optim",
          name,
          member,
          low,
          high,
          found->choices,
          fmt::format("{}; auto = as the optimizer has it", found->help)};
}

std::vector<ConfigKey> make_keys() {
  return {
      word("model", "model", &C::model,
           {"bert-tiny", "bert-mini", "bert-small", "bert-base", "bert-large"},
           "architecture by name (layers/hidden: 2/128, 4/256, 4/512, 12/768, 24/1024); the sizes "
           "below override it"),
      number("model", "num_hidden_layers", &C::num_hidden_layers, 0, 63,
             "encoder layers; 0 = as the model's name says"),
      number("model", "hidden_size", &C::hidden_size, 0, 65536,
             "width of the encoder; 0 = as the model's name says"),
      number("model", "num_attention_heads", &C::num_attention_heads, 0, 1024,
             "attention heads, a divisor of hidden_size; 0 = as the model's name says (with "
             "hidden_size given: hidden_size / 64)"),
      number("model", "intermediate_size", &C::intermediate_size, 0, 262144,
             "width of the feed-forward layers; 0 = as the model's name says (with hidden_size "
             "given: 4 * hidden_size)"),
      number("model", "max_position_embeddings", &C::max_position_embeddings, 8, 65536,
             "longest sequence that the model can read, tokens"),
      number("model", "hidden_dropout", &C::hidden_dropout, 0, 0.99,
             "dropout after embeddings, attention and feed-forward"),
      number("model", "attention_dropout", &C::attention_dropout, 0, 0.99,
             "dropout of attention probabilities"),
      number("model", "initializer_range", &C::initializer_range, 0, 10,
             "standard deviation of the first weights (BERT: 0.02; models of 128 units leave the "
             "plateau of word frequencies sooner with 0.06)"),
      word("model", "position_initializer", &C::position_initializer, {"normal", "sinusoidal"},
           "how position embeddings start: normal, as BERT's, or sinusoidal (arXiv 1706.03762), "
           "with which a small model leaves the plateau in a third of the steps"),
      word("model", "nsp", &C::nsp, {}, "next-sentence prediction; --no-nsp trains MLM alone"),
      word("model", "init_from", &C::init_from, {},
           "Transformers folder whose weights to start from (continued pre-training)"),

      word("data", "data", &C::data, {},
           "folder of training shards, made by `minibert data build`"),
      word("data", "evaluation_data", &C::evaluation_data, {},
           "folders of held-out shards, PATH or NAME=PATH; may be given several times, the first "
           "decides which checkpoint is the best"),
      word("data", "vocab", &C::vocab, {}, "vocab.txt; empty = the one in the data folder"),
      number("data", "sequence_length", &C::sequence_length, 0, 65536,
             "greatest length, in tokens, that the data must have been built with; 0 = any"),
      number("data", "sequences", &C::sequences, 0, kMost,
             "sequences in one pass, from which --dry-run counts passes while the data are not at "
             "hand; 0 = not known"),

      number("train", "micro_batch_size", &C::micro_batch_size, 1, 1 << 20,
             "sequences in a forward pass"),
      number("train", "global_batch_size", &C::global_batch_size, 1, 1 << 24,
             "sequences in an optimizer step; a multiple of micro_batch_size"),
      number("train", "token_capacity", &C::token_capacity, 0, kMost,
             "tokens in a forward pass, at most; 0 = micro_batch_size * sequence length"),
      number("train", "max_steps", &C::max_steps, 1, (1 << 22) - 1,
             "optimizer steps of the run, in a [[phase]] those of the phase; the schedule ends "
             "there"),
      number("train", "stop_after", &C::stop_after, 0, (1 << 22) - 1,
             "save and stop at this step, to go on later with --resume; 0 = at max_steps"),
      number("train", "seed", &C::seed, 0, kMost,
             "seed of every random decision: first weights, order of the data, masks, dropout"),
      number("train", "threads", &C::threads, 0, 1024,
             "threads of the kernels; 0 = what the machine or its cgroup grants"),
      word("train", "device", &C::device, {"cpu", "cuda"}, "where to compute"),
      word("train", "gemm", &C::gemm, {"fastest", "ours", "cublaslt"},
           "who multiplies on device cuda; fastest: our kernels and cuBLASLt are timed before the "
           "first step, and each form of product keeps the winner (gemm_choices.txt in the run "
           "folder, which a resumed run reads)"),
      word("train", "precision", &C::precision, {"fp32", "tf32", "bf16", "fp16"},
           "compute type of activations and working weights; masters, moments and parameter "
           "gradients stay f32 (tf32: CUDA only)"),
      word("train", "recompute", &C::recompute, {"none", "layer"},
           "layer: keep each encoder layer's input alone and compute the layer again in backward; "
           "less memory, about a third more time, the same bits"),
      word("train", "deterministic", &C::deterministic, {},
           "kernel choices from a fixed table instead of timing: on device cuda our own products, "
           "unless --gemm says cublaslt (on the CPU they always are, so that a run repeats its "
           "bits with or without it)"),
      word("train", "overfit_batch", &C::overfit_batch, {},
           "train on the first batch over and over, to see that learning works"),
      word("train", "fixed_shapes", &C::fixed_shapes, {},
           "compute every micro-batch at its capacity, so that all have one shape (what a CUDA "
           "graph needs); the results are the same, padding costs time"),
      word("train", "graph", &C::graph, {},
           "device cuda: queue the first steps as usual, then replay them as one CUDA graph; the "
           "same bits, less work for the host. Needs fixed_shapes"),

      word("ranks", "collectives", &C::collectives, {"auto", "gloo", "ring", "nccl"},
           "who sums over ranks: Gloo on CPUs, NCCL on GPUs, or, on both, the readable ring of "
           "dist/ring.h; auto: gloo on device cpu, nccl on cuda"),
      word("ranks", "interface", &C::interface, {},
           "network interface or address by which other ranks reach this one; empty = the one that "
           "leads to rank 0"),
      number(
          "ranks", "bucket_megabytes", &C::bucket_megabytes, 0, 4096,
          "size of a bucket, the gradients that are summed over ranks at once, in MiB of f32; its "
          "sum begins while backward still runs; 0 = from a probe at the start, which a resumed "
          "run keeps (two runs may then add in other orders, where there are three ranks or "
          "more)"),
      word(
          "ranks", "reduce_precision", &C::reduce_precision, {"fp32", "bf16", "fp16"},
          "type in which gradients are summed over ranks: 16 bits halve what travels, and each sum "
          "is rounded"),
      word("ranks", "shard_optimizer", &C::shard_optimizer, {},
           "each rank keeps and updates its share of the optimizer's moments alone (ZeRO-1): less "
           "memory, the same results"),
      number("ranks", "communication_timeout", &C::communication_timeout, 1, 86400,
             "seconds without progress after which a sum over ranks fails, and the run with it"),
      number("ranks", "start_timeout", &C::start_timeout, 1, 86400,
             "seconds that the ranks have to find each other"),

      word("scale", "loss_scaling", &C::loss_scaling, {"auto", "on", "off"},
           "dynamic loss scaling; auto: on for fp16 alone"),
      number("scale", "loss_scale", &C::loss_scale, 1e-6, 1e37, "scale of the first step"),
      number("scale", "loss_scale_growth", &C::loss_scale_growth, 1, 1024,
             "the scale is multiplied by it after loss_scale_interval clean steps"),
      number("scale", "loss_scale_backoff", &C::loss_scale_backoff, 0.001, 0.999,
             "the scale is multiplied by it after a step whose gradients are not finite"),
      number("scale", "loss_scale_floor", &C::loss_scale_floor, 1e-6, 1e37,
             "the scale never falls below it"),
      number("scale", "loss_scale_interval", &C::loss_scale_interval, 1, 1 << 22,
             "clean steps until the scale grows"),
      number("scale", "max_skips", &C::max_skips, 1, 1 << 22,
             "skipped steps in a row that stop the run, once the scale is at its floor or a step "
             "has been applied"),

      row_of("optim", "optimizer", &C::optimizer, optimizer_variants(), "how weights are updated"),
      number(
          "optim", "learning_rate", &C::learning_rate, 0, 100,
          "lr0 of the schedule's formula. linear and google-linear decay from step 0 on, so that "
          "their highest rate is about lr0 (1 - warm-up / steps); transformers-linear reaches lr0; "
          "the log has it"),
      row_of("optim", "schedule", &C::schedule, schedule_names(),
             "learning rate over the run's steps (formulas: optim/schedule.h)"),
      number("optim", "schedule_power", &C::schedule_power, 0.001, 10, "power of the polynomial"),
      number("optim", "warmup", &C::warmup, 0, kMost,
             "steps in which the learning rate rises from zero (the first step already has a share "
             "of it, but with google-linear and transformers-linear); below 1: share of max_steps"),
      word(
          "optim", "batch_scaling", &C::batch_scaling, {"none", "sqrt"},
          "sqrt: learning rate, warm-up and steps follow from global_batch_size and a reference "
          "point: the rate by the square root of the batch's factor, the steps so that epochs "
          "stay, "
          "the warm-up as many steps as there (arXiv 1904.00962). Each of them that is given wins"),
      number(
          "optim", "reference_batch_size", &C::reference_batch_size, 0, 1 << 24,
          "batch at which the reference_ settings are right; 0 = the recipe's global_batch_size"),
      number("optim", "reference_learning_rate", &C::reference_learning_rate, 0, 100,
             "learning rate at that batch; 0 = the recipe's"),
      number("optim", "reference_warmup", &C::reference_warmup, 0, kMost,
             "warm-up at that batch, in steps or, below 1, as a share; 0 = the recipe's, or none"),
      number("optim", "reference_steps", &C::reference_steps, 0, kMost,
             "steps at that batch; 0 = the recipe's; if it has none either, max_steps stays as it "
             "is"),
      number("optim", "weight_decay", &C::weight_decay, 0, 100,
             "of all weights but biases and LayerNorm"),
      number(
          "optim", "max_grad_norm", &C::max_grad_norm, 0, kAny,
          "gradients are scaled down to this norm, if the optimizer clips (gradient_clipping); 0 = "
          "never"),
      number("optim", "beta1", &C::beta1, 0, 0.999999,
             "decay of the first moment; momentum of sgd and lars"),
      number("optim", "beta2", &C::beta2, 0, 0.999999999, "decay of the second moment"),
      number("optim", "epsilon", &C::epsilon, 0, 1,
             "added to the root of the second moment; 0 = the optimizer's own"),

      knob("adapt", &C::adapt),
      knob("bias_correction", &C::bias_correction),
      knob("gradient_clipping", &C::gradient_clipping),
      knob("epsilon_inside_root", &C::epsilon_inside_root),
      knob("gradient_averaging", &C::gradient_averaging),
      knob("nesterov", &C::nesterov),
      knob("trust_coefficient", &C::trust_coefficient, 1e-9, 1e9),
      knob("weight_norm_min", &C::weight_norm_min, 0, 1e9),
      knob("weight_norm_max", &C::weight_norm_max, 0, 1e9),
      knob("trust_ratio_min", &C::trust_ratio_min, 0, 1e9),
      knob("trust_ratio_max", &C::trust_ratio_max, 0, 1e9),

      word("checkpoint", "output_dir", &C::output_dir, {}, "run folder"),
      word("checkpoint", "resume", &C::resume, {},
           "never: start anew; auto: go on where output_dir's newest good checkpoint stands, or "
           "start; must: go on or fail; or the path of a checkpoint"),
      number("checkpoint", "save_every", &C::save_every, 0, kMost,
             "steps between checkpoints; 0 = at the end alone"),
      number("checkpoint", "keep_last", &C::keep_last, 1, 1000000,
             "checkpoints kept beside the best by evaluation"),
      number("checkpoint", "grace", &C::grace, 0, 1e9,
             "seconds that a step may go on after SIGTERM, SIGINT or SIGUSR1; one that would take "
             "longer is dropped and the last whole step is saved"),

      number("log", "log_every", &C::log_every, 1, kMost, "steps between log lines"),
      number("log", "evaluate_every", &C::evaluate_every, 0, kMost,
             "steps between evaluations on the held-out data; 0 = at the end alone"),
      number("log", "evaluation_batches", &C::evaluation_batches, 0, kMost,
             "micro-batches an evaluation reads, at most; 0 = all of the set"),
      number("log", "trust_ratio_every", &C::trust_ratio_every, 0, kMost,
             "steps between lines of trust_ratios.jsonl (norms and trust ratio by tensor); 0 = "
             "never"),
      word("log", "tensorboard", &C::tensorboard, {},
           "write TensorBoard event files into the run folder, beside metrics.jsonl"),
  };
}

}  // namespace

const std::vector<ConfigKey>& config_keys() {
  static const std::vector<ConfigKey> keys = make_keys();
  return keys;
}

const ConfigKey& config_key(const std::string& name) {
  const ConfigKey* found = nullptr;
  for (const auto* keys : {&config_keys(), &phase_keys()})
    for (const ConfigKey& key : *keys)
      if (key.name() == name) found = &key;
  MB_ASSERT(found, "no setting is called {}", name);
  return *found;
}

}  // namespace minibert
