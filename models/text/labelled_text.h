// labelled_text.h: files of texts with a label each: CSV, TSV or JSON lines, for sentence
// classification. Called by the verbs `finetune classify` and `eval classify`. Easy to break: a quoted
// field may hold separators, doubled quotes and line breaks, but a stray quote must not swallow the
// rows behind it; what a column is called is the file's business, so the header decides.
// Test: ctest -R labelled_text. Source: RFC 4180; jsonlines.org.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace minibert {

struct LabelledTextOptions {
  std::string text_column = "text", label_column = "label";
};

struct LabelledText {
  std::string text, label;
  int64_t line = 0;  // where it begins, from 1
};

/// Reads NAME.csv (comma, or the semicolon that its first line has), NAME.tsv (tab) or NAME.jsonl (one
/// object a line), also .gz and .zst behind that. CSV and TSV begin with a line of column names; blanks
/// around these do not count. In CSV a field that begins with a quote is quoted; in TSV only if the
/// other quote ends the field before the next tab, else both are characters, as in the files of GLUE.
/// Errors  DataError naming file, line and fix: another ending, a column that the header lacks or has
///         twice, rows of another number of fields, a quote that is not closed or closes within another
///         row, lines that are not JSON or lack a key, an empty text or label, bytes that are not
///         UTF-8, no rows at all.
/// `notes`, if given, gets a line if the column is one text of a pair: the other is not read.
std::vector<LabelledText> read_labelled_texts(const std::filesystem::path& file,
                                              const LabelledTextOptions& options,
                                              std::vector<std::string>* notes = nullptr);

/// What is probably wrong with the labels, a line each: some that differ only in blanks or capitals,
/// nearly as many labels as texts, texts with several labels.
std::vector<std::string> doubts_about(const std::vector<LabelledText>& texts);

/// The distinct labels: by number if all are whole numbers, else in the order of their bytes.
std::vector<std::string> labels_of(const std::vector<LabelledText>& texts);

/// Each text's number among `labels`. Errors: DataError naming the first ten that are not among them.
std::vector<int32_t> label_numbers(const std::vector<LabelledText>& texts,
                                   const std::vector<std::string>& labels, const std::string& file,
                                   const std::string& labels_from);

}  // namespace minibert
