// sentence_folder.cpp: modules.json and the configurations that it names.
#include "models/bert/sentence_folder.h"

#include <fmt/ranges.h>

#include "models/text/tokenizer_fields.h"
#include "models/text/tokenizer_folder.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Names of the modes that a Pooling's configuration has on: a name, a list of names, or a switch for each.
std::string pooling_of(const json& config) {
  const json mode = config.value("pooling_mode", json());
  if (mode.is_string()) return mode;
  if (mode.is_array()) {
    std::vector<std::string> names;
    for (const json& name : mode) names.push_back(name.is_string() ? name.get<std::string>() : "?");
    return fmt::format("{}", fmt::join(names, ", "));
  }
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

/// {"prompts": {"query": "Represent this: "}, "default_prompt_name": null}.
void read_prompts(const fs::path& file, SentenceFolder& result) {
  const json config = read_json_object(file);
  const json prompts = config.value("prompts", json());
  if (!prompts.is_object()) return;
  for (const auto& [name, text] : prompts.items())
    if (text.is_string() && !text.get_ref<const std::string&>().empty())
      result.prompts.push_back(fmt::format("{} \"{}\"", name, text.get_ref<const std::string&>()));
  if (result.prompts.empty()) return;
  result.prompt_file = file.string();
  const json chosen = config.value("default_prompt_name", json());
  if (!chosen.is_string()) return;
  const auto found = prompts.find(chosen.get_ref<const std::string&>());
  MB_CHECK_AS(
      DataError, found != prompts.end() && found->is_string(),
      "{}: default_prompt_name is {}, expected the name of one of the prompts ({}). Copy the file "
      "again from where the model came from",
      file.string(), chosen.dump(), fmt::join(result.prompts, ", "));
  result.prompt = *found;
}

}  // namespace

SentenceFolder read_sentence_folder(const fs::path& folder) {
  SentenceFolder result;
  const json sentences = read_json_object(folder / "sentence_bert_config.json");
  result.lowercase = sentences.value("do_lower_case", json(false)) == true;
  read_prompts(folder / "config_sentence_transformers.json", result);
  for (const auto& [type, path] : read_sentence_modules(folder)) {
    const std::string name = type.substr(type.rfind('.') + 1);
    if (name == "Pooling") {
      const fs::path file = folder / path / "config.json";
      const json config = read_json_object(file);
      result.pooling = pooling_of(config);
      result.pools_prompt = config.value("include_prompt", json(true)) != false;
      result.pooling_file = file.string();
    } else if (name == "Normalize") {
      result.normalize = path;
    } else if (!name.ends_with("Transformer") && name != "Dropout") {  // which training alone has
      result.others.push_back(path.empty() ? type : path);
    }
  }
  return result;
}

std::vector<std::string> differences(const SentenceFolder& folder, const std::string& pooling,
                                     bool normalize, bool lowercases,
                                     const std::optional<std::string>& prompt) {
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
  if (!prompt && folder.prompt.empty() && !folder.prompts.empty())
    lines.push_back(fmt::format(
        "{}: sentence-transformers knows prompts for some texts: {}. Before all of these: "
        "--prompt TEXT",
        folder.prompt_file, fmt::join(folder.prompts, ", ")));
  if (!prompt.value_or(folder.prompt).empty() && !folder.pools_prompt && pooling == "mean")
    lines.push_back(
        fmt::format("{}: include_prompt is false, which is not built in: the mean is over the "
                    "prompt's states, too",
                    folder.pooling_file));
  return lines;
}

}  // namespace minibert
