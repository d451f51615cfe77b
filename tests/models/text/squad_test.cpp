// squad_test.cpp: files of SQuAD as they are and as they should not be, predictions, and the metric by
// hand-worked values. tests/tools/squad_metrics_test.py compares the metric with the official script's.
#include "models/text/squad.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "models/text/data_faults.h"
#include "models/text/squad_metrics.h"
#include "tests/process.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json question(const std::string& id, const std::string& answer, int64_t start) {
  return {
      {"id", id}, {"question", "who?"}, {"answers", {{{"text", answer}, {"answer_start", start}}}}};
}

class Squad : public ::testing::Test {
 protected:
  Squad() : file_(fs::temp_directory_path() / fmt::format("minibert_squad_{}.json", ::getpid())) {}
  ~Squad() override { fs::remove(file_); }

  /// A file with one paragraph.
  void write(const std::string& context, const std::vector<json>& questions) {
    write(json{
        {"version", "1.1"},
        {"data", {{{"title", "t"}, {"paragraphs", {{{"context", context}, {"qas", questions}}}}}}}}
              .dump());
  }
  void write(const std::string& text) { std::ofstream(file_, std::ios::binary) << text; }
  SquadData read(SquadUse use = SquadUse::train, bool skip = false) {
    return read_squad(file_, {use, skip});
  }
  std::string refusal(SquadUse use = SquadUse::train) {
    try {
      read(use);
    } catch (const DataError& error) {
      return error.what();
    }
    return "(accepted)";
  }
  void expect_refused(const std::vector<std::string>& parts, SquadUse use = SquadUse::train) {
    const std::string message = refusal(use);
    EXPECT_NE(message.find(file_.string()), std::string::npos) << message;
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << part << "\n" << message;
  }

  fs::path file_;
};

TEST_F(Squad, ReadsQuestionsWithPlacesInCharacters) {
  write("\u00e9t\u00e9 in \u6771\u4eac",
        {question("1", "\u6771\u4eac", 7), question("2", "\u00e9t\u00e9", 0)});
  const SquadData data = read();
  ASSERT_EQ(data.questions.size(), 2u);
  EXPECT_EQ(data.contexts.size(), 1u);
  EXPECT_EQ(data.questions[0].id, "1");
  EXPECT_EQ(data.questions[0].answers[0].start, 7);
  EXPECT_EQ(data.questions[1].answers[0].text, "\u00e9t\u00e9");
}

/// A question as Hugging Face's `datasets` has it (datasets 4, load_dataset("squad")).
json row(const std::string& id, const std::string& context, const std::vector<std::string>& answers,
         const std::vector<int64_t>& starts) {
  return {{"id", id},
          {"title", "t"},
          {"context", context},
          {"question", "who?"},
          {"answers", {{"text", answers}, {"answer_start", starts}}}};
}

TEST_F(Squad, ReadsTheRowsOfDatasetsInEachForm) {
  const std::vector<json> rows = {
      row("1", "\u00e9t\u00e9 in \u6771\u4eac", {"\u6771\u4eac"}, {7}),
      row("2", "\u00e9t\u00e9 in \u6771\u4eac", {"\u00e9t\u00e9", "in"}, {0, 4}),
      row("3", "the north", {"north"}, {4})};
  std::string lines;
  for (const json& one : rows) lines += one.dump() + "\n";
  for (const std::string& text :
       {lines, json(rows).dump(), json(rows).dump(2), json{{"data", rows}}.dump()}) {
    write(text);
    const SquadData data = read();
    EXPECT_EQ(data.contexts,
              (std::vector<std::string>{"\u00e9t\u00e9 in \u6771\u4eac", "the north"}));
    ASSERT_EQ(data.questions.size(), 3u) << text;
    EXPECT_EQ(data.questions[1].id, "2");
    EXPECT_EQ(data.questions[1].text, "who?");
    EXPECT_EQ(data.questions[1].context, 0u);
    ASSERT_EQ(data.questions[1].answers.size(), 2u);
    EXPECT_EQ(data.questions[1].answers[1].text, "in");
    EXPECT_EQ(data.questions[1].answers[1].start, 4);
    EXPECT_EQ(data.questions[2].context, 1u);
  }
}

TEST_F(Squad, NamesTheRowsOfDatasetsThatCannotBeUsed) {
  json text_alone = row("4", "the north", {"north"}, {4});
  text_alone["answers"].erase("answer_start");
  json no_lists = row("5", "the north", {}, {});
  no_lists["answers"] = json{{"text", "north"}};
  write(row("1", "the north", {"north"}, {5}).dump() + "\n" + row("2", "the north", {}, {}).dump() +
        "\n" + row("3", "the north", {"north"}, {4}).dump() + "\n");
  expect_refused({"1 questions have no answer", "line 2 (id 2)"});
  write(row("3", "the north", {"north"}, {4}).dump() + "\n[1]\n" + text_alone.dump() + "\n" +
        no_lists.dump() + "\n{\"id\":\"6\"");
  expect_refused({"4 places do not have the form", "line 2 is no JSON object",
                  "line 3.answers[0].answer_start is missing",
                  "line 4.answers.text is string, expected a list", "line 5 is no JSON object"});
  write(row("1", "the north", {"north"}, {5}).dump());
  expect_refused({"line 1 (id 1): answer_start is 5, expected 4"});
}

TEST_F(Squad, NamesAnswersThatStandElsewhereWithTheRightPlace) {
  std::vector<json> questions = {question("good", "north", 4),      question("bad", "north", 5),
                                 question("gone", "south", 4),      question("far", "north", 400),
                                 question("negative", "north", -1), question("none", "", 0)};
  write("the north", questions);
  expect_refused({"5 answers are not where answer_start says", "--skip-bad-answers",
                  "qas[1] (id bad): answer_start is 5, expected 4, where the context has \"north\"",
                  "(id gone): answer_start is 4, but the context does not have \"south\"",
                  "(id far)", "(id negative)",
                  "(id none): answer_start is 0, but the answer has no"});
  // What the message advises.
  const SquadData rest = read(SquadUse::train, /* skip= */ true);
  ASSERT_EQ(rest.questions.size(), 1u);
  EXPECT_EQ(rest.questions[0].id, "good");
  ASSERT_EQ(rest.notes.size(), 1u);
  EXPECT_NE(rest.notes[0].find("5 answers"), std::string::npos);
  // Evaluation looks at the words alone.
  EXPECT_EQ(read(SquadUse::evaluate).questions.size(), 6u);
}

TEST_F(Squad, ShowsTheFirstTenOfManyFaults) {
  std::vector<json> questions;
  for (int i = 0; i < 25; ++i) questions.push_back(question(fmt::format("q{}", i), "x", 0));
  write("the north", questions);
  const std::string message = refusal();
  EXPECT_NE(message.find("25 answers"), std::string::npos);
  EXPECT_NE(message.find("(id q9)"), std::string::npos);
  EXPECT_EQ(message.find("(id q10)"), std::string::npos);
  EXPECT_NE(message.find("and 15 more"), std::string::npos);
}

TEST_F(Squad, RefusesVersion2WithACommandThatWorks) {
  json impossible = question("no", "north", 4);
  impossible["is_impossible"] = true;
  impossible["answers"] = json::array();
  json possible = question("yes", "north", 4);
  possible["is_impossible"] = false;
  write("the north", {impossible, possible});
  for (const SquadUse use : {SquadUse::train, SquadUse::evaluate})
    expect_refused({"1 questions cannot be answered", "SQuAD 2.0", "(id no)"}, use);
  const std::string message = refusal();
  const size_t from = message.find("python3 -c");
  std::string command = message.substr(from, message.find('\n', from) - from);
  for (const auto& [name, path] : {std::pair{"'IN'", file_.string()}, {"'OUT'", file_.string()}})
    command.replace(command.find(name), std::string(name).size(), "'" + path + "'");
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  const SquadData data = read();
  ASSERT_EQ(data.questions.size(), 1u);
  EXPECT_EQ(data.questions[0].id, "yes");
}

TEST_F(Squad, RefusesWhatIsNotSquad) {
  write("");
  expect_refused({"empty"});
  write("{\"data\": [");
  expect_refused({"is not JSON"});
  write("[1, 2]");
  expect_refused({"data is missing, expected a list", "Expected data[].paragraphs[]"});
  write("{\"data\": []}");
  expect_refused({"holds no questions"});
  write(R"({"data": [{"paragraphs": [{"qas": []}, {"context": 7, "qas": []}]}, {"title": "t"}]})");
  expect_refused({"data[0].paragraphs[0].context is missing, expected text",
                  "data[0].paragraphs[1].context is number, expected text",
                  "data[1].paragraphs is missing, expected a list"});
  json incomplete = question("1", "north", 4);
  incomplete.erase("question");
  write("the north", {incomplete, question("2", "north", 4)});
  expect_refused({"1 places", "qas[0].question is missing"});
  json without = question("1", "north", 4);
  without["answers"] = json::array();
  write("the north", {without});
  expect_refused({"1 questions have no answer"}, SquadUse::evaluate);
  write("{\xff}");
  expect_refused({"UTF-8"});
  fs::remove(file_);
  expect_refused({});
}

TEST_F(Squad, RefusesAnIdTwice) {
  write("the north",
        {question("1", "north", 4), question("2", "north", 4), question("1", "the", 0)});
  expect_refused({"1 ids occur more than once", "qas[2] (id 1)"});
}

TEST_F(Squad, ReadsPredictions) {
  write(R"({"1": "north", "2": ""})");
  EXPECT_EQ(read_predictions(file_), (SquadPredictions{{"1", "north"}, {"2", ""}}));
  const auto refusal = [&](const std::string& text) -> std::string {
    write(text);
    try {
      read_predictions(file_);
    } catch (const DataError& error) {
      return error.what();
    }
    return "(accepted)";
  };
  EXPECT_NE(refusal(R"({"1": null})").find("the prediction of 1 is null"), std::string::npos);
  EXPECT_NE(refusal(R"(["1"])").find("is a JSON array"), std::string::npos);
}

TEST_F(Squad, RealFilesAreAccepted) {
  const char* shared = std::getenv("MINIBERT_SHARED_DATA");
  const fs::path folder = fs::path(shared ? shared : "") / "qa";
  if (!fs::exists(folder)) GTEST_SKIP() << "needs the data of MINIBERT_SHARED_DATA";
  EXPECT_EQ(read_squad(folder / "squad1.1-train-17articles.json", {}).questions.size(), 3939u);
  EXPECT_EQ(read_squad(folder / "squad1.1-train-extra.json", {}).questions.size(), 3678u);
  EXPECT_EQ(read_squad(folder / "squad1.1-dev-3articles.json", {}).questions.size(), 700u);
}

TEST(SquadMetrics, NormalisesAsTheScriptDoes) {
  EXPECT_EQ(normalize_answer("The  Saint-Bernadette's, a\tman!"), "saintbernadettes man");
  EXPECT_EQ(normalize_answer("an an the"), "");
  EXPECT_EQ(normalize_answer("Athe the2 a\u00b2"), "athe the2 a\u00b2");  // no words of their own
  EXPECT_EQ(normalize_answer("a\u0301"), "\u0301");  // a mark is no word character for Python
  EXPECT_EQ(normalize_answer("\u039f\u0394\u039f\u03a3"),
            "\u03bf\u03b4\u03bf\u03c2");  // final sigma
  EXPECT_EQ(normalize_answer("x\u00a0\u3000y"), "x y");
}

TEST(SquadMetrics, CountsWordsAsOftenAsTheyOccur) {
  EXPECT_DOUBLE_EQ(squad_f1("x x y", "x z"), 2 * (1.0 / 3) * 0.5 / (1.0 / 3 + 0.5));
  EXPECT_DOUBLE_EQ(squad_f1("the x", "X."), 1);
  EXPECT_DOUBLE_EQ(squad_f1("", ""), 0);  // as the script has it, though they match
  EXPECT_TRUE(squad_exact_match("", "the"));
  EXPECT_FALSE(squad_exact_match("x y", "xy"));
}

TEST(SquadMetrics, TakesTheBestAnswerAndTheMeanOverAllQuestions) {
  const SquadData data{"test",
                       {"c"},
                       {{"1", "?", 0, {{"x y", 0}, {"x", 0}}},
                        {"2", "?", 0, {{"x y", 0}}},
                        {"3", "?", 0, {{"z", 0}}}},
                       {}};
  const SquadScores scores = score_squad(data, {{"1", "x"}, {"2", "x"}, {"other", "z"}});
  EXPECT_EQ(scores.questions, 3);
  EXPECT_DOUBLE_EQ(scores.exact_match, 100.0 / 3);
  EXPECT_DOUBLE_EQ(scores.f1, 100.0 * (1 + 2.0 / 3) / 3);
  EXPECT_EQ(scores.unanswered, std::vector<std::string>{"3"});
}

}  // namespace
}  // namespace minibert
