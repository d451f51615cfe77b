// build_journal.cpp: a folder .progress of small JSON files. See build_journal.h.
#include "models/text/build_journal.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/atomic_file.h"
#include "models/text/json_depth.h"
#include "models/text/json_text.h"
#include "models/text/manifest_json.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr const char* kFolder = ".progress";  // partial_folder.cpp lets nobody else name a file so
constexpr const char* kIdentity = "identity.txt";
constexpr const char* kRebuild = "Remove it: the build then starts from scratch.";

const char* name_of_part(bool held_out) {
  return held_out ? "held-out" : "training";
}

/// The JSON of a file; null if there is none or it is damaged.
json read_json(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  return parse_json(read_whole_file(path, kRebuild));
}

json part_json(const Manifest& base, const TextPart& part) {
  Manifest manifest = base;
  manifest.counts = part.counts;
  manifest.facts = part.facts;
  return {{"manifest", to_json(manifest)},
          {"documents", part.documents.documents()},
          {"sentences", part.documents.sentences()},
          {"unigrams", part.unigrams}};
}

}  // namespace

BuildJournal::BuildJournal(fs::path folder, std::string identity)
    : folder_(std::move(folder)), identity_(std::move(identity)) {}

fs::path BuildJournal::file(const std::string& name) const {
  return folder_ / kFolder / name;
}

bool BuildJournal::is_of(const fs::path& folder, const std::string& identity) {
  const fs::path path = folder / kFolder / kIdentity;
  std::error_code ignored;
  return !identity.empty() && fs::exists(path, ignored) &&
         read_whole_file(path, kRebuild) == identity;
}

void BuildJournal::start() {
  if (is_of(folder_, identity_)) return;
  fs::create_directory(folder_ / kFolder);
  write_file_atomically(file(kIdentity), identity_);
}

void BuildJournal::save_text(const Manifest& manifest, TextPart& training, TextPart& held_out) {
  const bool holds_out = manifest.settings.hold_out_every > 0;
  training.documents.store();
  if (holds_out) held_out.documents.store();
  start();
  json value{{name_of_part(false), part_json(manifest, training)}};
  if (holds_out) value[name_of_part(true)] = part_json(manifest, held_out);
  write_file_atomically(file("text.json"), json_text(value));
}

bool BuildJournal::load_text(Manifest& manifest, TextPart& training, TextPart& held_out) const {
  if (!is_of(folder_, identity_)) return false;
  const json value = read_json(file("text.json"));
  if (!value.is_object()) return false;
  try {
    for (const bool held : {false, true}) {
      if (held && manifest.settings.hold_out_every == 0) continue;
      const json& state = value.at(name_of_part(held));
      const Manifest saved = manifest_from_json(state.at("manifest"));
      TextPart& part = held ? held_out : training;
      manifest.sources = saved.sources;
      part.counts = saved.counts;
      part.facts = *saved.facts;
      part.unigrams = state.at("unigrams").get<std::vector<uint64_t>>();
      if (held && fs::exists(folder_ / "held-out" / "manifest.json")) continue;  // it is complete
      if (!part.documents.adopt(state.at("documents"), state.at("sentences"), saved.counts.tokens))
        return false;
    }
  } catch (const std::exception&) {  // damaged: from scratch
    return false;
  }
  return true;
}

void BuildJournal::save_examples(bool held_out, const Manifest& manifest,
                                 const ExamplePosition& position) {
  const json value{{"manifest", to_json(manifest)},
                   {"duplicate", position.duplicate},
                   {"first_document", position.first_document},
                   {"first_example", position.first_example},
                   {"taken", position.taken}};
  write_file_atomically(file(name_of_part(held_out) + std::string(".json")), json_text(value));
}

std::optional<std::pair<Manifest, ExamplePosition>> BuildJournal::load_examples(
    bool held_out) const {
  if (!is_of(folder_, identity_)) return std::nullopt;
  const json value = read_json(file(name_of_part(held_out) + std::string(".json")));
  if (!value.is_object()) return std::nullopt;
  try {
    const ExamplePosition position{value.at("duplicate"), value.at("first_document"),
                                   value.at("first_example"), value.at("taken")};
    return std::pair(manifest_from_json(value.at("manifest")), position);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void BuildJournal::tidy() const {
  std::error_code ignored;
  std::vector<fs::path> halves;
  for (const auto& entry : fs::recursive_directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("bucket-") || name.find(".tmp") != std::string::npos)
      halves.push_back(entry.path());
  }
  for (const fs::path& path : halves) fs::remove(path, ignored);
}

void BuildJournal::remove() const {
  std::error_code ignored;
  fs::remove_all(folder_ / kFolder, ignored);
  std::vector<fs::path> arrays;
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    if (entry.path().extension() == ".spill") arrays.push_back(entry.path());
  }
  for (const fs::path& path : arrays) fs::remove(path, ignored);
}

}  // namespace minibert
