// text_verbs_test.cpp: fill-mask and embed as a shell sees them: where texts come from, what stands
// on which stream, what is refused and with which exit code. Values are compared with Transformers'
// in tests/models/bert/peer_test.cpp.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "models/bert/hugging_face.h"
#include "models/text/vocab.h"
#include "tests/process.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ProcessResult;

class TextVerbs : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("minibert_text_verbs_{}_{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    const std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
                                             "a",     "b",     "the",   "cat",   "sat"};
    Vocab::from_tokens(tokens, "test").save(folder_ / "vocab.txt");
    save_model({true, true, true});
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// A model of 12 rows, two more than the vocabulary has tokens, and 8 positions.
  void save_model(const BertParts& parts, int64_t vocab_size = 12) {
    BertConfig config;
    config.vocab_size = vocab_size;
    config.hidden_size = 8;
    config.num_hidden_layers = 1;
    config.num_attention_heads = 2;
    config.intermediate_size = 16;
    config.max_position_embeddings = 8;
    config.initializer_range = 0.5f;
    BertForPreTraining model(config, ModelUse::inference, parts);
    model.initialize(4);
    save_hugging_face(folder_, model);
  }
  ProcessResult run(std::vector<std::string> words, const std::string& input = {}) {
    words.insert(words.begin() + 1, {"--model", folder_});
    words.insert(words.begin(), std::getenv("MINIBERT_BINARY"));
    return testing::run_process(words, input);
  }
  std::vector<json> run_json(std::vector<std::string> words, const std::string& input = {}) {
    words.insert(words.begin() + 1, "--json");
    const ProcessResult result = run(words, input);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::vector<json> objects;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) objects.push_back(json::parse(line));
    return objects;
  }
  void expect_refused(const ProcessResult& result, int exit_code, const std::string& says) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_NE(result.err.find(says), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }

  fs::path folder_;
};

std::vector<std::string> texts_of(const std::vector<json>& objects) {
  std::vector<std::string> texts;
  for (const json& object : objects) texts.push_back(object["text"]);
  return texts;
}

TEST_F(TextVerbs, TextsComeFromArgumentsFileOrStandardInput) {
  const std::vector<std::string> texts = {"the [MASK]", "[MASK], a [MASK]"};
  std::ofstream(folder_ / "texts") << texts[0] << "\r\n" << texts[1];
  EXPECT_EQ(texts_of(run_json({"fill-mask", texts[0], texts[1]})), texts);
  EXPECT_EQ(texts_of(run_json({"fill-mask", "--file", folder_ / "texts"})), texts);
  EXPECT_EQ(texts_of(run_json({"fill-mask"}, texts[0] + "\n" + texts[1] + "\n")), texts);
  EXPECT_EQ(texts_of(run_json({"embed", "--", "-a", "--file"})),
            (std::vector<std::string>{"-a", "--file"}));
  EXPECT_EQ(texts_of(run_json({"embed"}, "a\n\nb\n")), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_TRUE(run_json({"embed"}, "").empty());
}

/// Several windows of many groups each; a line in a hundred is too long.
std::string many_texts() {
  const char* words[] = {"a", "b", "the", "cat", "sat"};
  std::string texts;
  for (int i = 0; i < 60000; ++i) {
    for (int w = 0; w < i % 6; ++w) texts += fmt::format("{} ", words[(i / 7 + w) % 5]);
    texts += i % 100 == 99 ? "a b a b a b a\n" : "cat\n";
  }
  return texts;
}

TEST_F(TextVerbs, ThreadsChangeNothingAndResultsStandInOrder) {
  const std::string texts = many_texts();
  const auto embed = [&](const std::string& threads) {
    return testing::run_process(
        {"/usr/bin/env", "OMP_NUM_THREADS=" + threads, std::getenv("MINIBERT_BINARY"), "embed",
         "--model", folder_, "--json", "--no-truncate"},
        texts);
  };
  const ProcessResult two = embed("2");
  EXPECT_EQ(two.exit_code, 3);  // because of those that are too long
  ASSERT_TRUE(two.out == embed("1").out);
  std::istringstream inputs(texts), outputs(two.out);
  int number = 0;
  for (std::string text, line; std::getline(inputs, text); ++number) {
    ASSERT_TRUE(std::getline(outputs, line));
    const json object = json::parse(line);
    ASSERT_EQ(object["text"], text);
    ASSERT_EQ(object.contains("error"), std::count(text.begin(), text.end(), ' ') > 5);
    if (number % 7001 != 0 || object.contains("error")) continue;
    const json alone = run_json({"embed", text})[0];  // its result is its own
    ASSERT_EQ(object["vector"].size(), alone["vector"].size());
    for (size_t i = 0; i < alone["vector"].size(); ++i)
      ASSERT_NEAR(object["vector"][i].get<double>(), alone["vector"][i].get<double>(), 1e-5);
  }
  std::string more;
  EXPECT_FALSE(std::getline(outputs, more));
}

TEST_F(TextVerbs, FillMaskHasTheFieldsOfTheContract) {
  const json object = run_json({"fill-mask", "--top-k", "3", "the [MASK] sat [MASK]"}).at(0);
  EXPECT_EQ(object["ids"], (std::vector<int>{2, 7, 4, 9, 4, 3}));
  ASSERT_EQ(object["masks"].size(), 2u);
  EXPECT_EQ(object["masks"][0]["position"], 2);
  EXPECT_EQ(object["masks"][1]["position"], 4);
  for (const json& mask : object["masks"]) {
    ASSERT_EQ(mask["candidates"].size(), 3u);
    double before = 1;
    for (const json& candidate : mask["candidates"]) {
      EXPECT_TRUE(candidate["id"].is_number_integer() && candidate["token"].is_string());
      EXPECT_LE(candidate["probability"], before);
      before = candidate["probability"];
    }
  }
  // All tokens of the vocabulary, and not the two rows that have none.
  const json all = run_json({"fill-mask", "--top-k", "100", "[MASK]"}).at(0);
  EXPECT_EQ(all["masks"][0]["candidates"].size(), 10u);
}

TEST_F(TextVerbs, EmbedHasTheFieldsOfTheContract) {
  for (const char* pooling : {"mean", "cls"}) {
    const auto objects = run_json(
        {"embed", "--pooling", pooling, "--normalize", "the cat", "the cat sat", "the cat"});
    ASSERT_EQ(objects.size(), 3u);
    EXPECT_EQ(objects[0]["ids"], (std::vector<int>{2, 7, 8, 3}));
    EXPECT_NE(objects[0]["vector"], objects[1]["vector"]);
    double square = 0;
    for (const double x : objects[0]["vector"]) square += x * x;
    EXPECT_EQ(objects[0]["vector"].size(), 8u);
    EXPECT_NEAR(square, 1.0, 1e-6);
  }
}

// 4,667 tokens: more than one group.
TEST_F(TextVerbs, ManyTextsKeepTheirOrder) {
  std::string input;
  for (int i = 0; i < 1000; ++i) input += i % 3 == 0 ? "the cat sat a b a\n" : "b\n";
  const auto objects = run_json({"embed"}, input);
  ASSERT_EQ(objects.size(), 1000u);
  for (size_t i = 0; i < objects.size(); ++i) {
    ASSERT_EQ(objects[i]["ids"].size(), i % 3 == 0 ? 8u : 3u) << i;
  }
}

TEST_F(TextVerbs, PeopleGetAReadableTable) {
  const ProcessResult filled = run({"fill-mask", "--top-k", "2", "the [MASK] [MASK]"});
  EXPECT_EQ(filled.exit_code, 0);
  EXPECT_EQ(filled.err, "");
  EXPECT_EQ(filled.out.find("the [MASK] [MASK]\n  [MASK] 1 of 2\n"), 0u) << filled.out;
  EXPECT_EQ(std::count(filled.out.begin(), filled.out.end(), '%'), 4);
  const ProcessResult embedded = run({"embed", "the cat"});
  EXPECT_EQ(embedded.out.find("the cat\n  8 numbers, norm "), 0u) << embedded.out;
}

TEST_F(TextVerbs, RefuseWhatCannotBeDone) {
  expect_refused(
      testing::run_process({std::getenv("MINIBERT_BINARY"), "tokenizer", "train", "--vocab-size",
                            "99", "--min-frequency", "0", "--output", folder_ / "v.txt"}),
      2, "--min-frequency: Value 0 not in range 1 to 1099511627776");
  expect_refused(run({"embed", "--no-truncate", "a b a b a b a"}), 3,
                 "has 9 tokens with [CLS] and [SEP], expected at most 8");
  expect_refused(run({"fill-mask", "a b a b a b [MASK]"}), 3, "or give --truncate");
  expect_refused(run({"embed", "--pooling", "max", "a"}), 2, "pooling is \"max\"");
  expect_refused(run({"embed", "--nrmalize", "a"}), 2,
                 "there is no flag --nrmalize. Did you mean --normalize?");
  expect_refused(run({"fill-mask", "--top-k", "0", "[MASK]"}), 2, "--top-k");
  expect_refused(run({"embed", "--file", "/absent", "a"}), 2, "both as arguments and with --file");
  expect_refused(run({"embed", "--file", "/absent"}), 3, "/absent: cannot be opened");
  expect_refused(run({"embed", "--file", folder_}), 3, "cannot be read");
  fs::remove(folder_ / "vocab.txt");
  expect_refused(run({"embed", "a"}), 3, "vocab.txt");
}

// One text that can't be used costs its own result; the others have theirs, in order.
TEST_F(TextVerbs, ABadTextCostsItsOwnResult) {
  const std::vector<std::string> texts = {"a [MASK]", "the cat", "b [MASK]"};
  const ProcessResult skipped = run({"fill-mask", "--json", texts[0], texts[1], texts[2]});
  EXPECT_EQ(skipped.exit_code, 3);
  EXPECT_NE(skipped.err.find("text 2 (\"the cat\") has no [MASK]"), std::string::npos);
  EXPECT_NE(skipped.err.find("1 of 3 texts could not be used"), std::string::npos) << skipped.err;
  std::istringstream lines(skipped.out);
  std::vector<json> objects;
  for (std::string line; std::getline(lines, line);) objects.push_back(json::parse(line));
  EXPECT_EQ(texts_of(objects), texts);
  EXPECT_EQ(objects[0]["masks"].size(), 1u);
  EXPECT_EQ(objects[1]["error"].get<std::string>().find("has no [MASK]"), 0u);
  EXPECT_EQ(objects[2]["masks"].size(), 1u);

  const ProcessResult stopped =
      run({"fill-mask", "--json", "--on-error", "stop", texts[0], texts[1], texts[2]});
  EXPECT_EQ(stopped.exit_code, 3);
  EXPECT_EQ(std::count(stopped.out.begin(), stopped.out.end(), '\n'), 1);
  EXPECT_EQ(json::parse(stopped.out), objects[0]);
  EXPECT_NE(stopped.err.find("text 2 (\"the cat\") has no [MASK]"), std::string::npos);
}

TEST_F(TextVerbs, ABlankLineIsNoMistake) {
  const auto objects = run_json({"fill-mask"}, "a [MASK]\n\nb [MASK]\n");
  ASSERT_EQ(objects.size(), 3u);
  EXPECT_EQ(objects[1]["ids"], (std::vector<int>{2, 3}));
  EXPECT_EQ(objects[1]["masks"].size(), 0u);
  EXPECT_EQ(objects[2]["masks"].size(), 1u);
}

// [CLS], six tokens and [SEP] fill the model's 8 positions.
TEST_F(TextVerbs, LongTextsAreCut) {
  const ProcessResult result = run({"embed", "--json", "a b a b a b a", "a b a b a b"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.err.find("1 of 2 texts were cut to 8 tokens"), std::string::npos) << result.err;
  std::istringstream lines(result.out);
  std::string first, second;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_EQ(json::parse(first)["ids"], (std::vector<int>{2, 5, 6, 5, 6, 5, 6, 3}));
  EXPECT_EQ(json::parse(first)["vector"], json::parse(second)["vector"]);

  EXPECT_EQ(run_json({"fill-mask", "--truncate", "a [MASK] a b a b a"})[0]["masks"].size(), 1u);
  expect_refused(run({"fill-mask", "--truncate", "a b a b a b [MASK]"}), 3,
                 "has no [MASK] in the part that the model can read");

  // The folder's own limit, as sentence-transformers takes it.
  std::ofstream(folder_ / "sentence_bert_config.json") << R"({"max_seq_length": 4})";
  EXPECT_EQ(run_json({"embed", "a b a b"})[0]["ids"], (std::vector<int>{2, 5, 6, 3}));
  std::ofstream(folder_ / "tokenizer_config.json") << R"({"model_max_length": 3})";
  EXPECT_EQ(run_json({"embed", "a b a b"})[0]["ids"], (std::vector<int>{2, 5, 3}));
  std::ofstream(folder_ / "tokenizer_config.json")
      << R"({"model_max_length": 1000000000000000019884624838656})";
  EXPECT_EQ(run_json({"embed", "a b a b"})[0]["ids"].size(), 4u);
}

// The same reader as data build's: compression and UTF-16.
TEST_F(TextVerbs, FilesAreReadAsByEveryVerb) {
  const std::string utf16("\xFF\xFEt\0h\0e\0\n\0c\0a\0t\0\n\0", 18);
  std::ofstream(folder_ / "utf16.txt", std::ios::binary) << utf16;
  EXPECT_EQ(texts_of(run_json({"embed", "--file", folder_ / "utf16.txt"})),
            (std::vector<std::string>{"the", "cat"}));
  ASSERT_EQ(
      std::system(fmt::format("printf 'the\ncat\n' | gzip > {}/t.gz", folder_.string()).c_str()),
      0);
  EXPECT_EQ(texts_of(run_json({"embed", "--file", folder_ / "t.gz"})),
            (std::vector<std::string>{"the", "cat"}));
}

// A misspelt flag is named before the required flag that is missing because of it.
TEST_F(TextVerbs, AMisspeltRequiredFlagGetsTheNearestName) {
  const std::string binary = std::getenv("MINIBERT_BINARY");
  const auto run_words = [&](std::vector<std::string> words) {
    words.insert(words.begin(), binary);
    return testing::run_process(words);
  };
  expect_refused(run_words({"embed", "--modle", folder_, "a"}), 2,
                 "there is no flag --modle. Did you mean --model?");
  expect_refused(run_words({"fill-mask", "--modle=" + folder_.string(), "[MASK]"}), 2,
                 "there is no flag --modle. Did you mean --model?");
  expect_refused(run_words({"tokenizer", "train", "--vocab-sice", "99", "--output", "v.txt"}), 2,
                 "there is no flag --vocab-sice. Did you mean --vocab-size?");
  expect_refused(run_words({"data", "build", "--vocb", "v.txt", "a.txt"}), 2,
                 "there is no flag --vocb. Did you mean --vocab?");
  expect_refused(run_words({"eval", "mlm", "--model", "m", "--date", "d"}), 2,
                 "there is no flag --date. Did you mean --data?");
  // Nothing is misspelt: what is required is named, and texts after -- are no flags.
  expect_refused(run_words({"embed", "a"}), 2, "--model is required");
  expect_refused(run_words({"embed", "--", "--modle"}), 2, "--model is required");
}

TEST_F(TextVerbs, RefuseModelsThatDoNotFit) {
  save_model({true, true, true}, 9);
  expect_refused(run({"embed", "a"}), 3, "has 10 tokens, expected at most 9");
  save_model({true, false, false});
  expect_refused(run({"fill-mask", "[MASK]"}), 3, "cls.predictions.transform.dense.weight");
  EXPECT_EQ(run({"embed", "a"}).exit_code, 0);
  fs::remove(folder_ / "model.safetensors");
  expect_refused(run({"embed", "a"}), 3, "has no model.safetensors");
  folder_ = "/absent";
  expect_refused(run({"embed", "a"}), 3, "/absent: is not a folder");
}

TEST_F(TextVerbs, MalformedUtf8IsCountedAndPrintedAsJson) {
  const ProcessResult result = run({"embed", "--json"}, "the \xff\xfe cat\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.err.find("2 bytes are not UTF-8 (first in line 1)"), std::string::npos)
      << result.err;
  const json object = json::parse(result.out);
  EXPECT_EQ(object["ids"], (std::vector<int>{2, 7, 8, 3}));
}

}  // namespace
}  // namespace minibert
