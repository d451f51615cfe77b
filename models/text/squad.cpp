// squad.cpp: JSON to questions, and what can be wrong with it.
#include "models/text/squad.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/data_faults.h"
#include "models/text/json_depth.h"
#include "models/text/json_numbers.h"
#include "models/text/python_json.h"
#include "models/text/text_reader.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kWithoutImpossible =
    "Leave them out: python3 -c \"import json; d = json.load(open('IN', encoding='utf-8')); "
    "[p.update(qas=[q for q in p['qas'] if not q.get('is_impossible')]) for a in d['data'] for p "
    "in "
    "a['paragraphs']]; json.dump(d, open('OUT', 'w', encoding='utf-8'))\"";

std::string text_of(const fs::path& file, const char* expected) {
  std::string text;
  LineReader lines(file.string());
  for (std::string line; lines.next(line);) text += line + "\n";
  MB_CHECK_AS(DataError, lines.stats().invalid_bytes == 0,
              "{}: line {} is not UTF-8, expected {}.{}", file.string(),
              lines.stats().first_invalid_line, expected, conversion_hint(lines.stats()));
  MB_CHECK_AS(DataError, lines.stats().seven_bit.empty(), "{}: is {}, expected UTF-8.{}",
              file.string(), lines.stats().seven_bit, conversion_hint(lines.stats()));
  return text;
}

json parse_file(const fs::path& file, const std::string& text, const char* expected) {
  check_json_depth(text, file.string());
  json value = parse_python_json(text);
  MB_CHECK_AS(DataError, !value.is_discarded(),
              "{}: is not JSON, expected {} ({}). Fetch or copy it again", file.string(), expected,
              python_json_fault(text));
  return value;
}

/// A row of JSON lines; is_discarded() if it is none.
json parse_row(std::string_view line) {
  return json_excess(line).empty() ? parse_python_json(line) : json(json::value_t::discarded);
}

/// Whether a value is a question with its context, as Hugging Face's `datasets` has them.
bool is_row(const json& value) {
  return value.is_object() && value.contains("question") && value.contains("context");
}

/// Byte of the character `number` of a valid UTF-8 text; npos where there are fewer.
size_t byte_of_character(std::string_view text, int64_t number) {
  size_t at = 0;
  for (; number > 0 && at < text.size(); --number) at += decode_utf8(text, at).length;
  return number == 0 ? at : std::string_view::npos;
}

/// Walks the tree and gathers questions and faults.
class Reader {
 public:
  Reader(SquadData& data, const SquadReading& reading) : data_(data), reading_(reading) {}

  void read(const json& root) {
    if (root.is_array() && !root.empty() && is_row(root[0])) {  // pandas' orient="records"
      for (size_t i = 0; i < root.size(); ++i) read_row(root[i], fmt::format("[{}]", i));
      return;
    }
    for_each(root, "data", "", [&](const json& article, const std::string& in) {
      if (is_row(article)) return read_row(article, in);
      for_each(article, "paragraphs", in + ".", [&](const json& paragraph, const std::string& at) {
        read_paragraph(paragraph, at);
      });
    });
  }

  /// JSON lines, a row each.
  void read_lines(std::string_view text) {
    for (int64_t number = 1; !text.empty(); ++number) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(line.size() + 1, text.size()));
      if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
      const json row = parse_row(line);
      const std::string at = fmt::format("line {}", number);
      row.is_object() ? read_row(row, at) : shape_.add(at + " is no JSON object");
    }
  }

  void report() {
    const std::string& file = data_.file;
    shape_.check(file, "places do not have the form of SQuAD 1.1",
                 "Expected data[].paragraphs[] with a \"context\" and qas[] with \"id\", "
                 "\"question\" and answers[] of \"text\" and \"answer_start\", or rows of \"id\", "
                 "\"context\", \"question\" and \"answers\" with the lists \"text\" and "
                 "\"answer_start\" (Hugging Face's datasets), in a list or a row a line");
    impossible_.check(file,
                      "questions cannot be answered (is_impossible: this is SQuAD 2.0), "
                      "expected SQuAD 1.1",
                      kWithoutImpossible);
    twice_.check(file, "ids occur more than once, expected one question for each",
                 "Rename or remove the later ones");
    unanswered_.check(file, "questions have no answer, expected at least one",
                      "Add answers, or remove the questions");
    constexpr const char* kElsewhere =
        "answers are not where answer_start says (characters of the context before the answer, "
        "from "
        "0)";
    if (reading_.skip_bad_answers && elsewhere_.count() > 0) {
      data_.notes.push_back(elsewhere_.text(file, kElsewhere, "These questions are left out"));
    } else {
      elsewhere_.check(
          file, kElsewhere,
          "Correct answer_start, or leave these questions out with --skip-bad-answers");
    }
    MB_CHECK_AS(DataError, !data_.questions.empty(),
                "{}: holds no questions, expected data[].paragraphs[].qas[] of SQuAD 1.1", file);
  }

 private:
  template <typename Use>
  void for_each(const json& parent, const char* key, const std::string& in, const Use& use) {
    const json* list = member(parent, key, in, json::value_t::array, "a list");
    if (!list) return;
    for (size_t i = 0; i < list->size(); ++i) use((*list)[i], fmt::format("{}{}[{}]", in, key, i));
  }

  const json* member(const json& parent, const char* key, const std::string& in, json::value_t type,
                     const char* what) {
    const auto found = parent.is_object() ? parent.find(key) : parent.end();
    const bool there = parent.is_object() && found != parent.end();
    if (there && found->type() == type) return &*found;
    shape_.add(fmt::format("{}{} is {}, expected {}", in, key,
                           there ? std::string(found->type_name()) : "missing", what));
    return nullptr;
  }

  /// Rows of one context stand together, and share it.
  void read_row(const json& row, const std::string& at) {
    const json* context = member(row, "context", at + ".", json::value_t::string, "text");
    if (!context) return;
    const auto& text = context->get_ref<const std::string&>();
    if (data_.contexts.empty() || data_.contexts.back() != text) data_.contexts.push_back(text);
    json question = row;
    question.erase("context");
    const auto answers = row.find("answers");
    if (answers != row.end() && answers->is_object()) {
      question["answers"] = answers_of(*answers, at + ".answers");
      if (question["answers"].is_null()) return;
    }
    read_question(question, at);
  }

  /// {"text": [...], "answer_start": [...]} as a list of answers; null, and a fault, if it is not that.
  json answers_of(const json& lists, const std::string& at) {
    json answers = json::array();
    const json* texts = member(lists, "text", at + ".", json::value_t::array, "a list");
    if (!texts) return nullptr;
    const json starts = lists.value("answer_start", json::array());
    for (size_t i = 0; i < texts->size(); ++i) {
      json& answer = answers.emplace_back(json{{"text", (*texts)[i]}});
      if (starts.is_array() && i < starts.size()) answer["answer_start"] = starts[i];
    }
    return answers;
  }

  void read_paragraph(const json& paragraph, const std::string& at) {
    const json* context = member(paragraph, "context", at + ".", json::value_t::string, "text");
    if (!context) return;
    data_.contexts.push_back(context->get<std::string>());
    for_each(paragraph, "qas", at + ".",
             [&](const json& qa, const std::string& place) { read_question(qa, place); });
  }

  void read_question(const json& qa, const std::string& at) {
    const json* id = member(qa, "id", at + ".", json::value_t::string, "text");
    const json* text = member(qa, "question", at + ".", json::value_t::string, "text");
    if (!id || !text) return;
    SquadQuestion question{
        id->get<std::string>(), text->get<std::string>(), data_.contexts.size() - 1, {}};
    const std::string place = fmt::format("{} (id {})", at, question.id);
    const auto impossible = qa.find("is_impossible");
    if (impossible != qa.end() && *impossible == true) return impossible_.add(place);
    if (!ids_.insert(question.id).second) return twice_.add(place);
    for_each(qa, "answers", at + ".", [&](const json& answer, const std::string& in) {
      const json* words = member(answer, "text", in + ".", json::value_t::string, "text");
      const auto start = answer.is_object() ? answer.find("answer_start") : answer.end();
      const std::optional<int64_t> number = answer.is_object() && start != answer.end()
                                                ? whole_number<int64_t>(*start)
                                                : std::nullopt;
      if (!number && reading_.use == SquadUse::train)
        shape_.add(fmt::format("{}.answer_start is missing or no whole number", in));
      if (words) question.answers.push_back({words->get<std::string>(), number.value_or(-1)});
    });
    if (question.answers.empty()) {
      if (qa.contains("answers") && qa["answers"].is_array()) unanswered_.add(place);
      return;
    }
    if (reading_.use == SquadUse::train && !stands(question, place)) return;
    data_.questions.push_back(std::move(question));
  }

  /// Whether the first answer stands where it says.
  bool stands(const SquadQuestion& question, const std::string& place) {
    const SquadAnswer& answer = question.answers.front();
    const std::string& context = data_.contexts[question.context];
    const size_t at =
        answer.start < 0 ? std::string::npos : byte_of_character(context, answer.start);
    const bool there = at != std::string::npos && !answer.text.empty() &&
                       std::string_view(context).substr(at).starts_with(answer.text);
    if (there) return true;
    const size_t elsewhere = answer.text.empty() ? std::string::npos : context.find(answer.text);
    elsewhere_.add(fmt::format(
        "{}: answer_start is {}, {}", place, answer.start,
        answer.text.empty() ? "but the answer has no text"
        : elsewhere == std::string::npos
            ? fmt::format("but the context does not have \"{}\"", answer.text)
            : fmt::format("expected {}, where the context has \"{}\"",
                          count_characters(std::string_view(context).substr(0, elsewhere)),
                          answer.text)));
    return false;
  }

  SquadData& data_;
  const SquadReading& reading_;
  std::set<std::string> ids_;
  DataFaults shape_, impossible_, twice_, unanswered_, elsewhere_;
};

}  // namespace

SquadData read_squad(const fs::path& file, const SquadReading& reading) {
  SquadData data;
  data.file = file.string();
  Reader reader(data, reading);
  constexpr const char* kExpected = "a file of SQuAD 1.1";
  const std::string text = text_of(file, kExpected);
  const std::string_view first = std::string_view(text).substr(0, text.find('\n'));
  const bool whole = first.find("\"paragraphs\"") != std::string_view::npos;  // not parsed twice
  !whole&& is_row(parse_row(first)) ? reader.read_lines(text)
                                    : reader.read(parse_file(file, text, kExpected));
  reader.report();
  return data;
}

SquadPredictions read_predictions(const fs::path& file) {
  constexpr const char* kExpected = "predictions, {\"ID\": \"answer\", ...}";
  const json root = parse_file(file, text_of(file, kExpected), kExpected);
  MB_CHECK_AS(DataError, root.is_object(),
              "{}: is a JSON {}, expected predictions: {{\"ID\": \"answer\", ...}}", file.string(),
              root.type_name());
  SquadPredictions predictions;
  for (const auto& [id, answer] : root.items()) {
    MB_CHECK_AS(DataError, answer.is_string(),
                "{}: the prediction of {} is {}, expected text. An empty answer is \"\"",
                file.string(), id, answer.dump());
    predictions[id] = answer.get<std::string>();
  }
  return predictions;
}

}  // namespace minibert
