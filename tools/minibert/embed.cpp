// embed.cpp: `minibert embed`: one vector per text: the mean of its final hidden states, or the
// state of [CLS].
#include <cmath>
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

struct EmbedOptions {
  std::string model;
  std::string pooling = "mean";
  bool normalize = false;
  bool json = false;
  TextInput input;
  ComputeFlags compute;
};

void print_json(const std::string& text, const std::vector<int32_t>& ids,
                std::span<const float> vector) {
  const nlohmann::ordered_json object = {
      {"text", text}, {"ids", ids}, {"vector", std::vector<float>(vector.begin(), vector.end())}};
  fmt::print("{}\n", json_text(object));
}

void print_summary(const std::string& text, std::span<const float> vector) {
  constexpr size_t kShown = 6;
  double square = 0;
  for (const float x : vector) square += static_cast<double>(x) * x;
  fmt::print("{}\n  {} numbers, norm {:.4f}: ", text, vector.size(), std::sqrt(square));
  for (const float x : vector.first(std::min(kShown, vector.size()))) fmt::print("{:.4f} ", x);
  fmt::print("{}\n", vector.size() > kShown ? "... (all of them: --json)" : "");
}

void embed(const EmbedOptions& options) {
  const Pooling pooling = parse_pooling(options.pooling);
  const ComputeOptions compute = options.compute.options();
  const DeviceStream stream(compute);
  const ModelFolder folder = ModelFolder::open(
      options.model, {.pooler = false, .mlm_head = false, .nsp_head = false}, compute);
  const std::vector<std::string> texts = options.input.read();
  const std::vector<std::vector<int32_t>> ids = encode_texts(folder, texts);
  encode_in_groups(
      folder.model, ids, [&](size_t first, const PackedBatch& batch, const Variable& hidden) {
        const Tensor vectors =
            sentence_vectors(on_host(hidden.value()), batch, pooling, options.normalize);
        for (int64_t b = 0; b < batch.sequences(); ++b) {
          const size_t i = first + static_cast<size_t>(b);
          const std::span<const float> vector = vectors.rows(b, 1).span<float>();
          options.json ? print_json(texts[i], ids[i], vector) : print_summary(texts[i], vector);
        }
      });
}

}  // namespace

void add_embed_verb(CLI::App& app) {
  auto* verb = app.add_subcommand("embed", "one vector per text");
  auto options = std::make_shared<EmbedOptions>();
  verb->add_option("--model", options->model,
                   "a Transformers folder (config.json, model.safetensors, vocab.txt) or a "
                   "checkpoint of minibert")
      ->required();
  verb->add_option("--pooling", options->pooling,
                   "mean of the final hidden states, or cls: the first of them")
      ->capture_default_str();
  verb->add_flag("--normalize", options->normalize, "divide by the Euclidean norm");
  verb->add_flag("--json", options->json, "one JSON object per text");
  options->compute.add_to(*verb);
  options->input.add_options(*verb);
  verb->footer("Example: minibert embed --model DIR --pooling mean --normalize --json 'A text.'");
  verb->callback([options] { embed(*options); });
}

}  // namespace minibert
