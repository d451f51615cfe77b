// squad_answers_test.cpp: alignment and ranking by hand-worked values, and beside squad_reference.py on
// real questions with random scores. The latter needs the development-only Python of MINIBERT_PYTHON
// and the data of MINIBERT_SHARED_DATA.
#include "models/text/squad_answers.h"

#include <cmath>
#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/random.h"
#include "tests/process.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

TEST(AlignAnswer, FindsTheCharactersAgain) {
  const TokenizerOptions uncased;
  EXPECT_EQ(align_answer("steve smith", "Steve Smith's", uncased), "Steve Smith");
  EXPECT_EQ(align_answer("1895", "(1895-1943).", uncased), "1895");
  EXPECT_EQ(align_answer("u . s", "U.S.", uncased), "U.S");
  EXPECT_EQ(align_answer("creme brulee", "Cr\u00e8me Br\u00fbl\u00e9e,", uncased),
            "Cr\u00e8me Br\u00fbl\u00e9e");
  EXPECT_EQ(align_answer("\u4eac", "\u6771\u4eac\u90fd", uncased), "\u4eac");
  EXPECT_EQ(align_answer("Steve", "(Steve)", TokenizerOptions::cased()), "Steve");
}

TEST(AlignAnswer, GivesAllWhereItCannotTell) {
  const TokenizerOptions uncased;
  EXPECT_EQ(align_answer("[UNK]", "\U0001f600 x", uncased), "\U0001f600 x");
  EXPECT_EQ(align_answer("", "x", uncased), "x");
  // NFD makes three characters of a Hangul syllable: the spellings have different lengths.
  EXPECT_EQ(align_answer("x", "\ud55c x", uncased), "\ud55c x");
}

struct Small {
  WordPieceTokenizer tokenizer{
      Vocab::from_tokens({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"},
                         "small"),
      TokenizerOptions{}};
  std::string context = "A b C d";
  TokenizedContext tokens = tokenize_context(context, tokenizer);
  // [CLS] a [SEP] a b c d [SEP]
  SquadWindow window{.question = 0,
                     .ids = {2, 5, 3, 5, 6, 7, 8, 3},
                     .first_segment = 3,
                     .first_token = 0,
                     .max_context = {true, true, true, false}};
  std::vector<RankedAnswer> rank(std::vector<float> start, std::vector<float> end,
                                 AnswerOptions options = {}) const {
    const ScoredWindow scored[] = {{&window, std::move(start), std::move(end)}};
    return rank_answers(scored, tokens, tokenizer, options);
  }
};

TEST(RankAnswers, TakesAllowedSpansByTheSumOfTheirScores) {
  const Small small;
  // The best start is [CLS], and the best end lies before the best start in the text: neither counts.
  const auto answers = small.rank({9, 8, 0, 1, 3, 2, 7, 0}, {0, 0, 9, 5, 1, 2, 0, 8});
  ASSERT_FALSE(answers.empty());
  EXPECT_EQ(answers[0].text, "A");  // 1 + 5
  EXPECT_EQ(answers[0].start_score, 1);
  EXPECT_EQ(answers[0].end_score, 5);
  EXPECT_EQ(answers[1].text, "b C");  // 3 + 2
  EXPECT_EQ(answers[2].text, "b");  // 3 + 1, before "C" with 2 + 2: equal, the earlier start's rank
  double sum = 0;
  for (const RankedAnswer& answer : answers) {
    sum += answer.probability;
    EXPECT_NE(answer.text.front(), 'd') << "a start without most context";
  }
  EXPECT_NEAR(sum, 1, 1e-12);
  EXPECT_NEAR(answers[0].probability / answers[1].probability, std::exp(1.0), 1e-9);
}

TEST(RankAnswers, KeepsToTheLimits) {
  const Small small;
  const std::vector<float> start = {0, 0, 0, 4, 3, 2, 1, 0}, end = {0, 0, 0, 1, 2, 3, 4, 0};
  for (const RankedAnswer& answer : small.rank(start, end, {.n_best = 20, .max_answer_length = 2}))
    EXPECT_LE(answer.text.size(), 3u);
  EXPECT_EQ(small.rank(start, end, {.n_best = 2, .max_answer_length = 30}).size(), 2u);
  const auto none = small.rank({9, 0, 0, 0, 0, 0, 0, 0}, {9, 0, 0, 0, 0, 0, 0, 0},
                               {.n_best = 1, .max_answer_length = 30});
  ASSERT_EQ(none.size(), 1u);
  EXPECT_EQ(none[0].text, "empty");
}

TEST(RankAnswers, EqualsGooglesOnRealQuestions) {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  const std::string python = variable("MINIBERT_PYTHON"), source = variable("MINIBERT_SOURCE_DIR");
  const fs::path file =
      fs::path(variable("MINIBERT_SHARED_DATA")) / "qa/squad1.1-dev-3articles.json";
  if (!fs::exists(python) || !fs::exists(file))
    GTEST_SKIP() << "needs tools/install-peers and the data of MINIBERT_SHARED_DATA";
  const std::string vocab = source + "/tests/goldens/tokenizer/bert-base-uncased-vocab.txt";
  const WordPieceTokenizer tokenizer(Vocab::load(vocab), TokenizerOptions{});
  const SquadData data = read_squad(file, {.use = SquadUse::evaluate});
  const SquadWindows windows(data, tokenizer, {128, 64, 24}, SquadUse::evaluate);
  // Whole numbers, so that many are equal, and the order of equals shows.
  RandomStream draw(5, StreamPurpose::user, 0);
  std::vector<ScoredWindow> scored;
  json scores = json::array();
  for (const SquadWindow& window : windows.all()) {
    ScoredWindow& s = scored.emplace_back();
    s.window = &window;
    for (size_t i = 0; i < window.ids.size(); ++i) {
      s.start.push_back(static_cast<float>(draw.below(40)));
      s.end.push_back(static_cast<float>(draw.below(40)));
    }
    scores.push_back({s.start, s.end});
  }
  const std::string stem =
      (fs::temp_directory_path() / fmt::format("minibert_answers_{}", ::getpid())).string();
  std::ofstream(stem + ".scores") << scores;
  const auto ran = testing::run_process(
      {python, source + "/tests/models/text/squad_reference.py", "answers", file.string(), vocab,
       stem + ".scores", stem + ".out", "--length", "128", "--stride", "64", "--query", "24"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const json expected = json::parse(std::ifstream(stem + ".out"));
  fs::remove(stem + ".scores");
  fs::remove(stem + ".out");
  ASSERT_EQ(expected.size(), data.questions.size());
  size_t first = 0;
  for (size_t q = 0; q < expected.size(); ++q) {
    size_t end = first;
    while (end < scored.size() && scored[end].window->question == q) ++end;
    const auto answers = rank_answers(std::span(scored).subspan(first, end - first),
                                      windows.context_of(windows.all()[first]), tokenizer, {});
    ASSERT_EQ(answers.size(), expected[q].size()) << "question " << q;
    for (size_t k = 0; k < answers.size(); ++k) {
      ASSERT_EQ(answers[k].text, expected[q][k][0].get<std::string>()) << q << " rank " << k;
      ASSERT_EQ(answers[k].start_score, expected[q][k][1].get<float>());
      ASSERT_EQ(answers[k].end_score, expected[q][k][2].get<float>());
    }
    first = end;
  }
}

}  // namespace
}  // namespace minibert
