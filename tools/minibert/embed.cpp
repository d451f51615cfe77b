// embed.cpp: `minibert embed`: one vector per text: the mean of its final hidden states, or the
// state of [CLS].
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/device_stream.h"
#include "models/bert/inference.h"
#include "models/bert/sentence_folder.h"
#include "models/text/json_text.h"
#include "models/text/tokenizer_config.h"
#include "tools/minibert/compute_flags.h"
#include "tools/minibert/model_input.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

struct EmbedOptions {
  std::string model;
  std::string pooling;                // "": what the folder says, else mean
  std::optional<std::string> prompt;  // nothing: what the folder says
  bool normalize = false;
  bool json = false;
  TextInput input;
  ComputeFlags compute;
};

/// The shortest text that reads back as the same float: a JSON library prints doubles.
void append_numbers(std::span<const float> values, std::string& out) {
  out += '[';
  for (const float value : values) {
    if (out.back() != '[') out += ',';
    if (std::isfinite(value)) {
      fmt::format_to(std::back_inserter(out), "{}", value);
    } else {
      out += "null";  // as a JSON library
    }
  }
  out += ']';
}

std::string as_json(const EncodedText& text, std::span<const float> vector) {
  const nlohmann::ordered_json object = {{"text", text.text}, {"ids", text.ids}};
  std::string line = json_text(object);
  line.back() = ',';  // the closing brace
  line += "\"vector\":";
  append_numbers(vector, line);
  return line + "}\n";
}

std::string summary(const EncodedText& text, std::span<const float> vector) {
  constexpr size_t kShown = 6;
  double square = 0;
  for (const float x : vector) square += static_cast<double>(x) * x;
  std::string line =
      fmt::format("{}\n  {} numbers, norm {:.4f}: ", text.text, vector.size(), std::sqrt(square));
  for (const float x : vector.first(std::min(kShown, vector.size())))
    line += fmt::format("{:.4f} ", x);
  return line + (vector.size() > kShown ? "... (all of them: --json)\n" : "\n");
}

/// Tokens of a text at most: what sentence-transformers takes for the same folder.
int64_t max_tokens(const ModelFolder& folder, const std::string& path) {
  const int64_t positions = folder.model.config().max_position_embeddings;
  return std::min(positions, load_max_tokens(path).value_or(positions));
}

struct Choice {
  Pooling pooling;
  std::string prompt;
};

/// The flags', else those of the folder's sentence-transformers files; notes what these say beyond it.
Choice choose(const EmbedOptions& options, const ModelFolder& folder) {
  const SentenceFolder sentences = read_sentence_folder(options.model);
  const std::string prompt = options.prompt.value_or(sentences.prompt);
  if (!options.prompt && !prompt.empty())
    fmt::print(stderr,
               "note: \"{}\" stands before each text, as {} says (--prompt '' leaves it out)\n",
               prompt, sentences.prompt_file);
  std::string name = options.pooling;
  if (name.empty()) name = sentences.pooling == "cls" ? "cls" : "mean";
  if (options.pooling.empty() && name == "cls")
    fmt::print(stderr, "note: pooling is cls, as {} says\n", sentences.pooling_file);
  for (const std::string& line : differences(sentences, name, options.normalize,
                                             folder.tokenizer.options().lowercase, options.prompt))
    fmt::print(stderr, "note: {}\n", line);
  return {parse_pooling(name), prompt};
}

void embed(const EmbedOptions& options) {
  if (!options.pooling.empty()) parse_pooling(options.pooling);  // before the model is read
  const ComputeOptions compute = options.compute.options();
  const DeviceStream stream(compute);
  const ModelFolder folder = ModelFolder::open(
      options.model, {.pooler = false, .mlm_head = false, .nsp_head = false}, compute);
  const Choice chosen = choose(options, folder);
  TextUse use{.prompt = chosen.prompt,
              .max_tokens = max_tokens(folder, options.model),
              .json = options.json};
  use.print = [&](const std::vector<EncodedText>& texts, const PackedBatch& batch,
                  const Variable& hidden) {
    const Tensor vectors =
        sentence_vectors(on_host(hidden.value()), batch, chosen.pooling, options.normalize);
    std::vector<std::string> lines;
    for (size_t i = 0; i < texts.size(); ++i) {
      const Tensor vector = vectors.rows(static_cast<int64_t>(i), 1);
      lines.push_back(options.json ? as_json(texts[i], vector.span<float>())
                                   : summary(texts[i], vector.span<float>()));
    }
    return lines;
  };
  run_on_texts(folder, options.input, use);
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
                   "mean of the final hidden states, or cls: the first of them (default: what "
                   "sentence-transformers' files in the folder say, else mean)");
  verb->add_option("--prompt", options->prompt,
                   "words that stand before each text (default: the default prompt of "
                   "sentence-transformers' files in the folder, else none)");
  verb->add_flag("--normalize", options->normalize, "divide by the Euclidean norm");
  verb->add_flag("--json", options->json, "one JSON object per text");
  options->compute.add_to(*verb);
  options->input.add_options(*verb, /* truncate= */ true);
  verb->footer("Example: minibert embed --model DIR --pooling mean --normalize --json 'A text.'");
  verb->callback([options] { embed(*options); });
}

}  // namespace minibert
