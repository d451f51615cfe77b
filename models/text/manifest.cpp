// manifest.cpp: reads and writes manifest.json and unigram.bin. See manifest.h.
#include "models/text/manifest.h"

#include <cstring>
#include <fstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/shell_word.h"
#include "core/version.h"
#include "models/text/atomic_file.h"
#include "models/text/checksum.h"
#include "models/text/json_depth.h"
#include "models/text/json_numbers.h"
#include "models/text/json_text.h"
#include "models/text/manifest_json.h"
#include "models/text/shard.h"

namespace minibert {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DataCounts, documents, sentences, tokens, unknown_tokens,
                                   examples, example_tokens, masked_tokens, nsp_next, nsp_random,
                                   length_histogram)

namespace {

using nlohmann::json;

constexpr const char* kFormatName = "minibert-shards";
constexpr const char* kRebuild = "Build the data again: minibert data build.";
constexpr char kUnigramMagic[8] = {'M', 'B', 'U', 'N', 'I', 'G', 'R', '\n'};

[[noreturn]] void no_whole_number(const std::string& key, const json& value) {
  throw std::domain_error(fmt::format("{} is {}, expected a whole number", key, json_text(value)));
}

/// Refuses fractions, and numbers beyond 64 bits, where counts belong: the library would turn them into
/// some whole number.
void check_whole_numbers(const json& value, const std::string& key) {
  const bool share = key == "short_sequence_prob" || key == "masked_lm_prob";
  const bool whole = key == "seed" ? whole_number<uint64_t>(value).has_value()
                                   : whole_number<int64_t>(value).has_value();
  if (value.is_number() && !share && !whole) no_whole_number(key, value);
  if (!value.is_structured()) return;
  for (const auto& [name, inner] : value.items())
    check_whole_numbers(inner, value.is_object() ? name : key);
}

/// Refuses numbers that name rows that the model lacks, or ask for any amount of memory.
void check_ranges(const Manifest& manifest) {
  const auto range = [](const char* key, auto value, auto low, auto high) {
    if (value >= low && value <= high) return;
    throw std::domain_error(fmt::format("{} is {}, expected {} to {}", key, value, low, high));
  };
  const TokenTable& tokens = manifest.tokens;
  range("size", tokens.vocab_size, 1, kMostIds);
  range("[CLS]", tokens.cls, 0, tokens.vocab_size - 1);
  range("[SEP]", tokens.sep, 0, tokens.vocab_size - 1);
  range("[MASK]", tokens.mask, 0, tokens.vocab_size - 1);
  range("[UNK]", tokens.unk, 0, tokens.vocab_size - 1);
  range("sequence_length", manifest.settings.examples.sequence_length, 1, kLongestSequence);
  range("short_sequence_prob", manifest.settings.examples.short_sequence_prob, 0.0, 1.0);
  range("masked_lm_prob", manifest.settings.masking.masked_lm_prob, 0.0, 1.0);
  range("max_predictions", manifest.settings.masking.max_predictions, 0, kLongestSequence);
}

uint32_t from_hex(const json& value) {
  return static_cast<uint32_t>(std::stoul(value.get<std::string>(), nullptr, 16));
}

json to_json(const SourceStats& source) {
  return {{"path", source.path},
          {"bytes", source.file_bytes},
          {"crc32", to_hex(source.crc32)},
          {"text_bytes", source.text_bytes},
          {"lines", source.lines},
          {"documents", source.documents},
          {"front_matter_lines", source.skipped_lines},
          {"invalid_utf8_bytes", source.invalid_bytes},
          {"invalid_c1_bytes", source.invalid_c1_bytes},
          {"invalid_bytes_in_runs", source.invalid_in_runs},
          {"invalid_bytes_misplaced", source.invalid_misplaced},
          {"seven_bit", source.seven_bit},
          {"first_invalid_line", source.first_invalid_line},
          {"zero_bytes", source.zero_bytes},
          {"non_ascii_characters", source.valid_non_ascii},
          {"empty_documents", source.empty_documents}};
}

SourceStats source_from_json(const json& value) {
  SourceStats source;
  source.path = value.at("path");
  source.file_bytes = value.at("bytes");
  source.crc32 = from_hex(value.at("crc32"));
  source.text_bytes = value.at("text_bytes");
  source.lines = value.at("lines");
  source.documents = value.at("documents");
  source.skipped_lines = value.at("front_matter_lines");
  source.invalid_bytes = value.at("invalid_utf8_bytes");
  source.invalid_c1_bytes = value.value("invalid_c1_bytes", int64_t{0});
  source.invalid_in_runs = value.value("invalid_bytes_in_runs", int64_t{0});
  source.invalid_misplaced = value.value("invalid_bytes_misplaced", int64_t{0});
  source.seven_bit = value.value("seven_bit", std::string());
  source.first_invalid_line = value.value("first_invalid_line", int64_t{0});
  source.zero_bytes = value.value("zero_bytes", int64_t{0});
  source.valid_non_ascii = value.value("non_ascii_characters", int64_t{0});
  source.empty_documents = value.value("empty_documents", int64_t{0});
  return source;
}

/// A whole number, which need not have 64 bits. Errors: json::exception if it is missing.
template <typename T>
void read_number(const json& object, const char* key, T& number) {
  const std::optional<T> found = whole_number<T>(object.at(key));
  if (!found) no_whole_number(key, object[key]);
  number = *found;
}

DataSettings settings_from_json(const json& value) {
  DataSettings settings;
  settings.documents.format = parse_text_format(value.at("format"));
  settings.documents.document_break = value.at("document_break");
  settings.documents.keep_front_matter = value.at("keep_front_matter");
  settings.documents.field = value.value("field", DocumentOptions{}.field);
  settings.cased = value.at("cased");
  if (value.contains("strip_accents")) settings.strip_accents = value.at("strip_accents");
  settings.split_chinese = value.value("tokenize_chinese_chars", true);
  read_number(value, "sequence_length", settings.examples.sequence_length);
  settings.examples.short_sequence_prob = value.at("short_sequence_prob");
  settings.examples.nsp = value.at("nsp");
  settings.examples.max_sentence_tokens = 0;  // where an older version left it out: never cut
  if (value.contains("max_sentence_tokens"))
    read_number(value, "max_sentence_tokens", settings.examples.max_sentence_tokens);
  read_number(value, "max_predictions", settings.masking.max_predictions);
  settings.masking.masked_lm_prob = value.at("masked_lm_prob");
  settings.masking.whole_word = value.at("whole_word_masking");
  settings.dynamic_masking = value.at("masking") == "dynamic";
  read_number(value, "duplicate_factor", settings.duplicate_factor);
  settings.seed = value.at("seed");
  read_number(value, "hold_out_every", settings.hold_out_every);
  settings.shuffle = value.value("shuffle", false);
  return settings;
}

}  // namespace

Manifest manifest_from_json(const json& value) {
  check_whole_numbers(value, "it");
  Manifest manifest;
  read_number(value, "format_version", manifest.format_version);
  manifest.settings = settings_from_json(value.at("settings"));
  manifest.held_out = value.at("held_out");
  const json& vocabulary = value.at("vocabulary");
  manifest.vocabulary_hash = vocabulary.at("hash");
  read_number(vocabulary, "size", manifest.tokens.vocab_size);
  read_number(vocabulary, "[CLS]", manifest.tokens.cls);
  read_number(vocabulary, "[SEP]", manifest.tokens.sep);
  read_number(vocabulary, "[MASK]", manifest.tokens.mask);
  read_number(vocabulary, "[UNK]", manifest.tokens.unk);
  for (const json& source : value.at("sources"))
    manifest.sources.push_back(source_from_json(source));
  for (const json& shard : value.at("shards")) {
    manifest.shards.push_back(
        {shard.at("file"), shard.at("examples"), shard.at("bytes"), from_hex(shard.at("crc32"))});
    if (shard.contains("identity"))
      manifest.shards.back().identity = from_hex(shard.at("identity"));
  }
  manifest.counts = value.at("counts").get<DataCounts>();
  if (value.contains("facts")) manifest.facts = corpus_facts_from_json(value.at("facts"));
  manifest.unigram_source = value.at("unigram_source");
  check_ranges(manifest);
  return manifest;
}

json to_json(const DataSettings& settings) {
  json value = {{"format", name_of(settings.documents.format)},
                {"document_break", settings.documents.document_break},
                {"keep_front_matter", settings.documents.keep_front_matter},
                {"field", settings.documents.field},
                {"cased", settings.cased},
                {"sequence_length", settings.examples.sequence_length},
                {"short_sequence_prob", settings.examples.short_sequence_prob},
                {"nsp", settings.examples.nsp},
                {"max_sentence_tokens", settings.examples.max_sentence_tokens},
                {"max_predictions", settings.masking.max_predictions},
                {"masked_lm_prob", settings.masking.masked_lm_prob},
                {"whole_word_masking", settings.masking.whole_word},
                {"masking", settings.dynamic_masking ? "dynamic" : "static"},
                {"duplicate_factor", settings.duplicate_factor},
                {"seed", settings.seed},
                {"hold_out_every", settings.hold_out_every},
                {"shuffle", settings.shuffle}};
  // Left out where they are as `cased` says, so that such folders stay as they were.
  if (settings.strip_accents) value["strip_accents"] = *settings.strip_accents;
  if (!settings.split_chinese) value["tokenize_chinese_chars"] = false;
  return value;
}

void DataCounts::add(const StoredExample& stored) {
  ++examples;
  example_tokens += static_cast<int64_t>(stored.example.ids.size());
  masked_tokens += static_cast<int64_t>(stored.masked_positions.size());
  nsp_next += stored.example.nsp_label == kNspNext;
  nsp_random += stored.example.nsp_label == kNspRandom;
  ++length_histogram[stored.example.ids.size()];
}

json to_json(const DataCounts& counts) {
  return counts;
}

json to_json(const Manifest& manifest) {
  json sources = json::array(), shards = json::array();
  for (const SourceStats& source : manifest.sources) sources.push_back(to_json(source));
  for (const ShardEntry& shard : manifest.shards) {
    shards.push_back({{"file", shard.file},
                      {"examples", shard.examples},
                      {"bytes", shard.bytes},
                      {"crc32", to_hex(shard.crc32)}});
    if (shard.identity) shards.back()["identity"] = to_hex(*shard.identity);
  }
  json value = {{"format", kFormatName},
                {"format_version", manifest.format_version},
                {"made_by", fmt::format("minibert {}", version())},
                {"settings", to_json(manifest.settings)},
                {"held_out", manifest.held_out},
                {"vocabulary",
                 {{"size", manifest.tokens.vocab_size},
                  {"hash", manifest.vocabulary_hash},
                  {"[CLS]", manifest.tokens.cls},
                  {"[SEP]", manifest.tokens.sep},
                  {"[MASK]", manifest.tokens.mask},
                  {"[UNK]", manifest.tokens.unk}}},
                {"sources", sources},
                {"shards", shards},
                {"counts", to_json(manifest.counts)},
                {"unigram_source", manifest.unigram_source}};
  if (manifest.facts) value["facts"] = to_json(*manifest.facts);
  return value;
}

void write_manifest(const std::filesystem::path& folder, const Manifest& manifest) {
  write_file_atomically(folder / "manifest.json", json_text(to_json(manifest), 1) + "\n");
}

bool holds_manifest(const std::filesystem::path& folder) {
  std::ifstream in(folder / "manifest.json");
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const json value = parse_json(text);
  return value.is_object() && value.contains("format") && value["format"] == kFormatName;
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "manifest.json";
  std::error_code ignored;
  MB_CHECK_AS(
      DataError, !std::filesystem::is_regular_file(folder, ignored),
      "{}: is a file, expected the folder that data build makes of a text. Build it: minibert "
      "data build --vocab VOCAB --output FOLDER {}",
      folder.string(), shell_word(folder.string()));
  MB_CHECK_AS(
      DataError, std::filesystem::is_directory(folder),
      "{}: there is no such folder, expected one written by minibert data build. Check the path.",
      folder.string());
  MB_CHECK_AS(
      DataError, std::filesystem::exists(path),
      "{}: is missing, expected in every folder of shards (the build did not finish, or this "
      "is another folder). {}",
      path.string(), kRebuild);
  try {
    const std::string text = read_whole_file(path, kRebuild);
    check_json_depth(text, path.string());
    const json value = json::parse(text);
    MB_CHECK_AS(DataError, value.is_object() && value.value("format", "") == kFormatName,
                "{}: is not the manifest of a folder of shards, expected \"format\": \"{}\". {}",
                path.string(), kFormatName, kRebuild);
    const json version = value.value("format_version", json(0));
    MB_CHECK_AS(DataError, version == kDataFormatVersion,
                "{}: format version is {}, expected {}. {}", path.string(), json_text(version),
                kDataFormatVersion, kRebuild);
    return manifest_from_json(value);
  } catch (const json::exception& error) {
    fail<DataError>("{}: is damaged ({}), expected the JSON that data build wrote. {}",
                    path.string(), error.what(), kRebuild);
  } catch (const UsageError& error) {  // parse_text_format: a format that this version lacks
    fail<DataError>("{}: is damaged or newer (settings, {}). {}", path.string(), error.what(),
                    kRebuild);
  } catch (const std::domain_error& error) {
    fail<DataError>("{}: is damaged ({}). {}", path.string(), error.what(), kRebuild);
  } catch (const std::logic_error& error) {  // std::stoul
    fail<DataError>("{}: is damaged (a checksum is not a number: {}). {}", path.string(),
                    error.what(), kRebuild);
  }
}

void write_unigram_counts(const std::filesystem::path& folder,
                          const std::vector<uint64_t>& counts) {
  std::string bytes(kUnigramMagic, sizeof kUnigramMagic);
  const auto append = [&](const void* data, size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  };
  const uint32_t head[2] = {1, static_cast<uint32_t>(counts.size())};
  append(head, sizeof head);
  append(counts.data(), counts.size() * sizeof(uint64_t));
  const uint32_t crc = crc32_of(bytes.data(), bytes.size());
  append(&crc, sizeof crc);
  write_file_atomically(folder / "unigram.bin", bytes);
}

std::vector<uint64_t> read_unigram_counts(const std::filesystem::path& folder, int32_t vocab_size) {
  const std::filesystem::path path = folder / "unigram.bin";
  const std::string bytes = read_whole_file(path, kRebuild);
  constexpr size_t kHead = sizeof kUnigramMagic + 2 * sizeof(uint32_t);
  MB_CHECK_AS(
      DataError,
      bytes.size() >= kHead + sizeof(uint32_t) && bytes.compare(0, 8, kUnigramMagic, 8) == 0,
      "{}: its {} bytes are not a table of counts. {}", path.string(), bytes.size(), kRebuild);
  uint32_t head[2], stored_crc;
  std::memcpy(head, bytes.data() + sizeof kUnigramMagic, sizeof head);
  std::memcpy(&stored_crc, bytes.data() + bytes.size() - sizeof stored_crc, sizeof stored_crc);
  const size_t body = bytes.size() - sizeof stored_crc;
  const uint32_t crc = crc32_of(bytes.data(), body);
  MB_CHECK_AS(DataError, crc == stored_crc,
              "{}: checksum is {:08x}, expected {:08x}: the file is damaged. {}", path.string(),
              crc, stored_crc, kRebuild);
  MB_CHECK_AS(
      DataError,
      head[0] == 1 && head[1] == static_cast<uint32_t>(vocab_size) &&
          body == kHead + head[1] * 8ull,
      "{}: version {} with {} entries, expected version 1 with {} (the vocabulary's size). {}",
      path.string(), head[0], head[1], vocab_size, kRebuild);
  std::vector<uint64_t> counts(head[1]);
  std::memcpy(counts.data(), bytes.data() + kHead, counts.size() * sizeof(uint64_t));
  return counts;
}

}  // namespace minibert
