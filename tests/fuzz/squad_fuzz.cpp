// squad_fuzz.cpp: a file of questions and one of predictions. Parts of an input: both.
// Readers: models/text/squad.h, squad_windows.h, squad_metrics.h.
#include "models/text/squad.h"
#include "models/text/squad_metrics.h"
#include "models/text/squad_windows.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {

void fuzz(std::string_view input) {
  static const WordPieceTokenizer tokenizer(
      Vocab::from_tokens({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "c"},
                         "the target's vocabulary"),
      {});
  const auto parts = parts_of(input, 2);
  const auto questions = write("questions.json", parts[0]),
             answers = write("answers.json", parts[1]);
  SquadPredictions predictions;
  succeeds([&] { predictions = read_predictions(answers); });
  for (const bool skip : {false, true}) {
    for (const SquadUse use : {SquadUse::train, SquadUse::evaluate}) {
      succeeds([&] {
        const SquadData data = read_squad(questions, {use, skip});
        to_json(score_squad(data, predictions));
        const SquadWindows windows(data, tokenizer, {12, 3, 4}, use);
        for (const SquadWindow& window : windows.all())
          claim(window.ids.size() <= 12 && window.end < std::ssize(window.ids),
                "a window is whole");
      });
    }
  }
}

std::vector<std::string> seeds() {
  const std::string data =
      R"({"version":"1.1","data":[{"title":"t","paragraphs":[{"context":"a c \u00e4b the a.","qas":[{"id":"1",)"
      R"("question":"ab c?","answers":[{"text":"c","answer_start":2},{"text":"\u00e4b","answer_start":4}]},)"
      R"({"id":"2","question":"c","answers":[{"text":"the a","answer_start":7}]}]}]}]})";
  const std::string row =
      R"({"id":"1","context":"a c the a.","question":"ab c?","answers":{"text":["c","the a"],"answer_start":[2,4]}})";
  return {joined({row + "\n" + row, "{}"}), joined({"[" + row + "]", "{}"}),
          joined({data, R"({"1":"c","2":"The A."})"}), joined({data, "{}"}),
          joined({deep_json("data"), deep_json("1")})};
}

}  // namespace minibert::fuzz
