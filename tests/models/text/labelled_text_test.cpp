// labelled_text_test.cpp: rows of CSV and TSV as RFC 4180 has them, lines of JSON, labels, and what is
// refused by line. Real rows are compared with Python's csv module.
#include "models/text/labelled_text.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/error.h"
#include "models/text/data_faults.h"
#include "tests/process.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using Pairs = std::vector<std::pair<std::string, std::string>>;

class LabelledTexts : public ::testing::Test {
 protected:
  LabelledTexts()
      : folder_(fs::temp_directory_path() / fmt::format("minibert_labelled_{}", ::getpid())) {
    fs::create_directories(folder_);
  }
  ~LabelledTexts() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  Pairs pairs(const std::string& name, const std::string& text, const LabelledTextOptions& o = {}) {
    Pairs result;
    for (const LabelledText& row : read_labelled_texts(write(name, text), o))
      result.emplace_back(row.text, row.label);
    return result;
  }
  std::string refusal(const std::string& name, const std::string& text) {
    try {
      read_labelled_texts(write(name, text), {});
    } catch (const DataError& error) {
      return error.what();
    }
    return "(accepted)";
  }
  void expect_refused(const std::string& name, const std::string& text,
                      const std::vector<std::string>& parts) {
    const std::string message = refusal(name, text);
    EXPECT_NE(message.find((folder_ / name).string()), std::string::npos) << message;
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << part << "\n" << message;
  }

  fs::path folder_;
};

TEST_F(LabelledTexts, ReadsQuotedFields) {
  EXPECT_EQ(pairs("a.csv",
                  "text,label\r\n"
                  "\"a, \"\"b\"\"\",x\r\n"
                  "\"two\r\nlines\n\n\",y\r\n"
                  "\r\n"
                  "plain \"quotes\" inside,\"z\"\r\n"
                  "\"\"\"\",last"),
            (Pairs{{"a, \"b\"", "x"},
                   {"two\nlines\n\n", "y"},
                   {"plain \"quotes\" inside", "z"},
                   {"\"", "last"}}));
}

TEST_F(LabelledTexts, TakesColumnsByTheirNames) {
  const std::string text = "id\tclass\tsentence\n7\tnews\ta, b\n";
  EXPECT_EQ(pairs("a.tsv", text, {"sentence", "class"}), (Pairs{{"a, b", "news"}}));
  expect_refused("b.tsv", text, {"has no column \"text\"", "id, class, sentence", "--text-column"});
  EXPECT_EQ(pairs("a.jsonl",
                  "{\"text\": \"a\\nb\", \"label\": 1}\n\n{\"label\": \"x\", \"text\": \"c\"}\n"),
            (Pairs{{"a\nb", "1"}, {"c", "x"}}));
}

// The headers of GLUE's train.tsv of MNLI, QNLI, QQP and MRPC, and keys of `datasets`.
TEST_F(LabelledTexts, NamesTheTwoTextsOfAPair) {
  const std::string mnli =
      "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
      "sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
      "0\t31193\t31193n\tgovernment\t( a )\t( b )\t(ROOT a)\t(ROOT b)\ta b\tc "
      "d\tneutral\tneutral\n";
  expect_refused("mnli.tsv", mnli,
                 {"has no column \"text\"", "sentence2, label1, gold_label",
                  "\"sentence1\" and \"sentence2\" are the two texts of a pair, and one text a row "
                  "is read: put both into one column, or name the one",
                  "--text-column NAME"});
  EXPECT_EQ(pairs("mnli.tsv", mnli, {"sentence2", "gold_label"}), (Pairs{{"c d", "neutral"}}));
  expect_refused("qnli.tsv", "index\tquestion\tsentence\tlabel\n0\ta\tb\tx\n",
                 {"\"question\" and \"sentence\" are the two"});
  expect_refused("qqp.tsv",
                 "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\ta\tb\t1\n",
                 {"\"question1\" and \"question2\" are the two"});
  expect_refused("mrpc.tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t2\t3\ta\tb\n",
                 {"\"#1 String\" and \"#2 String\" are the two"});
  expect_refused("snli.jsonl", R"({"premise": "a", "hypothesis": "b", "label": 1})",
                 {"line 1", "\"premise\" and \"hypothesis\" are the two texts of a pair"});
  const auto notes_of = [&](const char* name, const std::string& text, const char* column) {
    std::vector<std::string> notes;
    read_labelled_texts(write(name, text), {column, "label"}, &notes);
    return notes;
  };
  const std::string rte = "index\tsentence1\tsentence2 \tlabel\n0\ta\tb\tx\n";
  for (const auto& [column, other] :
       {std::pair("sentence1", "sentence2"), std::pair("sentence2", "sentence1")}) {
    const auto notes = notes_of("rte.tsv", rte, column);
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_NE(notes[0].find(fmt::format("\"{}\" is not read", other)), std::string::npos)
        << notes[0];
  }
  EXPECT_EQ(notes_of("rte.tsv", rte, "index"), std::vector<std::string>());
  const std::string snli = "{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": 1}\n";
  EXPECT_EQ(notes_of("snli.jsonl", snli + snli, "hypothesis").size(), 1u);
  expect_refused("one.tsv", "sentence1\tsentence\tlabel\na\tb\tx\n", {"has no column \"text\""});
}

// The first lines of CoLA's train.tsv and AG News' train.csv are rows, SST-2's and MRPC's names.
TEST_F(LabelledTexts, SaysHowToNameColumnsWhereTheFirstLineIsARow) {
  const std::string cola =
      "gj04\t1\t\tOur friends won't buy this analysis.\ngj04\t0\t*\tThey drank the pub.\n";
  const std::string advice = refusal("cola.tsv", cola);
  const size_t command = advice.find("cat ");
  ASSERT_NE(command, std::string::npos) << advice;
  const std::string there = "cd " + folder_.string() + " && ";
  ASSERT_EQ(std::system((there + advice.substr(command)).c_str()), 0);
  const auto rows = read_labelled_texts(folder_ / "named.tsv", {"column4", "column2"});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].text, "They drank the pub.");
  EXPECT_EQ(rows[1].label, "0");
  expect_refused("ag.csv", "\"3\",\"Wall St. Bears\",\"Short-sellers, seeing green\"\n",
                 {"sed '1i column1,column2,column3' > named.csv"});
  for (const char* names : {"sentence\tlabel\n", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"})
    EXPECT_EQ(refusal("names.tsv", names).find("sed"), std::string::npos);
}

TEST_F(LabelledTexts, RemembersWhereARowBegins) {
  const auto rows = read_labelled_texts(write("a.csv", "text,label\n\"a\nb\",x\nc,y\n"), {});
  EXPECT_EQ(rows[0].line, 2);
  EXPECT_EQ(rows[1].line, 4);
}

TEST_F(LabelledTexts, NamesEveryBadLine) {
  expect_refused("a.csv", "text,label\na,b,c\nd\n,x\ny,\ngood,one\n",
                 {"4 lines cannot be used", "line 2: 3 fields, expected 2", "line 3: 1 fields",
                  "line 4: the text is empty", "line 5: the label is empty"});
  expect_refused("b.csv", "text,label\na,x\n\"b,y\nc,z\n", {"line 3", "never closed", "(\"\")"});
  expect_refused("c.jsonl", "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"a\"}\nnot json\n",
                 {"2 lines", "line 2: has no text under \"label\" (--label-column",
                  "line 3: is no JSON object (parse error"});
  expect_refused(
      "g.jsonl", "{\"text\": \"a\", \"label\": [1]}\n[1]\n{\"Text\": \"a\"}\n",
      {"line 1: \"label\" is array, expected one text", "line 2: is a JSON array",
       "line 3: has no text under \"text\" (--text-column names another key). Did you mean "
       "Text?"});
  expect_refused("d.csv", "text,label\n", {"holds no texts"});
  expect_refused("e.csv", "", {});
  expect_refused("f.txt", "text,label\na,b\n", {"expected .csv, .tsv or .jsonl"});
}

// GLUE's files of tabs are read without quoting (csv.QUOTE_NONE): sentences begin with quotes that end
// elsewhere, or nowhere. pandas quotes what holds a line break or a tab.
TEST_F(LabelledTexts, AStrayQuoteBetweenTabsSwallowsNothing) {
  EXPECT_EQ(pairs("glue.tsv",
                  "text\tlabel\n"
                  "\"I think so,\" he said.\ta\n"
                  "\"never closed\tb\n"
                  "closed\" later\ta\n"
                  "\"all of it\"\tb\n"
                  "\"two\nlines \"\"x\"\"\"\ta\n"),
            (Pairs{{"\"I think so,\" he said.", "a"},
                   {"\"never closed", "b"},
                   {"closed\" later", "a"},
                   {"all of it", "b"},
                   {"two\nlines \"x\"", "a"}}));
  expect_refused("tab.tsv", "text\tlabel\n\"a\tb\"\tb\n", {"line 2: 3 fields, expected 2"});
}

TEST_F(LabelledTexts, AQuoteThatClosesInAnotherRowIsRefused) {
  expect_refused("a.csv", "text,label\n\"one,a\ntwo,b\nthree \"x\",a\n",
                 {"line 2", "line 4", "(\"\")"});
}

TEST_F(LabelledTexts, ExcelsSeparatorsAndHeadersAreRead) {
  const Pairs rows = {{"a, b", "x"}, {"c", "y"}};
  EXPECT_EQ(pairs("a.csv", "text;label\na, b;x\nc;y\n"), rows);
  EXPECT_EQ(pairs("b.csv", "sep=;\r\ntext;label\r\na, b;x\r\nc;y\r\n"), rows);
  EXPECT_EQ(pairs("c.CSV", "text\tlabel\na, b\tx\nc\ty\n"), rows);
  EXPECT_EQ(pairs("d.tsv", "text,label\n\"a, b\",x\nc,y\n"), rows);
  EXPECT_EQ(pairs("e.csv", "text, label\n\"a, b\",x\nc,y\n"), rows);
  expect_refused("f.csv", "Text,label\na,b\n", {"has no column \"text\"", "Did you mean Text?"});
  expect_refused("g.csv", "text,label,label\na,b,c\n", {"names \"label\" 2 times"});
  // Excel on a Macintosh: returns between rows, a line feed within a cell.
  expect_refused("h.csv", "text,label\r\"a\nb\",x\rc,d\r", {"carriage returns", "tr '\\r' '\\n'"});
}

// Two labels with different letters beyond ASCII would become one.
TEST_F(LabelledTexts, BytesThatAreNoTextAreRefused) {
  expect_refused("a.csv", "text,label\nsome words of text,\xE9\nand more of them,\xE8\n",
                 {"line 2 is not UTF-8", "iconv -f LATIN1 -t UTF-8"});
  expect_refused("b.jsonl", "{\"text\": \"some words \xE9\", \"label\": 1}\n",
                 {"line 1 is not UTF-8"});
  expect_refused("c.csv", std::string("text,label\nsome words of \0text,a\nand more,b\n", 42),
                 {"line 2 holds a zero byte"});
}

TEST_F(LabelledTexts, NumbersOfJsonAreLabelsAsInCsv) {
  EXPECT_EQ(
      pairs("a.jsonl", "{\"text\": \"a\", \"label\": 0.5}\n{\"text\": \"b\", \"label\": true}\n"),
      (Pairs{{"a", "0.5"}, {"b", "true"}}));
}

TEST_F(LabelledTexts, DoubtsNameWhatIsProbablyWrong) {
  const auto doubts = [](std::vector<std::pair<std::string, std::string>> rows) {
    std::vector<LabelledText> texts;
    for (auto& [text, label] : rows) texts.push_back({text, label, std::ssize(texts) + 2});
    return doubts_about(texts);
  };
  EXPECT_EQ(doubts({{"a", "x"}, {"b", "y"}, {"c", "x"}}), std::vector<std::string>{});
  const auto spelt =
      doubts({{"a", "pos"}, {"b", "Pos "}, {"c", "neg"}, {"d", "neg"}, {"e", "pos"}, {"f", "neg"}});
  ASSERT_EQ(spelt.size(), 1u);
  EXPECT_NE(spelt[0].find("\"Pos \", \"pos\" differ only in blanks or capitals"), std::string::npos)
      << spelt[0];
  const auto unique = doubts({{"a", "id1"}, {"b", "id2"}, {"c", "id3"}});
  ASSERT_EQ(unique.size(), 1u);
  EXPECT_NE(unique[0].find("3 texts have 3 labels"), std::string::npos);
  const auto contradicting = doubts({{"a", "x"}, {"b", "y"}, {"a", "y"}, {"a", "x"}});
  ASSERT_EQ(contradicting.size(), 1u);
  EXPECT_NE(contradicting[0].find(
                "1 texts have another label where they are there before (lines 2 and 4)"),
            std::string::npos)
      << contradicting[0];
}

TEST_F(LabelledTexts, DoubtsMissingValuesAndMeasures) {
  const auto doubts = [](std::initializer_list<const char*> labels) {
    std::vector<LabelledText> texts;
    for (const char* label : labels) texts.push_back({std::to_string(texts.size()), label, 1});
    return doubts_about(texts);
  };
  const auto missing = doubts({"pos", "neg", "nan", "pos", "neg", "nan"});
  ASSERT_EQ(missing.size(), 1u);
  EXPECT_NE(missing[0].find("2 texts have the label \"nan\""), std::string::npos) << missing[0];
  EXPECT_EQ(doubts({"none", "neg", "none", "neg"}), std::vector<std::string>{});
  const auto measures = doubts({"0.5", "1", "2.25", "0.5", "1", "2.25"});
  ASSERT_EQ(measures.size(), 1u);
  EXPECT_NE(measures[0].find("numbers with fractions, such as 2.25"), std::string::npos);
  for (const auto& labels : {std::initializer_list<const char*>{"0", "1", "0", "1"},
                             {"1.0", "0.0", "1.0", "0.0"},
                             {"v1.5", "v2", "v1.5", "v2"}})
    EXPECT_EQ(doubts(labels), std::vector<std::string>{});
}

TEST_F(LabelledTexts, NumbersLabels) {
  const auto labels = [](std::vector<std::string> names) {
    std::vector<LabelledText> texts;
    for (std::string& name : names) texts.push_back({"t", std::move(name), 0});
    return labels_of(texts);
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(labels({"b", "a", "b", "B"}), (Names{"B", "a", "b"}));
  EXPECT_EQ(labels({"10", "9", "0"}), (Names{"0", "9", "10"}));
  EXPECT_EQ(labels({"10", "9", "09"}), (Names{"09", "10", "9"}));
  const std::vector<LabelledText> texts = {{"t", "b", 2}, {"t", "a", 3}, {"t", "carrd", 4}};
  EXPECT_EQ(label_numbers(texts, {"a", "b", "carrd"}, "f", "g"), (std::vector<int32_t>{1, 0, 2}));
  try {
    label_numbers(texts, {"a", "b", "card"}, "f", "model/config.json");
    FAIL() << "accepted";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("line 4: \"carrd\". Did you mean card?"),
              std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find("model/config.json"), std::string::npos);
  }
}

TEST_F(LabelledTexts, EqualPythonsCsvOnRealRows) {
  const char* shared = std::getenv("MINIBERT_SHARED_DATA");
  const fs::path file = fs::path(shared ? shared : "") / "classify/banking77-train.csv";
  if (!fs::exists(file)) GTEST_SKIP() << "needs the data of MINIBERT_SHARED_DATA";
  const auto ran = testing::run_process(
      {"python3", "-c",
       "import csv, json, sys; print(json.dumps([[r['text'], r['category']] for r in "
       "csv.DictReader(open(sys.argv[1], encoding='utf-8'))]))",
       file.string()});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const auto expected = nlohmann::json::parse(ran.out).get<Pairs>();
  const auto rows = read_labelled_texts(file, {"text", "category"});
  ASSERT_EQ(rows.size(), expected.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    ASSERT_EQ(rows[i].text, expected[i].first) << i;
    ASSERT_EQ(rows[i].label, expected[i].second) << i;
  }
  EXPECT_EQ(labels_of(rows).size(), 77u);
}

}  // namespace
}  // namespace minibert
