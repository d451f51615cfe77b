// json_depth_test.cpp: brackets are counted outside of strings only, and every reader of JSON files
// refuses a file that is nested too deeply. Without the refusal each of these ends the test by a
// stack overflow.
#include "models/text/json_depth.h"

#include <functional>

#include <gtest/gtest.h>

#include "models/bert/checkpoint_manifest.h"
#include "models/bert/config.h"
#include "models/bert/safetensors.h"
#include "models/bert/weight_files.h"
#include "models/text/labelled_text.h"
#include "models/text/manifest.h"
#include "models/text/squad.h"
#include "models/text/text_reader.h"
#include "models/text/tokenizer_folder.h"
#include "models/training/checkpoint.h"
#include "tests/models/text/shard_fixture.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has, testing::message_of, testing::TemporaryFolder, testing::write_bytes;

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') +
         std::string(static_cast<size_t>(depth), ']');
}

std::string deep(const std::string& key) {
  return "{\"" + key + "\": " + nested(100'000) + "}";
}

TEST(JsonDepth, ParsersKeepWhatIsJsonAndShallow) {
  const std::string too_deep = nested(kDeepestJson + 1);
  EXPECT_EQ(parse_json("[1]"), nlohmann::json({1}));
  EXPECT_EQ(parse_shallow_json("[1]", "here"), nlohmann::json({1}));
  EXPECT_TRUE(parse_json("[1").is_discarded());
  EXPECT_TRUE(parse_json(too_deep).is_discarded());
  EXPECT_TRUE(parse_shallow_json("[1", "here").is_discarded());
  EXPECT_TRUE(has(message_of<DataError>([&] { parse_shallow_json(too_deep, "here"); }), "here: "));
}

TEST(JsonDepth, CountsBracketsOutsideOfStrings) {
  EXPECT_FALSE(json_too_deep(""));
  EXPECT_FALSE(json_too_deep(nested(kDeepestJson)));
  EXPECT_TRUE(json_too_deep(nested(kDeepestJson + 1)));
  std::string wide;
  for (int i = 0; i < 1000; ++i) wide += "[{}],";
  EXPECT_FALSE(json_too_deep(wide));
  const std::string brackets(1000, '{');
  EXPECT_FALSE(json_too_deep("\"" + brackets + "\""));
  EXPECT_FALSE(json_too_deep("\"\\\"" + brackets + "\""));
  EXPECT_TRUE(json_too_deep("\"\\\\\"" + brackets));
  EXPECT_FALSE(json_too_deep("\"\\"));
}

template <typename E>
void expect_refused(const std::function<void()>& read) {
  const std::string message = message_of<E>(read);
  EXPECT_TRUE(has(message, "200 levels deep")) << message;
}

TEST(JsonDepth, EveryReaderRefusesADeepFile) {
  const TemporaryFolder folder;
  const auto file = [&](const std::string& name, const std::string& text) {
    write_bytes(folder / name, text);
    return folder / name;
  };
  expect_refused<DataError>([] { BertConfig::from_json(deep("vocab_size"), "config.json"); });
  expect_refused<DataError>([&] {
    const std::string header = deep("a");
    const uint64_t size = header.size();
    file("a.safetensors", std::string(reinterpret_cast<const char*>(&size), 8) + header);
    SafetensorsFile((folder / "a.safetensors").string());
  });
  expect_refused<DataError>([&] {
    file("model.safetensors.index.json", deep("weight_map"));
    WeightFiles::open_folder(folder.path());
  });
  expect_refused<DataError>([&] { read_predictions(file("predictions.json", deep("id"))); });
  expect_refused<DataError>([&] { read_squad(file("squad.json", deep("data")), {}); });
  expect_refused<DataError>([&] {
    file("manifest.json", deep("settings"));
    read_manifest(folder.path());
  });
  EXPECT_FALSE(holds_manifest(folder.path()));
  expect_refused<DataError>([&] {
    file("tokenizer_config.json", deep("tokenizer_class"));
    open_tokenizer_folder(folder.path());
  });
  expect_refused<DataError>([&] {
    read_documents(file("text.jsonl", deep("text")).string(), {.format = TextFormat::jsonl},
                   [](Document&&) {});
  });
  EXPECT_TRUE(has(
      message_of<DataError>([&] { read_labelled_texts(file("texts.jsonl", deep("text")), {}); }),
      "line 1: nested more than 200 levels deep"));
  expect_refused<CheckpointError>(
      [] { parse_trainer_state(deep("settings"), "trainer_state.json"); });
  expect_refused<CheckpointError>([&] {
    file("MANIFEST.json", deep("files"));
    verify_checkpoint(folder.path());
  });
}

// ---- Size --------------------------------------------------------------------------------------

/// An object with `values` values: itself, a list of numbers, the numbers.
std::string wide(const std::string& key, size_t values) {
  std::string text = "{\"" + key + "\":[1";
  for (size_t i = 3; i < values; ++i) text += ",1";
  return text + "]}";
}

TEST(JsonSize, CountsValuesOutsideOfStrings) {
  EXPECT_FALSE(json_too_large(wide("x", kMostJsonValues)));
  EXPECT_TRUE(json_too_large(wide("x", kMostJsonValues + 1)));
  EXPECT_FALSE(json_too_large("\"" + std::string(2 * kMostJsonValues, ',') + "\""));
  EXPECT_FALSE(json_too_large("\"\\\"" + std::string(2 * kMostJsonValues, '{') + "\""));
  EXPECT_TRUE(json_too_large("\"\\\\\"" + std::string(2 * kMostJsonValues, '{')));
}

TEST(JsonSize, ReadersRefuseWhatWouldTakeTooMuchMemory) {
  const TemporaryFolder folder;
  const auto expect = [](const std::function<void()>& read) {
    const std::string message = message_of<DataError>(read);
    EXPECT_TRUE(has(message, "more than 2097152 values")) << message;
  };
  const std::string text = wide("x", kMostJsonValues + 1);
  const std::string line = R"({"text":"a","label":"b",)" + text.substr(1) + "\n";
  write_bytes(folder / "a.jsonl", line);
  expect([&] { read_labelled_texts(folder / "a.jsonl", {}); });
  expect([&] {
    read_documents((folder / "a.jsonl").string(), {.format = TextFormat::jsonl}, [](Document&&) {});
  });
  write_bytes(folder / "tokenizer_config.json", text);
  expect([&] { open_tokenizer_folder(folder.path()); });
  const uint64_t size = text.size();
  write_bytes(folder / "a.safetensors",
              std::string(reinterpret_cast<const char*>(&size), 8) + text);
  expect([&] { SafetensorsFile((folder / "a.safetensors").string()); });
}

}  // namespace
}  // namespace minibert
