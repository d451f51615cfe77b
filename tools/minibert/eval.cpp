// eval.cpp: `minibert eval mlm`: how well a model fills in masks on held-out shards. The work is
// done in models/training/evaluation.h; eval squad and eval classify are in eval_finetuned.cpp.
// Try: minibert eval mlm --help. Test: ctest -R train_verb.
#include <memory>

#include <fmt/format.h>

#include "core/device_stream.h"
#include "core/error.h"
#include "core/parallel.h"
#include "models/bert/hugging_face.h"
#include "models/text/casing.h"
#include "models/text/tokenizer_folder.h"
#include "models/training/evaluation.h"
#include "models/training/run_log.h"
#include "models/training/run_setup.h"
#include "tools/minibert/compute_flags.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

struct EvalFlags {
  std::string model, data;
  int64_t batch = 32, max_batches = 0;
  int threads = 0;
  bool json = false;
  ComputeFlags compute;
};

/// The vocabulary that the data must have been built with, and how: the model folder's, if it says so.
ExpectedData expected_of(const std::filesystem::path& model, const BertConfig& config) {
  ExpectedData expected;
  std::optional<FolderTokenizer> opened;
  if (holds_vocabulary(model)) {  // of which a model may have more rows
    opened.emplace(open_tokenizer_folder(model));
    expected.vocabulary_hash = fmt::format("{:016x}", opened->tokenizer.vocab().hash());
  } else {
    expected.vocab_size = static_cast<int32_t>(config.vocab_size);
  }
  expected.vocabulary = model;
  if (const auto beside = options_beside(model, opened ? &opened->tokenizer : nullptr))
    expected.tokenizer = beside->options;
  return expected;
}

void run_mlm(const EvalFlags& flags) {
  if (flags.threads > 0) set_num_threads(flags.threads);
  const ComputeOptions compute = flags.compute.options();
  const DeviceStream stream(compute);
  const LoadedBert loaded =
      load_hugging_face(flags.model, ModelUse::inference,
                        {.pooler = false, .mlm_head = true, .nsp_head = false}, compute);
  const BertForPreTraining& model = loaded.model;
  const auto data = ShardSet::open(flags.data, expected_of(flags.model, model.config()));
  MB_CHECK(
      data->traits().sequence_length <= model.config().max_position_embeddings,
      "{}: sequences have up to {} tokens, expected at most {} (max_position_embeddings of {}). "
      "Build the data with --sequence-length {}",
      flags.data, data->traits().sequence_length, model.config().max_position_embeddings,
      flags.model, model.config().max_position_embeddings);
  check_segments(*data, model.config());
  const EvaluationOptions options{
      .micro_batch_size = flags.batch,
      .max_batches = flags.max_batches,
      .nsp = model.parts().nsp_head && model.parts().pooler && data->traits().nsp};
  const auto result = evaluate(model, data, options);
  if (flags.json) {
    fmt::print("{}\n", to_json(*result));
    return;
  }
  fmt::print("mlm_loss {:.4f} nats, {:.4f} below the unigram cross-entropy {:.4f}\n",
             result->mlm_loss, result->unigram_cross_entropy - result->mlm_loss,
             result->unigram_cross_entropy);
  fmt::print("mlm_accuracy {:.2f} % of {} masked tokens\n", 100 * result->mlm_accuracy,
             result->masked_tokens);
  if (result->nsp_loss)
    fmt::print("nsp_loss {:.4f} nats, nsp_accuracy {:.2f} %\n", *result->nsp_loss,
               100 * *result->nsp_accuracy);
}

}  // namespace

void add_eval_verb(CLI::App& app) {
  CLI::App* eval = app.add_subcommand("eval", "Measure a model on held-out data");
  eval->require_subcommand(1);
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* mlm = eval->add_subcommand(
      "mlm", "Masked-token loss and accuracy with the unigram cross-entropy, and NSP");
  mlm->add_option("--model", flags->model, "Checkpoint or Transformers folder")->required();
  mlm->add_option("--data", flags->data, "Folder of held-out shards")->required();
  mlm->add_option("--batch", flags->batch, "Sequences per forward pass")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  mlm->add_option("--max-batches", flags->max_batches, "Maximum number of batches to read; 0 = all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  mlm->add_option("--threads", flags->threads, "Threads; 0 = all")->check(CLI::Range(0, 1024));
  flags->compute.add_to(*mlm);
  mlm->add_flag("--json", flags->json, "Print one JSON object");
  mlm->callback([flags] { run_mlm(*flags); });
  add_eval_squad(*eval);
  add_eval_classify(*eval);
}

}  // namespace minibert
