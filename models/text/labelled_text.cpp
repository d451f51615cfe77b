// labelled_text.cpp: rows of CSV and TSV, lines of JSON.
#include "models/text/labelled_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <set>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/nearest_name.h"
#include "core/shell_word.h"
#include "models/text/data_faults.h"
#include "models/text/json_depth.h"
#include "models/text/python_json.h"
#include "models/text/structured_documents.h"
#include "models/text/text_reader.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;

enum class Form { csv, tsv, jsonl };

Form form_of(fs::path file) {
  const std::string name = file.string();
  if (file.extension() == ".gz" || file.extension() == ".zst") file.replace_extension();
  const std::string ending = in_small_letters(file.extension().string());
  if (ending == ".csv") return Form::csv;
  if (ending == ".tsv") return Form::tsv;
  MB_CHECK_AS(
      DataError, ending == ".jsonl" || ending == ".json",
      "{}: has the ending \"{}\", expected .csv, .tsv or .jsonl (which say how to read it). "
      "Rename it",
      name, ending);
  return Form::jsonl;
}

bool blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

std::string trimmed(const std::string& text) {
  if (blank(text)) return "";
  const size_t first = text.find_first_not_of(" \t\r\n");
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// The lines of a file, of which some may be looked at before they are taken.
class Lines {
 public:
  explicit Lines(const std::string& path) : reader_(path) {}

  bool next(std::string& line) {
    if (!peek(0, line)) return false;
    ahead_.pop_front();
    ++number_;
    return true;
  }
  /// The line `n` lines behind the one that next() gives.
  bool peek(size_t n, std::string& line) {
    while (ahead_.size() <= n) {
      std::string read;
      if (!reader_.next(read)) return false;
      ahead_.push_back(std::move(read));
    }
    line = ahead_[n];
    return true;
  }
  int64_t number() const { return number_; }  // of the line that next() gave, from 1
  const SourceStats& stats() const { return reader_.stats(); }

 private:
  LineReader reader_;
  std::deque<std::string> ahead_;
  int64_t number_ = 0;
};

/// What separates the fields, as the first line shows it: German and French Excel write CSV with
/// semicolons, and may name the separator in a line of its own ("sep=;").
char separator_of(Lines& lines, char expected) {
  std::string first;
  if (!lines.peek(0, first)) return expected;
  constexpr std::string_view kNaming = "sep=";
  if (first.size() == kNaming.size() + 1 && first.starts_with(kNaming)) {
    lines.next(first);
    return first.back();
  }
  for (const char separator : {expected, ';', '\t', ','})
    if (first.find(separator) != std::string::npos) return separator;
  return expected;
}

/// One row of fields a call, over as many lines as its quotes say.
class Rows {
 public:
  Rows(const fs::path& file, char separator)
      : name_(file.string()), lines_(file.string()), separator_(separator_of(lines_, separator)) {}

  /// False at the end. Blank lines are no rows.
  bool next(std::vector<std::string>& fields) {
    std::string line;
    do {
      if (!lines_.next(line)) return false;
    } while (line.empty());
    line_ = lines_.number();
    fields.assign(1, "");
    size_t at = 0;
    while (at < line.size()) {
      const bool opens = line[at] == '"' && fields.back().empty() && !quoted_;
      if (opens && is_quote(line, at + 1)) {
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
  char separator() const { return separator_; }
  const SourceStats& stats() const { return lines_.stats(); }

 private:
  /// Where the quotes that are open at `at` close in this line; npos: not in it.
  static size_t closing(std::string_view line, size_t at) {
    for (size_t quote = at; (quote = line.find('"', quote)) != std::string_view::npos; quote += 2)
      if (quote + 1 >= line.size() || line[quote + 1] != '"') return quote;
    return std::string_view::npos;
  }
  bool ends_field(std::string_view line, size_t quote) const {
    return quote + 1 == line.size() || line[quote + 1] == separator_;
  }

  /// Whether the quote before `at` begins a quoted field. In files with tabs a quote is mostly a
  /// character of the text (GLUE): it quotes only if its partner ends the field, before the next tab.
  bool is_quote(const std::string& line, size_t at) {
    if (separator_ != '\t') return true;
    std::string later = line;
    for (size_t ahead = 0;; ++ahead) {
      const size_t quote = closing(later, at);
      if (later.find('\t', at) < quote) return false;
      if (quote != std::string::npos) return ends_field(later, quote);
      if (!lines_.peek(ahead, later)) return false;
      at = 0;
    }
  }

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
      if (quote + 1 >= line.size() || line[quote + 1] != '"') {
        MB_CHECK_AS(
            DataError, lines_.number() == line_ || ends_field(line, quote),
            "{}: line {}: a field begins with \" and goes on to line {}, where text follows "
            "the closing \": a quote is left out, or is part of the text. Close the field "
            "in its line; a quote inside a field is written twice (\"\")",
            name_, line_, lines_.number());
        return quote + 1;
      }
      field += '"';
      at = quote + 2;
    }
  }

  std::string name_;
  Lines lines_;
  char separator_;
  int64_t line_ = 0;
  bool quoted_ = false;
};

/// Names of the two texts of a pair: GLUE's files, SNLI, and those of `datasets`.
constexpr std::pair<const char*, const char*> kPairs[] = {
    {"sentence1", "sentence2"}, {"premise", "hypothesis"}, {"question1", "question2"},
    {"question", "sentence"},   {"text_a", "text_b"},      {"text1", "text2"},
    {"#1 String", "#2 String"},
};

/// What to do with a file of pairs of texts, if the names of its columns say that it is one; else "".
std::string advice_on_pairs(const std::vector<std::string>& names) {
  const auto has = [&](const char* name) { return std::ranges::find(names, name) != names.end(); };
  for (const auto& [first, second] : kPairs)
    if (has(first) && has(second))
      return fmt::format(
          " \"{}\" and \"{}\" are the two texts of a pair, and one text a row is read: put both "
          "into one column, or name the one that is to be read.",
          first, second);
  return "";
}

/// A note if `read` is one of a pair's two texts, of which the other is not read; else "".
std::string note_on_partner(const std::string& file, const std::vector<std::string>& names,
                            const std::string& read) {
  for (const auto& [first, second] : kPairs)
    for (const auto& [one, other] : {std::pair(first, second), std::pair(second, first)})
      if (read == one && std::ranges::find(names, other) != names.end())
        return fmt::format(
            "{}: \"{}\" is not read: a row has one text, here \"{}\". Where the label is about "
            "both, put them into one column",
            file, other, one);
  return "";
}

/// Whether the first line seems to be a row: names of columns are no numbers and have no three words.
bool looks_like_a_row(const std::vector<std::string>& fields) {
  return std::ranges::any_of(fields, [](const std::string& field) {
    const bool number = field.find_first_not_of("0123456789.-") == std::string::npos;
    return number || std::ranges::count(field, ' ') >= 2;
  });
}

/// How to put a line of names above the rows of a file that lacks one; "" if it has one.
std::string advice_on_names(const std::string& file, const std::vector<std::string>& fields,
                            char separator) {
  if (fields.size() < 2 || !looks_like_a_row(fields)) return "";
  std::string names;
  for (size_t i = 1; i <= fields.size(); ++i) {
    if (i > 1) names += separator == '\t' ? "\\t" : std::string(1, separator);
    names += fmt::format("column{}", i);
  }
  const fs::path path(file);
  const bool packed = path.extension() == ".gz" || path.extension() == ".zst";
  const char* reader = path.extension() == ".gz" ? "zcat" : packed ? "zstdcat" : "cat";
  return fmt::format(" If it is a row, put names above the rows: {} {} | sed '1i {}' > named{}",
                     reader, shell_word(file), names, separator == '\t' ? ".tsv" : ".csv");
}

size_t column_of(const std::string& file, const std::vector<std::string>& header,
                 const std::string& name, const char* flag, char separator) {
  std::vector<std::string> names;
  for (const std::string& column : header) names.push_back(trimmed(column));
  const auto found = std::ranges::find(names, trimmed(name));
  const bool old_mac = std::ranges::any_of(
      header, [](const std::string& column) { return column.find('\r') != std::string::npos; });
  MB_CHECK_AS(DataError, !old_mac || found != names.end(),
              "{}: its lines end with carriage returns alone, as on an old Macintosh. Convert it: "
              "tr '\\r' '\\n' < {} > clean.csv",
              file, shell_word(file));
  MB_CHECK_AS(DataError, found != names.end(),
              "{}: has no column \"{}\"; line 1 names {}.{}{} Say which it is: {} NAME.{}", file,
              name, fmt::join(names, ", "), did_you_mean(name, names), advice_on_pairs(names), flag,
              advice_on_names(file, names, separator));
  MB_CHECK_AS(DataError, std::ranges::count(names, *found) == 1,
              "{}: line 1 names \"{}\" {} times, expected once. Rename the other columns", file,
              *found, std::ranges::count(names, *found));
  return static_cast<size_t>(found - names.begin());
}

/// Errors: DataError if bytes of the file are no text: two labels could become the same one.
void check_encoding(const SourceStats& stats) {
  MB_CHECK_AS(DataError, stats.invalid_bytes == 0,
              "{}: line {} {}, expected UTF-8 in a file of labels.{}", stats.path,
              stats.first_invalid_line, stats.zero_bytes > 0 ? "holds a zero byte" : "is not UTF-8",
              conversion_hint(stats));
  MB_CHECK_AS(DataError, stats.seven_bit.empty(),
              "{}: is {}, expected UTF-8 in a file of labels.{}", stats.path, stats.seven_bit,
              conversion_hint(stats));
}

/// Adds a text, or its fault.
void add(LabelledText text, std::vector<LabelledText>& texts, DataFaults& faults) {
  if (blank(text.text)) return faults.add(fmt::format("line {}: the text is empty", text.line));
  if (blank(text.label)) return faults.add(fmt::format("line {}: the label is empty", text.line));
  texts.push_back(std::move(text));
}

void read_rows(const fs::path& file, char separator, const LabelledTextOptions& options,
               std::vector<LabelledText>& texts, DataFaults& faults, std::string& note) {
  MB_CHECK(options.text_column != options.label_column,
           "--text-column and --label-column are both \"{}\", expected two columns. Name the other "
           "one",
           options.text_column);
  Rows rows(file, separator);
  std::vector<std::string> header, fields;
  MB_CHECK_AS(DataError, rows.next(header), "{}: holds no rows", file.string());
  const size_t text =
      column_of(file.string(), header, options.text_column, "--text-column", rows.separator());
  const size_t label =
      column_of(file.string(), header, options.label_column, "--label-column", rows.separator());
  for (std::string& name : header) name = trimmed(name);
  note = note_on_partner(file.string(), header, header[text]);
  while (rows.next(fields)) {
    if (fields.size() == header.size()) {
      add({fields[text], fields[label], rows.line()}, texts, faults);
      continue;
    }
    faults.add(fmt::format("line {}: {} fields, expected {} as in line 1", rows.line(),
                           fields.size(), header.size()));
  }
  check_encoding(rows.stats());
}

std::vector<std::string> keys_of(const nlohmann::json& object) {
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  return keys;
}

/// Text of a string, or of a number as it is written; nothing, and what is wrong, of other values.
std::optional<std::string> text_of(const nlohmann::json& object, const std::string& key,
                                   const char* flag, std::string& wrong) {
  const auto found = object.find(key);
  if (found == object.end()) {
    const std::vector<std::string> keys = keys_of(object);
    wrong = fmt::format("has no text under \"{}\" ({} names another key).{}{}", key, flag,
                        did_you_mean(key, keys), advice_on_pairs(keys));
    return std::nullopt;
  }
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number() || found->is_boolean()) return found->dump();
  wrong = fmt::format("\"{}\" is {}, expected one text", key, found->type_name());
  return std::nullopt;
}

/// The object of a line, or what is wrong with it.
std::string read_json_object(const std::string& line, nlohmann::json& object) {
  if (const std::string excess = json_excess(line); !excess.empty()) return excess;
  object = parse_python_json(line);
  if (object.is_discarded()) return fmt::format("is no JSON object ({})", python_json_fault(line));
  return object.is_object() ? ""
                            : fmt::format("is a JSON {}, expected an object", object.type_name());
}

void read_json_lines(const fs::path& file, const LabelledTextOptions& options,
                     std::vector<LabelledText>& texts, DataFaults& faults, std::string& note) {
  LineReader lines(file.string());
  for (std::string line; lines.next(line);) {
    if (blank(line)) continue;
    const int64_t number = lines.stats().lines;
    if (number == 1) refuse_json_list(line, file.string());
    nlohmann::json object;
    std::string wrong = read_json_object(line, object);
    if (!wrong.empty()) {
      faults.add(fmt::format("line {}: {}", number, wrong));
      continue;
    }
    if (note.empty()) note = note_on_partner(file.string(), keys_of(object), options.text_column);
    const auto text = text_of(object, options.text_column, "--text-column", wrong);
    const auto label = text ? text_of(object, options.label_column, "--label-column", wrong)
                            : std::optional<std::string>();
    if (text && label) {
      add({*text, *label, number}, texts, faults);
    } else {
      faults.add(fmt::format("line {}: {}", number, wrong));
    }
  }
  check_encoding(lines.stats());
}

bool is_number(const std::string& label) {
  const bool digits = std::ranges::all_of(label, [](char c) { return c >= '0' && c <= '9'; });
  return digits && label.size() < 10 && (label == "0" || label.front() != '0');
}

}  // namespace

std::vector<LabelledText> read_labelled_texts(const fs::path& file,
                                              const LabelledTextOptions& options,
                                              std::vector<std::string>* notes) {
  std::vector<LabelledText> texts;
  std::string note;
  DataFaults faults;
  const Form form = form_of(file);
  if (form == Form::jsonl) {
    read_json_lines(file, options, texts, faults, note);
  } else {
    read_rows(file, form == Form::csv ? ',' : '\t', options, texts, faults, note);
  }
  faults.check(file.string(), "lines cannot be used",
               "Expected a text and a label in each. Mend or remove them");
  MB_CHECK_AS(DataError, !texts.empty(), "{}: holds no texts, expected at least one with its label",
              file.string());
  if (notes != nullptr && !note.empty()) notes->push_back(std::move(note));
  return texts;
}

namespace {

/// The spellings of each label: those that differ only in blanks and capitals are one.
std::map<std::string, std::set<std::string>> alike(const std::vector<LabelledText>& texts) {
  std::map<std::string, std::set<std::string>> spellings;
  for (const LabelledText& text : texts)
    spellings[in_small_letters(trimmed(text.label))].insert(text.label);
  return spellings;
}

/// Spellings by which pandas, and what writes tables for it, marks that a value is missing.
constexpr std::array<std::string_view, 10> kMissing = {"nan", "NaN",  "null", "NULL", "None",
                                                       "NA",  "<NA>", "N/A",  "n/a",  "#N/A"};

/// Whether each label is a number and one has a fraction: scores or prices, whose order no label keeps.
bool are_measures(const std::set<std::string>& labels) {
  bool fraction = false;
  for (const std::string& label : labels) {
    double value = 0;
    const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), value);
    if (error != std::errc() || end != label.data() + label.size()) return false;
    fraction |= value != std::floor(value);
  }
  return fraction;
}

}  // namespace

std::vector<std::string> doubts_about(const std::vector<LabelledText>& texts) {
  std::vector<std::string> doubts;
  std::set<std::string> labels;
  std::map<std::string, const LabelledText*> first_of;
  int64_t contradictions = 0;
  std::string example;
  for (const LabelledText& text : texts) {
    labels.insert(text.label);
    const LabelledText& first = *first_of.emplace(text.text, &text).first->second;
    if (first.label == text.label) continue;
    if (contradictions++ == 0) example = fmt::format("lines {} and {}", first.line, text.line);
  }
  for (const auto& [folded, spellings] : alike(texts))
    if (spellings.size() > 1)
      doubts.push_back(fmt::format(
          "the labels \"{}\" differ only in blanks or capitals, and are learnt as {} labels. Make "
          "them equal, if they mean the same",
          fmt::join(spellings, "\", \""), spellings.size()));
  if (labels.size() > 2 && 2 * labels.size() > texts.size())
    doubts.push_back(
        fmt::format("{} texts have {} labels, fewer than two texts each: is --label-column right?",
                    texts.size(), labels.size()));
  for (const std::string_view missing : kMissing) {
    const auto texts_with = std::ranges::count(texts, missing, &LabelledText::label);
    if (texts_with > 0)
      doubts.push_back(fmt::format(
          "{} texts have the label \"{}\", which pandas writes where a value is missing. Remove "
          "them, unless it is a label",
          texts_with, missing));
  }
  if (are_measures(labels))
    doubts.push_back(fmt::format(
        "the labels are numbers with fractions, such as {}, and each is learnt as a label of its "
        "own, without order: regression is not built in. Round them to a few, if these will do",
        *std::ranges::max_element(labels, {}, &std::string::size)));
  if (contradictions > 0)
    doubts.push_back(fmt::format("{} texts have another label where they are there before ({})",
                                 contradictions, example));
  return doubts;
}

std::vector<std::string> labels_of(const std::vector<LabelledText>& texts) {
  std::set<std::string> distinct;
  for (const LabelledText& text : texts) distinct.insert(text.label);
  std::vector<std::string> labels(distinct.begin(), distinct.end());
  if (std::ranges::all_of(labels, is_number))
    std::ranges::sort(labels, {}, [](const std::string& label) { return std::stol(label); });
  return labels;
}

namespace {

/// "a", "b", "c" and 74 more
std::string few_of(const std::vector<std::string>& labels) {
  std::vector<std::string> quoted;
  for (const std::string& label : labels) quoted.push_back(fmt::format("\"{}\"", label));
  return first_of(quoted, 5);
}

}  // namespace

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
      fmt::format("Expected one of the {} labels of {} ({}). Correct them, or train with a file "
                  "that has them",
                  labels.size(), labels_from, few_of(labels)));
  return numbers;
}

}  // namespace minibert
