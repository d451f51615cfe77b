// fill_mask.cpp: `minibert fill-mask`: the most probable tokens for each [MASK] of a text.
#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/device_stream.h"
#include "models/bert/inference.h"
#include "models/text/json_text.h"
#include "tools/minibert/compute_flags.h"
#include "tools/minibert/model_input.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

struct FillMaskOptions {
  std::string model;
  std::optional<int64_t> top_k;      // nothing: 5, or all targets
  std::vector<std::string> targets;  // the only candidates; none: all tokens
  bool json = false;
  TextInput input;
  ComputeFlags compute;
};

/// The candidates for one [MASK].
struct FilledMask {
  int64_t position;  // in the text's ids, from 0
  std::vector<Candidate> candidates;
};

std::string as_json(const Vocab& vocab, const EncodedText& text,
                    const std::vector<FilledMask>& masks) {
  nlohmann::ordered_json object = {
      {"text", text.text}, {"ids", text.ids}, {"masks", nlohmann::json::array()}};
  for (const FilledMask& mask : masks) {
    nlohmann::ordered_json candidates = nlohmann::json::array();
    for (const Candidate& candidate : mask.candidates) {
      candidates.push_back({{"id", candidate.id},
                            {"token", vocab.token(candidate.id)},
                            {"probability", candidate.probability}});
    }
    object["masks"].push_back({{"position", mask.position}, {"candidates", candidates}});
  }
  return json_text(object) + "\n";
}

std::string table(const Vocab& vocab, const EncodedText& text,
                  const std::vector<FilledMask>& masks) {
  std::string lines = text.text + "\n";
  for (size_t m = 0; m < masks.size(); ++m) {
    if (masks.size() > 1)
      lines += fmt::format("  {} {} of {}\n", vocab.token(vocab.mask_id()), m + 1, masks.size());
    for (const Candidate& candidate : masks[m].candidates) {
      lines +=
          fmt::format("  {:>6.2f} %  {}\n", 100 * candidate.probability, vocab.token(candidate.id));
    }
  }
  return lines;
}

/// Positions of [MASK] in a text.
std::vector<int64_t> masks_of(const Vocab& vocab, const EncodedText& text) {
  std::vector<int64_t> masks;
  for (size_t t = 0; t < text.ids.size(); ++t) {
    if (text.ids[t] == vocab.mask_id()) masks.push_back(static_cast<int64_t>(t));
  }
  return masks;
}

/// A line without text is no mistake: it has a result, without masks.
std::string objection(const Vocab& vocab, const EncodedText& text) {
  constexpr size_t kSpecialTokens = 2;  // [CLS] and [SEP]
  if (text.ids.size() == kSpecialTokens || !masks_of(vocab, text).empty()) return "";
  const std::string_view mask = vocab.token(vocab.mask_id());
  if (text.cut)
    return fmt::format(
        "has no {} in the part that the model can read, expected at least one. Shorten the text "
        "before it",
        mask);
  return fmt::format("has no {}, expected at least one. Write {}{} in place of the word to fill in",
                     mask, mask, mask == kMaskToken ? ", in capitals and brackets," : "");
}

/// Ids of the targets, each once, as Transformers' fill-mask has them: a token itself, else the first piece of the
/// word, which a note tells. Errors: UsageError if none is left.
std::vector<int32_t> target_ids(const ModelFolder& folder,
                                const std::vector<std::string>& targets) {
  const Vocab& vocab = folder.tokenizer.vocab();
  std::vector<int32_t> ids;
  for (const std::string& target : targets) {
    int32_t id = vocab.id(target);
    if (id < 0) {
      const std::vector<int32_t> pieces = folder.tokenizer.encode(target);
      if (!pieces.empty()) id = pieces.front();
      fmt::print(stderr, "note: target \"{}\" is no token of the vocabulary: {}\n", target,
                 id < 0 ? "it is left out"
                        : fmt::format("its first piece, {}, is scored", vocab.token(id)));
    }
    if (id >= 0 && std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  }
  MB_CHECK(targets.empty() || !ids.empty(),
           "--targets names no token of the vocabulary, expected at least one. Give words that the "
           "model's vocab.txt has");
  return ids;
}

/// What the texts of a group get.
std::vector<std::string> results(const ModelFolder& folder, const FillMaskOptions& options,
                                 const std::vector<int32_t>& targets,
                                 const std::vector<EncodedText>& texts, const PackedBatch& batch,
                                 const Variable& hidden) {
  const Vocab& vocab = folder.tokenizer.vocab();
  std::vector<int32_t> rows;
  for (size_t i = 0; i < texts.size(); ++i) {
    const int32_t start = batch.cu_seqlens.data<int32_t>()[i];
    for (const int64_t position : masks_of(vocab, texts[i]))
      rows.push_back(start + static_cast<int32_t>(position));
  }
  std::vector<std::vector<Candidate>> candidates;
  if (!rows.empty()) {
    const Tensor row = Tensor::from<int32_t>(rows, {static_cast<int64_t>(rows.size())});
    const int64_t k = options.top_k.value_or(targets.empty() ? 5 : std::ssize(targets));
    candidates = top_candidates(folder.model.mlm_logits(hidden, row), k, vocab.size(), targets);
  }
  std::vector<std::string> lines;
  size_t next = 0;
  for (const EncodedText& text : texts) {
    std::vector<FilledMask> filled;
    for (const int64_t position : masks_of(vocab, text))
      filled.push_back({position, candidates[next++]});
    lines.push_back(options.json ? as_json(vocab, text, filled) : table(vocab, text, filled));
  }
  return lines;
}

void fill_mask(const FillMaskOptions& options) {
  const ComputeOptions compute = options.compute.options();
  const DeviceStream stream(compute);
  const ModelFolder folder = ModelFolder::open(
      options.model, {.pooler = false, .mlm_head = true, .nsp_head = false}, compute);
  const Vocab& vocab = folder.tokenizer.vocab();
  const std::vector<int32_t> targets = target_ids(folder, options.targets);
  run_on_texts(folder, options.input,
               {.objection = [&](const EncodedText& text) { return objection(vocab, text); },
                .print =
                    [&](const auto& texts, const PackedBatch& batch, const Variable& hidden) {
                      return results(folder, options, targets, texts, batch, hidden);
                    },
                .max_tokens = folder.model.config().max_position_embeddings,
                .json = options.json});
}

}  // namespace

void add_fill_mask_verb(CLI::App& app) {
  auto* verb = app.add_subcommand("fill-mask", "the most probable words for each [MASK] of a text");
  auto options = std::make_shared<FillMaskOptions>();
  verb->add_option("--model", options->model,
                   "a Transformers folder (config.json, model.safetensors, vocab.txt) or a "
                   "checkpoint of minibert")
      ->required();
  verb->add_option("--top-k", options->top_k,
                   "candidates for each [MASK] (default: 5, or all of --targets)")
      ->check(CLI::Range(1, 1 << 24));
  verb->add_option(
          "--targets", options->targets,
          "the only candidates, separated by commas: their probabilities among all tokens; "
          "may be given several times")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_flag("--json", options->json, "one JSON object per text");
  options->compute.add_to(*verb);
  options->input.add_options(*verb, /* truncate= */ false);
  verb->footer("Example: minibert fill-mask --model DIR 'It is a truth universally [MASK].'");
  verb->callback([options] { fill_mask(*options); });
}

}  // namespace minibert
