// squad_windows_test.cpp: windows by hand-worked values, and all windows of real files beside those of
// squad_reference.py, which follows google-research/bert's run_squad.py. The latter needs the
// development-only Python of MINIBERT_PYTHON and the data of MINIBERT_SHARED_DATA.
#include "models/text/squad_windows.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/error.h"
#include "tests/process.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Ints = std::vector<int32_t>;
using Bools = std::vector<bool>;

WordPieceTokenizer letters() {
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};  // 0 to 4
  for (char c = 'a'; c <= 'j'; ++c) tokens.push_back(std::string(1, c));             // 5 to 14
  for (const char* piece : {"##x", "(", ")", "-", "1895", "1943", "."}) tokens.emplace_back(piece);
  return {Vocab::from_tokens(tokens, "letters"), TokenizerOptions{}};
}

SquadData one_question(const std::string& context, const std::string& question,
                       SquadAnswer answer) {
  return {"test", {context}, {{"1", question, 0, {std::move(answer)}}}, {}};
}

TEST(SquadWindows, OverlapByTheStrideAndKnowWhereTheAnswerIs) {
  // 10 tokens; a window has room for 9 - 2 - 3 = 4 of them.
  const SquadData data = one_question("a b c d e f g h i j", "a b", {"e f", 8});
  const SquadWindows windows(data, letters(), {9, 3, 2}, SquadUse::train);
  ASSERT_EQ(windows.all().size(), 3u);  // tokens 0-3, 3-6, 6-9
  EXPECT_EQ(windows.all()[0].ids, (Ints{2, 5, 6, 3, 5, 6, 7, 8, 3}));
  EXPECT_EQ(windows.all()[1].ids, (Ints{2, 5, 6, 3, 8, 9, 10, 11, 3}));
  EXPECT_EQ(windows.all()[2].ids, (Ints{2, 5, 6, 3, 11, 12, 13, 14, 3}));
  EXPECT_EQ(windows.all()[1].first_token, 3);
  EXPECT_EQ(windows.all()[1].first_segment, 4);
  // Only the second holds "e f"; the others learn [CLS].
  EXPECT_EQ(windows.all()[0].start, 0);
  EXPECT_EQ(windows.all()[0].end, 0);
  EXPECT_EQ(windows.all()[1].start, 5);
  EXPECT_EQ(windows.all()[1].end, 6);
  EXPECT_EQ(windows.all()[2].end, 0);
  // Token 3 has no context on one side in both windows: the first of equals has it.
  EXPECT_EQ(windows.all()[0].max_context, (Bools{true, true, true, true}));
  EXPECT_EQ(windows.all()[1].max_context, (Bools{false, true, true, true}));
  EXPECT_EQ(windows.all()[2].max_context, (Bools{false, true, true, true}));
}

TEST(SquadWindows, GiveATokenToTheWindowWithMoreContext) {
  // Room for 5, stride 2; the last window ends with the text.
  const SquadData data = one_question("a b c d e f g h i j", "a", {"a", 0});
  const SquadWindows windows(data, letters(), {9, 2, 1}, SquadUse::train);
  ASSERT_EQ(windows.all().size(), 4u);  // 0-4, 2-6, 4-8, 6-9
  EXPECT_EQ(windows.all()[1].first_token, 2);
  EXPECT_EQ(windows.all()[3].first_token, 6);
  // Token 3: 1 left of the end in window 0, 1 right of the start in window 1: the first of equals.
  // Token 4: 0 in window 0, 2 in window 1, 0 in window 2. Token 6: 0, 2, 0.
  EXPECT_EQ(windows.all()[0].max_context, (Bools{true, true, true, true, false}));
  EXPECT_EQ(windows.all()[1].max_context, (Bools{false, false, true, true, false}));
  EXPECT_EQ(windows.all()[2].max_context, (Bools{false, false, true, true, false}));
}

TEST(SquadWindows, FindTheAnswerInsideItsWord) {
  const SquadData data = one_question("a (1895-1943). b", "a", {"1895", 3});
  const SquadWindows windows(data, letters(), {384, 128, 64}, SquadUse::train);
  const SquadWindow& window = windows.all().front();
  EXPECT_EQ(window.ids, (Ints{2, 5, 3, 5, 16, 19, 18, 20, 17, 21, 6, 3}));
  EXPECT_EQ(window.start, 5);  // not the bracket, which the same word begins with
  EXPECT_EQ(window.end, 5);
}

TEST(SquadWindows, TakeTheWholeWordWhereTheAnswerIsAPartOfAPiece) {
  const SquadData data = one_question("a bx c", "a", {"x", 3});  // "x" alone is unknown
  const SquadWindows windows(data, letters(), {384, 128, 64}, SquadUse::train);
  const SquadWindow& window = windows.all().front();
  EXPECT_EQ(window.ids, (Ints{2, 5, 3, 5, 6, 15, 7, 3}));
  EXPECT_EQ(window.start, 4);
  EXPECT_EQ(window.end, 5);
}

TEST(SquadWindows, CountCharactersNotBytes) {
  const std::string context = "\u00e9\u4e00 a \u202fb\tc";  // two characters, then a, b, c
  const TokenizedContext tokens = tokenize_context(context, letters());
  ASSERT_EQ(tokens.words.size(), 4u);
  EXPECT_EQ(tokens.words[2], "b");
  EXPECT_EQ(tokens.word_of_character, (Ints{0, 0, 0, 1, 1, 1, 2, 2, 3}));
  const SquadData data = one_question(context, "a", {"c", 8});
  const SquadWindows windows(data, letters(), {384, 128, 64}, SquadUse::train);
  const SquadWindow& window = windows.all().front();
  EXPECT_EQ(window.ids[static_cast<size_t>(window.start)], 7);
}

TEST(SquadWindows, CutLongQuestions) {
  const SquadData data = one_question("a b", "c d e f", {"b", 2});
  const SquadWindows windows(data, letters(), {10, 5, 3}, SquadUse::evaluate);
  EXPECT_EQ(windows.cut_questions(), 1);
  EXPECT_EQ(windows.all().front().ids, (Ints{2, 7, 8, 9, 3, 5, 6, 3}));
}

TEST(SquadWindows, RefuseLengthsWithoutRoomForTheText) {
  const SquadData data = one_question("a b", "c", {"b", 2});
  const auto make = [&](WindowOptions options) {
    SquadWindows(data, letters(), options, SquadUse::train);
  };
  EXPECT_THROW(make({67, 128, 64}), UsageError);
  EXPECT_NO_THROW(make({68, 128, 64}));
  EXPECT_THROW(make({384, 0, 64}), UsageError);
  EXPECT_THROW(make({384, 128, 0}), UsageError);
}

TEST(SquadWindows, EqualGooglesOnRealData) {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  const std::string python = variable("MINIBERT_PYTHON"), source = variable("MINIBERT_SOURCE_DIR");
  const fs::path data = fs::path(variable("MINIBERT_SHARED_DATA")) / "qa";
  if (!fs::exists(python) || !fs::exists(data))
    GTEST_SKIP() << "needs tools/install-peers and the data of MINIBERT_SHARED_DATA";
  const std::string vocab = source + "/tests/goldens/tokenizer/bert-base-uncased-vocab.txt";
  const WordPieceTokenizer tokenizer(Vocab::load(vocab), TokenizerOptions{});
  const fs::path out = fs::temp_directory_path() / fmt::format("minibert_windows_{}", ::getpid());
  const std::vector<WindowOptions> settings = {{384, 128, 64}, {96, 32, 12}};
  for (const WindowOptions& options : settings) {
    const std::string file = (data / "squad1.1-train-17articles.json").string();
    const auto ran = testing::run_process(
        {python, source + "/tests/models/text/squad_reference.py", "windows", file, vocab,
         out.string(), "--length", std::to_string(options.max_sequence_length), "--stride",
         std::to_string(options.doc_stride), "--query", std::to_string(options.max_query_length)});
    ASSERT_EQ(ran.exit_code, 0) << ran.err;
    const json expected = json::parse(std::ifstream(out));
    fs::remove(out);
    const SquadData questions = read_squad(file, {});
    const SquadWindows windows(questions, tokenizer, options, SquadUse::train);
    ASSERT_EQ(windows.all().size(), expected.size());
    EXPECT_GT(windows.all().size(), questions.questions.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const SquadWindow& got = windows.all()[i];
      const json& wanted = expected[i];
      ASSERT_EQ(got.question, wanted["question"].get<size_t>());
      ASSERT_EQ(got.ids, wanted["ids"].get<Ints>()) << "window " << i;
      ASSERT_EQ(got.first_segment, wanted["first_segment"].get<int32_t>());
      ASSERT_EQ(got.first_token, wanted["first_token"].get<int32_t>());
      ASSERT_EQ(got.max_context, wanted["max_context"].get<Bools>()) << "window " << i;
      ASSERT_EQ(got.start, wanted["start"].get<int32_t>()) << "window " << i;
      ASSERT_EQ(got.end, wanted["end"].get<int32_t>()) << "window " << i;
    }
  }
}

}  // namespace
}  // namespace minibert
