// model_input.h: what fill-mask and embed share: opening the model folder, reading the texts, and
// passing them through the encoder in groups. Easy to break: one text per line, one result per text,
// in order; a text that can't be used costs its own result alone; a line from a live pipe gets its
// result before the next one comes; groups are cut by the texts alone, so that threads change nothing.
// Test: ctest -R tools_text_verbs.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "models/bert/hugging_face.h"
#include "models/text/text_reader.h"
#include "models/text/wordpiece.h"

namespace minibert {

/// A Transformers folder or one of our checkpoints, opened for inference.
struct ModelFolder {
  BertForPreTraining model;
  WordPieceTokenizer tokenizer;
  bool cuts_left = false;  // texts that are too long lose their beginning

  /// Errors: DataError for anything wrong with the folder, and if the vocabulary has more tokens than
  /// the model has rows. Unused tensors, and what else one should know, go to standard error.
  static ModelFolder open(const std::string& folder, const BertParts& required,
                          ComputeOptions compute);
};

/// Where texts come from (TEXT..., --file, or standard input), and what becomes of those that can't be
/// used.
class TextInput {
 public:
  /// `truncate`: whether texts that are too long are cut, unless the flags say otherwise.
  void add_options(CLI::App& verb, bool truncate);

  bool truncate() const { return truncate_; }
  /// --on-error stop: the first text that can't be used ends the verb.
  bool stops() const { return on_error_ == "stop"; }

  /// Texts one after the other, a line each.
  class Source {
   public:
    /// False at the end. Errors: DataError for a file that can't be read.
    bool next(std::string& text);
    /// Whether next() need not wait for somebody to write a line.
    bool ready() const { return !reader_ || reader_->ready(); }
    /// Of the file; nothing for arguments.
    const SourceStats* stats() const { return reader_ ? &reader_->stats() : nullptr; }
    /// How much of all texts was read, 0 to 1; nothing for a pipe.
    std::optional<double> share_read() const;

   private:
    friend class TextInput;
    std::vector<std::string> arguments_;
    size_t next_ = 0;
    std::optional<LineReader> reader_;
    int64_t file_bytes_ = 0;  // 0: not known
  };
  /// Errors: UsageError for both texts and a file, or an unknown flag; DataError for a file that
  /// cannot be opened.
  Source open() const;

 private:
  std::vector<std::string> arguments() const;

  const CLI::App* verb_ = nullptr;
  std::string first_, file_, on_error_ = "skip";
  bool truncate_ = false;
};

/// A text with its ids, [CLS] and [SEP] included.
struct EncodedText {
  std::string text;
  std::vector<int32_t> ids;
  bool cut = false;  // ids are of its beginning alone
};

/// What a verb does with texts.
struct TextUse {
  std::string prompt = {};  // stands before each text, for the tokenizer alone
  /// Why a text can't be used, as the end of a sentence that begins with the text; "" if it can.
  std::function<std::string(const EncodedText&)> objection = [](const EncodedText&) { return ""; };
  /// What is printed for each text of a group: `hidden` are the encoder's final states. On the CPU
  /// several groups are at work at once.
  std::function<std::vector<std::string>(const std::vector<EncodedText>& texts,
                                         const PackedBatch& batch, const Variable& hidden)>
      print = {};
  /// Tokens of a text at most, [CLS] and [SEP] included.
  int64_t max_tokens = 0;
  bool json = false;  // a text that can't be used is an object {"text", "error"}
};

/// Passes all texts through the encoder, groups of some thousand tokens or what a pipe holds now, and
/// prints their results in order. Shows how far it is if results go to a file. Reports cut texts
/// and malformed UTF-8 on standard error at the end.
/// Errors: DataError if a text could not be used: at once with --on-error stop, else at the end, with
/// their number.
void run_on_texts(const ModelFolder& folder, const TextInput& input, const TextUse& use);

}  // namespace minibert
