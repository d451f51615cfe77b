// squad_flags.h: flags that fine-tuning and its evaluation share: windows, answers, columns. Easy to
// break: a model is scored with the windows that it learnt from, so both verbs have the same defaults.
// Test: ctest -R finetune_verb.
#pragma once

#include <CLI/CLI.hpp>

#include "models/text/labelled_text.h"
#include "models/text/squad_answers.h"
#include "models/text/squad_windows.h"

namespace minibert {

inline void add_window_flags(CLI::App& verb, WindowOptions& windows) {
  verb.add_option("--max-sequence-length", windows.max_sequence_length,
                  "Tokens of a window: question and part of the text, [CLS] and [SEP]s")
      ->check(CLI::Range(5, 65536))
      ->capture_default_str();
  verb.add_option("--doc-stride", windows.doc_stride,
                  "Tokens from the start of a window to the start of the next")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  verb.add_option("--max-query-length", windows.max_query_length,
                  "Tokens of a question, at most; longer ones are cut off")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

inline void add_answer_flags(CLI::App& verb, AnswerOptions& answers) {
  verb.add_option("--n-best", answers.n_best, "Starts and ends that are tried, and answers kept")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  verb.add_option("--max-answer-length", answers.max_answer_length, "Tokens of an answer, at most")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

inline void add_column_flags(CLI::App& verb, LabelledTextOptions& columns) {
  verb.add_option("--text-column", columns.text_column, "Column (or JSON key) of the texts")
      ->capture_default_str();
  verb.add_option("--label-column", columns.label_column, "Column (or JSON key) of the labels")
      ->capture_default_str();
}

}  // namespace minibert
