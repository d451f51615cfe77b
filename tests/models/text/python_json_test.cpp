// python_json_test.cpp: what json.dumps writes and JSON does not have. Expected values: as Python 3's
// json.loads reads these texts, with None for NaN and for infinities, and U+FFFD for half a pair.
#include "models/text/python_json.h"

#include <gtest/gtest.h>

#include "models/text/labelled_text.h"
#include "models/text/squad.h"
#include "models/text/text_reader.h"
#include "tests/models/text/shard_fixture.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using nlohmann::json;
using testing::has, testing::message_of, testing::TemporaryFolder, testing::write_bytes;

TEST(PythonJson, NumbersThatAreNoneAreNull) {
  EXPECT_EQ(parse_python_json(R"({"a": NaN, "b": [Infinity, -Infinity, 1]})"),
            json({{"a", nullptr}, {"b", {nullptr, nullptr, 1}}}));
  EXPECT_EQ(parse_python_json(R"({"a": "NaN", "b": "\" NaN \\", "c": NaN})"),
            json({{"a", "NaN"}, {"b", "\" NaN \\"}, {"c", nullptr}}));
}

TEST(PythonJson, HalfOfAPairIsAReplacementCharacter) {
  EXPECT_EQ(parse_python_json(R"(["a\ud83d", "\ude00b", "\ud83d\ude00", "\ude00\ud83d"])"),
            json({"a\uFFFD", "\uFFFDb", "\U0001F600", "\uFFFD\uFFFD"}));
  EXPECT_EQ(parse_python_json(R"(["\ud83d\ud83d\ude00", "\ud83d\u0041", "\ud83d\n"])"),
            json({"\uFFFD\U0001F600", "\uFFFDA", "\uFFFD\n"}));
  // The backslash before the u is escaped here, so there is no escape of a character.
  EXPECT_EQ(parse_python_json(R"(["\\ud83d", NaN])"), json({"\\ud83d", nullptr}));
}

TEST(PythonJson, WhatPythonDoesNotReadIsDiscarded) {
  for (const char* text : {"", "[1", "[nan]", "[NaNs]", "[+Infinity]", "[\"\\u12\"]", "[\"\\ud83d",
                           "[\"\\", "NaN NaN", "\\ud83d"}) {
    EXPECT_TRUE(parse_python_json(text).is_discarded()) << text;
    EXPECT_NE(python_json_fault(text), "") << text;
  }
  EXPECT_EQ(python_json_fault("[NaN]"), "");
  EXPECT_TRUE(parse_python_json(std::string(100'000, '[')).is_discarded());
}

TEST(PythonJson, EveryReaderOfTextsTakesIt) {
  const TemporaryFolder folder;
  const auto file = [&](const char* name, const std::string& text) {
    write_bytes(folder / name, text);
    return (folder / name).string();
  };
  std::vector<Document> documents;
  read_documents(file("text.jsonl", R"({"text": "one\ud83d two", "score": NaN})"
                                    "\n"),
                 {.format = TextFormat::jsonl},
                 [&](Document&& document) { documents.push_back(document); });
  EXPECT_EQ(documents, (std::vector<Document>{{"one\uFFFD two"}}));

  const auto texts =
      read_labelled_texts(file("labelled.jsonl", R"({"text": "one", "label": "1", "weight": NaN})"
                                                 "\n"),
                          {});
  ASSERT_EQ(texts.size(), 1u);
  EXPECT_EQ(texts[0].label, "1");

  const std::string row =
      R"({"id": "1", "question": "q", "context": "one\ud83d two", "weight": NaN,)"
      R"( "answers": {"text": ["two"], "answer_start": [5]}})";
  for (const std::string& text : {row + "\n", "[" + row + "]"}) {
    const SquadData data = read_squad(file("squad.json", text), {});
    ASSERT_EQ(data.questions.size(), 1u);
    EXPECT_EQ(data.questions[0].answers.at(0).text, "two");
  }
  EXPECT_TRUE(has(message_of<DataError>([&] { read_squad(file("cut.json", "[" + row), {}); }),
                  "is not JSON"));
}

}  // namespace
}  // namespace minibert
