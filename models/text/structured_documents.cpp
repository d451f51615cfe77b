// structured_documents.cpp: see structured_documents.h.
#include "models/text/structured_documents.h"

#include <string_view>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/nearest_name.h"
#include "core/shell_word.h"
#include "models/text/data_faults.h"
#include "models/text/json_depth.h"
#include "models/text/python_json.h"
#include "models/text/sentence_splitter.h"

namespace minibert {
namespace {

using nlohmann::json;

constexpr std::string_view kBlanks = " \t\r\f\v";

bool blank(std::string_view line) {
  return line.find_first_not_of(kBlanks) == std::string_view::npos;
}

/// Says what is wrong with a paragraph, or nothing.
std::string add_paragraph(std::string_view paragraph, Document& document) {
  const std::vector<std::string_view> sentences = split_sentences(paragraph);
  if (sentences.size() > kMostSentences)
    return fmt::format("a paragraph of more than {} sentences", kMostSentences);
  for (const std::string_view sentence : sentences) document.emplace_back(sentence);
  return "";
}

/// As add_paragraph(). The text is that of one line, so all of its sentences are in memory.
std::string add_text(std::string_view text, Document& document) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string wrong = add_paragraph(text.substr(begin, end - begin), document);
    if (!wrong.empty()) return wrong;
    if (document.size() > kMostSentences)
      return fmt::format("a document of more than {} sentences", kMostSentences);
    begin = end + 1;
  }
  return "";
}

/// `text` without its first line where that is the title.
std::string_view without_title(std::string_view text, std::string_view title) {
  const bool titled = !title.empty() && text.starts_with(title) &&
                      (text.size() == title.size() || text[title.size()] == '\n');
  return titled ? text.substr(title.size()) : text;
}

class Collector {
 public:
  explicit Collector(const std::function<void(Document&&)>& sink) : sink_(sink) {}
  void pass_on(Document&& document) {
    if (document.empty()) {
      ++counts_.empty_documents;
      return;
    }
    ++counts_.documents;
    sink_(std::move(document));
  }
  const DocumentCounts& counts() const { return counts_; }

 private:
  const std::function<void(Document&&)>& sink_;
  DocumentCounts counts_;
};

/// The value of a field: by its name, else by its path; nullptr if there is none.
const json* find_field(const json& object, const std::string& field) {
  if (const auto found = object.find(field); found != object.end()) return &*found;
  const size_t dot = field.find('.');
  if (dot == std::string::npos) return nullptr;
  const auto inner = object.find(field.substr(0, dot));
  if (inner == object.end() || !inner->is_object()) return nullptr;
  return find_field(*inner, field.substr(dot + 1));
}

std::vector<std::string> keys_of(const json& object) {
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  return keys;
}

/// Adds the text of a value; says what is wrong with it, or nothing.
std::string add_value(const json& value, const std::string& field, Document& document) {
  if (value.is_string()) return add_text(value.get_ref<const std::string&>(), document);
  if (!value.is_array()) return fmt::format("\"{}\" is a {}, no string", field, value.type_name());
  for (const json& part : value) {
    if (!part.is_string())
      return fmt::format("\"{}\" holds a {}, no string", field, part.type_name());
    const std::string wrong = add_text(part.get_ref<const std::string&>(), document);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

/// Reads the JSON object of a line; says what is wrong with it, or nothing.
std::string read_object(const std::string& line, const std::string& field, Document& document,
                        std::string_view title_field) {
  if (const std::string excess = json_excess(line); !excess.empty()) return excess;
  const json object = parse_python_json(line);
  if (object.is_discarded()) return fmt::format("no JSON ({})", python_json_fault(line));
  if (!object.is_object()) return fmt::format("a {}, no object", object.type_name());
  const json* value = find_field(object, field);
  if (value == nullptr) {
    const std::vector<std::string> keys = keys_of(object);
    return fmt::format("no field \"{}\" among {}.{}", field, fmt::join(keys, ", "),
                       did_you_mean(field, keys));
  }
  const auto title = object.find(title_field);
  if (title != object.end() && title->is_string() && value->is_string()) {
    return add_text(
        without_title(value->get_ref<const std::string&>(), title->get_ref<const std::string&>()),
        document);
  }
  return add_value(*value, field, document);
}

/// The title="..." of a <doc> line, with its entities decoded.
std::string title_of(std::string_view line) {
  constexpr std::string_view kTitle = "title=\"";
  const size_t begin = line.find(kTitle);
  if (begin == std::string_view::npos) return "";
  const std::string_view rest = line.substr(begin + kTitle.size());
  const size_t end = rest.rfind("\">");
  std::string title(rest.substr(0, end == std::string_view::npos ? rest.find('"') : end));
  constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&quot;", "\""}, {"&lt;", "<"}, {"&gt;", ">"}, {"&amp;", "&"}};
  for (const auto& [entity, character] : kEntities) {
    for (size_t at = title.find(entity); at != std::string::npos; at = title.find(entity, at + 1))
      title.replace(at, entity.size(), character);
  }
  return title;
}

/// A <doc> block that is being read.
struct Block {
  bool open = false, at_start = false;
  std::string title;
  Document document;
};

}  // namespace

DocumentCounts read_wiki_documents(LineReader& lines, const std::function<void(Document&&)>& sink) {
  Collector collector(sink);
  DataFaults faults;
  Block block;
  const auto close = [&] {
    if (block.open) collector.pass_on(std::move(block.document));
    block = {};
  };
  const auto fault = [&](const std::string& what) {
    faults.add(fmt::format("line {}: {}", lines.stats().lines, what));
  };
  for (std::string line; lines.next(line);) {
    if (line.starts_with("<doc ") || line == "<doc>") {
      close();  // WikiExtractor always writes </doc>, but files are cut and joined
      block = {true, true, title_of(line), {}};
    } else if (line.starts_with("</doc>")) {
      if (!block.open) fault("</doc> without <doc ...>");
      close();
    } else if (blank(line)) {
      continue;
    } else if (block.open) {
      const bool is_title = block.at_start && line == block.title;
      const std::string wrong = is_title ? "" : add_paragraph(line, block.document);
      if (!wrong.empty()) fault(wrong);
      block.at_start = false;
    } else if (line.starts_with('{')) {
      Document document;
      const std::string wrong = read_object(line, "text", document, "title");
      if (wrong.empty()) {
        collector.pass_on(std::move(document));
      } else {
        fault(wrong);
      }
    } else {
      fault("text outside of <doc ...> and </doc>");
    }
  }
  close();
  faults.check(
      lines.stats().path, "lines are not as WikiExtractor writes them",
      "Give its output, <doc ...> blocks or --json, or another --format: lines, paragraphs "
      "or jsonl.");
  return collector.counts();
}

void refuse_json_list(std::string_view first_line, const std::string& path) {
  const size_t first = first_line.find_first_not_of(kBlanks);
  const bool list = first != std::string_view::npos && first_line[first] == '[';
  MB_CHECK_AS(DataError, !list,
              "{}: is a JSON list, expected JSON lines, an object a line. Convert it: python3 -c "
              "\"import json, sys; [print(json.dumps(row)) for row in json.load(open(sys.argv[1], "
              "encoding='utf-8'))]\" {} > lines.jsonl",
              path, path == "-" ? "FILE" : shell_word(path));
}

DocumentCounts read_json_documents(LineReader& lines, const std::string& field,
                                   const std::function<void(Document&&)>& sink) {
  Collector collector(sink);
  DataFaults faults;
  for (std::string line; lines.next(line);) {
    if (blank(line)) continue;
    if (lines.stats().lines == 1) refuse_json_list(line, lines.stats().path);
    Document document;
    const std::string wrong = read_object(line, field, document, {});
    if (wrong.empty()) {
      collector.pass_on(std::move(document));
    } else {
      faults.add(fmt::format("line {}: {}", lines.stats().lines, wrong));
    }
  }
  faults.check(
      lines.stats().path, "lines are not JSON objects with text",
      fmt::format("Expected an object a line with a string \"{}\". Name the field: --field "
                  "NAME, or mend or remove these lines.",
                  field));
  return collector.counts();
}

}  // namespace minibert
