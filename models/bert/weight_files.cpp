// weight_files.cpp: names of tensors in files to names of parameters.
#include "models/bert/weight_files.h"

#include <algorithm>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/bert/other_families.h"
#include "models/text/atomic_file.h"
#include "models/text/data_faults.h"
#include "models/text/json_depth.h"
#include "models/text/json_text.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kWordEnding = "embeddings.word_embeddings.weight";

/// Prefixes of DataParallel, of modules that hold the model in a field, and of torch.compile.
constexpr std::string_view kWrappers[] = {"module.", "model.", "_orig_mod."};

bool replace_suffix(std::string& name, std::string_view from, std::string_view to) {
  if (!name.ends_with(from)) return false;
  name.replace(name.size() - from.size(), from.size(), to);
  return true;
}

/// What stands before "embeddings.word_embeddings.weight"; the shortest, of several.
std::string prefix_of(const std::vector<SafetensorsFile>& files) {
  std::string shortest;
  bool found = false;
  for (const SafetensorsFile& file : files) {
    for (const SafetensorsEntry& entry : file.entries()) {
      if (!entry.name.ends_with(kWordEnding)) continue;
      std::string prefix = entry.name.substr(0, entry.name.size() - kWordEnding.size());
      if (!found || prefix.size() < shortest.size()) shortest = std::move(prefix);
      found = true;
    }
  }
  return shortest;
}

/// The wrappers' part of a prefix; "" if it has another one.
std::string wrappers_in(std::string_view prefix) {
  std::string_view rest = prefix;
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view wrapper : kWrappers) {
      if (!rest.starts_with(wrapper)) continue;
      rest.remove_prefix(wrapper.size());
      again = true;
    }
  }
  if (!rest.empty() && rest != "bert.") return "";
  return std::string(prefix.substr(0, prefix.size() - rest.size()));
}

/// Our name of a tensor (the current Hugging Face name, with `bert.`) from its name in a file.
std::string canonical_name(std::string name, std::string_view wrappers) {
  if (name.starts_with(wrappers)) name.erase(0, wrappers.size());
  replace_suffix(name, ".gamma", ".weight") || replace_suffix(name, ".beta", ".bias");
  replace_suffix(name, ".dense_act.weight", ".dense.weight") ||
      replace_suffix(name, ".dense_act.bias", ".dense.bias");
  for (const char* part : {"embeddings.", "encoder.", "pooler."}) {
    if (name.starts_with(part)) return "bert." + name;
  }
  return name;
}

/// Names of the files that an index names, each once; every tensor must be in its file.
std::vector<SafetensorsFile> open_shards(const fs::path& folder) {
  const std::string index_path = (folder / kIndexFile).string();
  const auto index =
      parse_shallow_json(read_whole_file(index_path, "Copy the model's folder again."), index_path);
  constexpr const char* kFix = "Copy the file again from where the model came from";
  const bool whole = index.is_object() && index.contains("weight_map") &&
                     index["weight_map"].is_object() && !index["weight_map"].empty();
  MB_CHECK_AS(DataError, whole,
              "{}: is no index, expected {{\"weight_map\": {{tensor: file, ...}}}}. {}", index_path,
              kFix);
  std::map<std::string, std::vector<std::string>> tensors_of;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    MB_CHECK_AS(DataError, !name.empty() && fs::path(name).filename() == name && name != "..",
                "{}: tensor {} is in file {}, expected the name of a file beside the index. {}",
                index_path, tensor, json_text(file), kFix);
    tensors_of[name].push_back(tensor);
  }
  std::vector<std::string> missing;
  std::error_code ignored;  // of a name that is too long
  for (const auto& [name, tensors] : tensors_of)
    if (!fs::exists(folder / name, ignored)) missing.push_back(name);
  MB_CHECK_AS(DataError, missing.empty(), "{}: {} of {} files are not there: {}. Copy them, too",
              index_path, missing.size(), tensors_of.size(), list_of_names(missing));
  std::vector<SafetensorsFile> files;
  for (const auto& [name, tensors] : tensors_of) {
    const SafetensorsFile& file = files.emplace_back((folder / name).string());
    for (const std::string& tensor : tensors)
      MB_CHECK_AS(DataError, file.find(tensor),
                  "{}: tensor {} is said to be in {}, which lacks it. {}", index_path, tensor,
                  file.path(), kFix);
  }
  return files;
}

}  // namespace

std::string list_of_names(const std::vector<std::string>& names) {
  return first_of(names, 6);
}

bool WeightFiles::in_folder(const fs::path& folder) {
  return fs::exists(folder / kSingleFile) || fs::exists(folder / kIndexFile);
}

WeightFiles WeightFiles::open_folder(const fs::path& folder) {
  const fs::path single = folder / kSingleFile;
  std::vector<SafetensorsFile> files;
  if (!fs::exists(single)) return {open_shards(folder), (folder / kIndexFile).string()};
  files.emplace_back(single.string());
  return {std::move(files), single.string()};
}

WeightFiles::WeightFiles(std::vector<SafetensorsFile> files, std::string source)
    : files_(std::move(files)), source_(std::move(source)) {
  const std::string wrappers = wrappers_in(prefix_of(files_));
  for (size_t number = 0; number < files_.size(); ++number) {
    for (const SafetensorsEntry& entry : files_[number].entries()) {
      const auto [place, is_new] =
          tensors_.emplace(canonical_name(entry.name, wrappers), Place{number, &entry});
      MB_CHECK_AS(DataError, is_new,
                  "{}: tensors {} and {} are both the parameter {}, expected only one of them",
                  files_[number].path(), place->second.entry->name, entry.name, place->first);
    }
  }
  // The decoder adds its own bias, of which the other one is a second name.
  if (const auto own = tensors_.find(kSecondDecoderBias); own != tensors_.end()) {
    tensors_.insert_or_assign(kDecoderBias, own->second);
    tensors_.erase(kSecondDecoderBias);
  }
}

const std::string& WeightFiles::path_of(const std::string& name) const {
  return files_[tensors_.at(name).file].path();
}

void WeightFiles::read_f32(const std::string& name, std::span<float> out) const {
  const Place& place = tensors_.at(name);
  files_[place.file].read_f32(place.entry->name, out);
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : tensors_) names.push_back(name);
  return names;
}

bool WeightFiles::tied(bool config_says) const {
  if (!config_says || !has(kDecoderWeight) || !has(kWordEmbeddings)) return config_says;
  const SafetensorsEntry &decoder = entry(kDecoderWeight), &words = entry(kWordEmbeddings);
  if (decoder.shape != words.shape) return false;
  std::vector<float> a(static_cast<size_t>(words.numel())), b(a.size());
  read_f32(kWordEmbeddings, a);
  read_f32(kDecoderWeight, b);
  return a == b;
}

void WeightFiles::tie() {
  const auto decoder = tensors_.find(kDecoderWeight);
  if (decoder == tensors_.end()) return;
  tensors_.emplace(kWordEmbeddings, decoder->second);
  tensors_.erase(kDecoderWeight);
}

std::string WeightFiles::advice(const std::set<std::string>& known) const {
  std::vector<std::string> others;
  for (const auto& [name, place] : tensors_)
    if (!known.contains(name)) others.push_back(place.entry->name);
  if (tensors_.empty()) return "The file has no tensors";
  std::string text = fmt::format("The file has {} tensors", tensors_.size());
  if (!others.empty())
    text += fmt::format(", {} of them under other names: {}", others.size(), list_of_names(others));
  std::string prefix = prefix_of(files_);
  for (const auto& [class_name, family] : kOtherFamilies) {
    if (prefix != std::string(family) + "." && !prefix.ends_with("." + std::string(family) + "."))
      continue;
    return text + fmt::format(
                      ". These are the names of another architecture, {}, which is not "
                      "built in",
                      family);
  }
  replace_suffix(prefix, "bert.", "");  // heads have the rest of it, too
  if (prefix.empty() || files_.size() > 1) return text;
  return text + fmt::format(
                    ". Their names begin with \"{}\". To remove that, on any machine with Python: "
                    "python -c \"from safetensors.torch import load_file, save_file; f = '{}'; "
                    "save_file({{n.removeprefix('{}'): t for n, t in load_file(f).items()}}, f, "
                    "metadata={{'format': 'pt'}})\"",
                    prefix, source_, prefix);
}

}  // namespace minibert
