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
  void expect_refused(const std::string& name, const std::string& text,
                      const std::vector<std::string>& parts) {
    std::string message = "(accepted)";
    try {
      read_labelled_texts(write(name, text), {});
    } catch (const DataError& error) {
      message = error.what();
    }
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
                  "line 3: is no JSON object"});
  expect_refused("d.csv", "text,label\n", {"holds no texts"});
  expect_refused("e.csv", "", {});
  expect_refused("f.txt", "text,label\na,b\n", {"expected .csv, .tsv or .jsonl"});
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
