// labelled_text.cpp: rows of CSV and TSV, lines of JSON.
#include "models/text/labelled_text.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/text/data_faults.h"
#include "models/text/json_depth.h"
#include "models/text/text_reader.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;

enum class Form { csv, tsv, jsonl };

Form form_of(fs::path file) {
  const std::string name = file.string();
  if (file.extension() == ".gz" || file.extension() == ".zst") file.replace_extension();
  const std::string ending = file.extension().string();
  if (ending == ".csv") return Form::csv;
  if (ending == ".tsv") return Form::tsv;
  MB_CHECK_AS(
      DataError, ending == ".jsonl" || ending == ".json",
      "{}: has the ending \"{}\", expected .csv, .tsv or .jsonl (which say how to read it). "
      "Rename it",
      name, ending);
  return Form::jsonl;
}

/// One row of fields a call, over as many lines as its quotes say.
class Rows {
 public:
  Rows(const fs::path& file, char separator)
      : name_(file.string()), lines_(file.string()), separator_(separator) {}

  /// False at the end. Blank lines are no rows.
  bool next(std::vector<std::string>& fields) {
    std::string line;
    do {
      if (!lines_.next(line)) return false;
    } while (line.empty());
    line_ = lines_.stats().lines;
    fields.assign(1, "");
    size_t at = 0;
    while (at < line.size()) {
      const bool opens = line[at] == '"' && fields.back().empty() && !quoted_;
      if (opens) {
        at = take_quoted(line, at + 1, fields.back());
        quoted_ = true;
      } else if (line[at] == separator_) {
        fields.emplace_back();
        quoted_ = false;
        ++at;
      } else {
        fields.back() += line[at++];
      }
    }
    quoted_ = false;
    return true;
  }
  int64_t line() const { return line_; }  // where the row begins

 private:
  /// Appends what stands between quotes, from `at` on; returns the place behind the closing one. May
  /// read more lines.
  size_t take_quoted(std::string& line, size_t at, std::string& field) {
    while (true) {
      const size_t quote = line.find('"', at);
      field.append(line, at, quote - at);
      if (quote == std::string::npos) {
        field += '\n';
        MB_CHECK_AS(DataError, lines_.next(line),
                    "{}: line {}: a field begins with \" that is never closed. Close it; a quote "
                    "inside a field is written twice (\"\")",
                    name_, line_);
        at = 0;
        continue;
      }
      if (quote + 1 >= line.size() || line[quote + 1] != '"') return quote + 1;
      field += '"';
      at = quote + 2;
    }
  }

  std::string name_;
  LineReader lines_;
  char separator_;
  int64_t line_ = 0;
  bool quoted_ = false;
};

size_t column_of(const std::string& file, const std::vector<std::string>& header,
                 const std::string& name, const char* flag) {
  const auto found = std::ranges::find(header, name);
  MB_CHECK_AS(DataError, found != header.end(),
              "{}: has no column \"{}\"; line 1 names {}. Say which it is: {} NAME", file, name,
              fmt::join(header, ", "), flag);
  return static_cast<size_t>(found - header.begin());
}

/// Adds a text, or its fault.
void add(LabelledText text, std::vector<LabelledText>& texts, DataFaults& faults) {
  const auto blank = [](const std::string& s) {
    return s.find_first_not_of(" \t\r\n") == std::string::npos;
  };
  if (blank(text.text)) return faults.add(fmt::format("line {}: the text is empty", text.line));
  if (blank(text.label)) return faults.add(fmt::format("line {}: the label is empty", text.line));
  texts.push_back(std::move(text));
}

void read_rows(const fs::path& file, char separator, const LabelledTextOptions& options,
               std::vector<LabelledText>& texts, DataFaults& faults) {
  Rows rows(file, separator);
  std::vector<std::string> header, fields;
  MB_CHECK_AS(DataError, rows.next(header), "{}: holds no rows", file.string());
  const size_t text = column_of(file.string(), header, options.text_column, "--text-column");
  const size_t label = column_of(file.string(), header, options.label_column, "--label-column");
  while (rows.next(fields)) {
    if (fields.size() == header.size()) {
      add({fields[text], fields[label], rows.line()}, texts, faults);
      continue;
    }
    faults.add(fmt::format("line {}: {} fields, expected {} as in line 1", rows.line(),
                           fields.size(), header.size()));
  }
}

/// Text of a string, or of a number as it is written.
std::optional<std::string> text_of(const nlohmann::json& object, const std::string& key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || found == object.end()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer() || found->is_boolean()) return found->dump();
  return std::nullopt;
}

void read_json_lines(const fs::path& file, const LabelledTextOptions& options,
                     std::vector<LabelledText>& texts, DataFaults& faults) {
  LineReader lines(file.string());
  for (std::string line; lines.next(line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const int64_t number = lines.stats().lines;
    const auto object = parse_json(line);
    const auto text = text_of(object, options.text_column);
    const auto label = text_of(object, options.label_column);
    if (text && label) {
      add({*text, *label, number}, texts, faults);
      continue;
    }
    faults.add(
        object.is_object()
            ? fmt::format("line {}: has no text under \"{}\" (--{}-column names another key)",
                          number, text ? options.label_column : options.text_column,
                          text ? "label" : "text")
            : fmt::format("line {}: is no JSON object", number));
  }
}

bool is_number(const std::string& label) {
  const bool digits = std::ranges::all_of(label, [](char c) { return c >= '0' && c <= '9'; });
  return digits && label.size() < 10 && (label == "0" || label.front() != '0');
}

}  // namespace

std::vector<LabelledText> read_labelled_texts(const fs::path& file,
                                              const LabelledTextOptions& options) {
  std::vector<LabelledText> texts;
  DataFaults faults;
  const Form form = form_of(file);
  if (form == Form::jsonl) {
    read_json_lines(file, options, texts, faults);
  } else {
    read_rows(file, form == Form::csv ? ',' : '\t', options, texts, faults);
  }
  faults.check(file.string(), "lines cannot be used",
               "Expected a text and a label in each. Mend or remove them");
  MB_CHECK_AS(DataError, !texts.empty(), "{}: holds no texts, expected at least one with its label",
              file.string());
  return texts;
}

std::vector<std::string> labels_of(const std::vector<LabelledText>& texts) {
  std::set<std::string> distinct;
  for (const LabelledText& text : texts) distinct.insert(text.label);
  std::vector<std::string> labels(distinct.begin(), distinct.end());
  if (std::ranges::all_of(labels, is_number))
    std::ranges::sort(labels, {}, [](const std::string& label) { return std::stol(label); });
  return labels;
}

std::vector<int32_t> label_numbers(const std::vector<LabelledText>& texts,
                                   const std::vector<std::string>& labels, const std::string& file,
                                   const std::string& labels_from) {
  std::map<std::string, int32_t> number_of;
  for (const std::string& label : labels) number_of.emplace(label, std::ssize(number_of));
  std::vector<int32_t> numbers;
  DataFaults unknown;
  for (const LabelledText& text : texts) {
    const auto found = number_of.find(text.label);
    if (found == number_of.end())
      unknown.add(fmt::format("line {}: \"{}\".{}", text.line, text.label,
                              did_you_mean(text.label, labels)));
    numbers.push_back(found == number_of.end() ? -1 : found->second);
  }
  unknown.check(
      file, "labels are unknown",
      fmt::format("Expected one of the {} labels of {}. Correct them, or train with a file "
                  "that has them",
                  labels.size(), labels_from));
  return numbers;
}

}  // namespace minibert
