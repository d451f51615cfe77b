// fill_mask.cpp: `minibert fill-mask`: the most probable tokens for each [MASK] of a text.
#include <memory>

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
  int64_t top_k = 5;
  bool json = false;
  TextInput input;
  ComputeFlags compute;
};

/// The candidates for one [MASK].
struct FilledMask {
  int64_t position;  // in the text's ids, from 0
  std::vector<Candidate> candidates;
};

void print_json(const Vocab& vocab, const std::string& text, const std::vector<int32_t>& ids,
                const std::vector<FilledMask>& masks) {
  nlohmann::ordered_json object = {
      {"text", text}, {"ids", ids}, {"masks", nlohmann::json::array()}};
  for (const FilledMask& mask : masks) {
    nlohmann::ordered_json candidates = nlohmann::json::array();
    for (const Candidate& candidate : mask.candidates) {
      candidates.push_back({{"id", candidate.id},
                            {"token", vocab.token(candidate.id)},
                            {"probability", candidate.probability}});
    }
    object["masks"].push_back({{"position", mask.position}, {"candidates", candidates}});
  }
  fmt::print("{}\n", json_text(object));
}

void print_table(const Vocab& vocab, const std::string& text,
                 const std::vector<FilledMask>& masks) {
  fmt::print("{}\n", text);
  for (size_t m = 0; m < masks.size(); ++m) {
    if (masks.size() > 1) fmt::print("  [MASK] {} of {}\n", m + 1, masks.size());
    for (const Candidate& candidate : masks[m].candidates) {
      fmt::print("  {:>6.2f} %  {}\n", 100 * candidate.probability, vocab.token(candidate.id));
    }
  }
}

/// Positions of [MASK] in each text. Errors: DataError naming the first text without one.
std::vector<std::vector<int64_t>> find_masks(const Vocab& vocab,
                                             const std::vector<std::string>& texts,
                                             const std::vector<std::vector<int32_t>>& ids) {
  std::vector<std::vector<int64_t>> masks(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    for (size_t t = 0; t < ids[i].size(); ++t) {
      if (ids[i][t] == vocab.mask_id()) masks[i].push_back(static_cast<int64_t>(t));
    }
    MB_CHECK_AS(DataError, !masks[i].empty(),
                "{} has no [MASK], expected at least one. Write [MASK], in capitals and brackets, "
                "in place of the word to fill in",
                describe_text(texts, i));
  }
  return masks;
}

void fill_mask(const FillMaskOptions& options) {
  const ComputeOptions compute = options.compute.options();
  const DeviceStream stream(compute);
  const ModelFolder folder = ModelFolder::open(
      options.model, {.pooler = false, .mlm_head = true, .nsp_head = false}, compute);
  const Vocab& vocab = folder.tokenizer.vocab();
  const std::vector<std::string> texts = options.input.read();
  const std::vector<std::vector<int32_t>> ids = encode_texts(folder, texts);
  const std::vector<std::vector<int64_t>> masks = find_masks(vocab, texts, ids);

  encode_in_groups(
      folder.model, ids, [&](size_t first, const PackedBatch& batch, const Variable& hidden) {
        std::vector<int32_t> rows;
        for (int64_t b = 0; b < batch.sequences(); ++b) {
          const int32_t start = batch.cu_seqlens.data<int32_t>()[b];
          for (const int64_t position : masks[first + static_cast<size_t>(b)]) {
            rows.push_back(start + static_cast<int32_t>(position));
          }
        }
        const Tensor row = Tensor::from<int32_t>(rows, {static_cast<int64_t>(rows.size())});
        const auto candidates =
            top_candidates(folder.model.mlm_logits(hidden, row), options.top_k, vocab.size());
        size_t next = 0;
        for (size_t i = first; i < first + static_cast<size_t>(batch.sequences()); ++i) {
          std::vector<FilledMask> filled;
          for (const int64_t position : masks[i]) filled.push_back({position, candidates[next++]});
          options.json ? print_json(vocab, texts[i], ids[i], filled)
                       : print_table(vocab, texts[i], filled);
        }
      });
}

}  // namespace

void add_fill_mask_verb(CLI::App& app) {
  auto* verb = app.add_subcommand("fill-mask", "the most probable words for each [MASK] of a text");
  auto options = std::make_shared<FillMaskOptions>();
  verb->add_option("--model", options->model,
                   "a Transformers folder (config.json, model.safetensors, vocab.txt) or a "
                   "checkpoint of minibert")
      ->required();
  verb->add_option("--top-k", options->top_k, "candidates for each [MASK]")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "one JSON object per text");
  options->compute.add_to(*verb);
  options->input.add_options(*verb);
  verb->footer("Example: minibert fill-mask --model DIR 'It is a truth universally [MASK].'");
  verb->callback([options] { fill_mask(*options); });
}

}  // namespace minibert
