// sentence_folder.cpp: modules.json and the configurations that it names.
#include "models/bert/sentence_folder.h"

#include <fmt/ranges.h>

#include "models/text/tokenizer_fields.h"
#include "models/text/tokenizer_folder.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Names of the modes that a Pooling's configuration has on: a name, or a switch for each.
std::string pooling_of(const json& config) {
  if (config.contains("pooling_mode") && config["pooling_mode"].is_string())
    return config["pooling_mode"];
  constexpr std::pair<const char*, const char*> kModes[] = {
      {"pooling_mode_cls_token", "cls"},
      {"pooling_mode_max_tokens", "max"},
      {"pooling_mode_mean_tokens", "mean"},
      {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"},
      {"pooling_mode_weightedmean_tokens", "weightedmean"},
      {"pooling_mode_lasttoken", "lasttoken"}};
  std::vector<std::string> on;
  for (const auto& [key, name] : kModes)
    if (config.value(key, json(false)) == true) on.emplace_back(name);
  return fmt::format("{}", fmt::join(on, ", "));
}

}  // namespace

SentenceFolder read_sentence_folder(const fs::path& folder) {
  SentenceFolder result;
  const json sentences = read_json_object(folder / "sentence_bert_config.json");
  result.lowercase = sentences.value("do_lower_case", json(false)) == true;
  for (const auto& [type, path] : read_sentence_modules(folder)) {
    if (type.ends_with("Pooling")) {
      const fs::path file = folder / path / "config.json";
      result.pooling = pooling_of(read_json_object(file));
      result.pooling_file = file.string();
    } else if (type.ends_with("Normalize")) {
      result.normalize = path;
    } else if (!type.ends_with("Transformer")) {
      result.others.push_back(path.empty() ? type : path);
    }
  }
  return result;
}

std::vector<std::string> differences(const SentenceFolder& folder, const std::string& pooling,
                                     bool normalize, bool lowercases) {
  std::vector<std::string> lines;
  const bool built_in = folder.pooling == "mean" || folder.pooling == "cls";
  if (!folder.pooling.empty() && folder.pooling != pooling)
    lines.push_back(fmt::format(
        "{}: the pooling is {}, used is {}: sentence-transformers gives other vectors{}",
        folder.pooling_file, folder.pooling, pooling,
        built_in ? fmt::format(". As there: --pooling {}", folder.pooling)
                 : "; it is not built in"));
  if (!folder.normalize.empty() && !normalize)
    lines.push_back(
        fmt::format("sentence-transformers divides these vectors by their norms ({} of "
                    "modules.json). As there: "
                    "--normalize",
                    folder.normalize));
  if (!folder.others.empty())
    lines.push_back(
        fmt::format("sentence-transformers gives other vectors: {} of modules.json {} not built in",
                    fmt::join(folder.others, ", "), folder.others.size() == 1 ? "is" : "are"));
  if (folder.lowercase && !lowercases)
    lines.push_back(
        "sentence_bert_config.json: do_lower_case is true, but the tokenizer keeps capitals, as "
        "Transformers does. Give texts in small letters for the vectors of sentence-transformers");
  return lines;
}

}  // namespace minibert
