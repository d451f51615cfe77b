// squad_windows.h: a question and a long paragraph to sequences that a model can read: windows that
// overlap, [CLS] question [SEP] part of the paragraph [SEP]. The second stage of fine-tuning on SQuAD;
// answers come back through squad_answers.h. Easy to break: a token of the paragraph lies in several
// windows, and only the window in which it has the most context may use it; a training window without
// the whole answer learns [CLS]. Test: ctest -R models_text_squad_windows.
// Source: google-research/bert @ eedf571 run_squad.py (convert_examples_to_features).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/squad.h"
#include "models/text/wordpiece.h"

namespace minibert {

/// Units: tokens.
struct WindowOptions {
  int64_t max_sequence_length = 384;
  int64_t doc_stride = 128;       // from the start of a window to the start of the next
  int64_t max_query_length = 64;  // of the question; what is longer is cut off
  bool operator==(const WindowOptions&) const = default;
};

/// A paragraph's words, as blanks separate them, and their WordPiece tokens.
struct TokenizedContext {
  std::vector<std::string_view> words;  // views of the context
  std::vector<int32_t> ids;             // tokens of all words
  std::vector<int32_t> word_of_token;
  std::vector<int32_t> first_token;        // of each word, and the end
  std::vector<int32_t> word_of_character;  // of a blank: the word before it; -1 before the first
};

TokenizedContext tokenize_context(std::string_view context, const WordPieceTokenizer& tokenizer);

struct SquadWindow {
  size_t question = 0;            // number in SquadData::questions
  std::vector<int32_t> ids = {};  // [CLS] question [SEP] part [SEP]
  int32_t first_segment = 0;      // tokens up to the first [SEP], included: where the part begins
  int32_t first_token = 0;        // of the part, in TokenizedContext::ids
  std::vector<bool> max_context = {};  // of each token of the part: has it most context here
  int32_t start = 0, end = 0;  // training: the answer's tokens in ids, or 0: it is not all here

  int32_t part_tokens() const { return static_cast<int32_t>(max_context.size()); }
};

/// All windows of a file's questions, in order. The data must outlive the object.
class SquadWindows {
 public:
  /// Errors: UsageError for lengths that leave no room for the paragraph.
  SquadWindows(const SquadData& data, const WordPieceTokenizer& tokenizer,
               const WindowOptions& options, SquadUse use);

  const SquadData& data() const { return data_; }
  const std::vector<SquadWindow>& all() const { return windows_; }
  const TokenizedContext& context_of(const SquadWindow& window) const {
    return contexts_[data_.questions[window.question].context];
  }
  int64_t cut_questions() const { return cut_questions_; }  // longer than max_query_length

 private:
  void add(size_t question, const WordPieceTokenizer& tokenizer, SquadUse use);

  const SquadData& data_;
  WindowOptions options_;
  std::vector<TokenizedContext> contexts_;
  std::vector<SquadWindow> windows_;
  int64_t cut_questions_ = 0;
};

}  // namespace minibert
