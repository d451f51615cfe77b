// model_input.h: what fill-mask and embed share: opening the model folder and reading the texts.
// Easy to break: one text per line, one result per text, in order; all texts are checked before the
// first result is printed. Test: ctest -R tools_text_verbs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "models/bert/hugging_face.h"
#include "models/text/wordpiece.h"

namespace minibert {

/// A Transformers folder or one of our checkpoints, opened for inference.
struct ModelFolder {
  BertForPreTraining model;
  WordPieceTokenizer tokenizer;

  /// Errors: DataError for anything wrong with the folder, and if vocab.txt has more tokens than
  /// the model has rows. Unused tensors are listed on standard error.
  static ModelFolder open(const std::string& folder, const BertParts& required,
                          ComputeOptions compute);
};

/// Where texts come from: TEXT..., --file, or standard input.
class TextInput {
 public:
  void add_options(CLI::App& verb);
  /// One text per line. Errors: UsageError for both texts and a file, or an unknown flag; DataError
  /// for a file that cannot be read. Reports malformed UTF-8 on standard error.
  std::vector<std::string> read() const;

 private:
  std::vector<std::string> arguments() const;

  const CLI::App* verb_ = nullptr;
  std::string first_, file_;
};

/// Ids of every text with [CLS] and [SEP]. Errors: DataError naming the first text with more tokens
/// than the model has positions.
std::vector<std::vector<int32_t>> encode_texts(const ModelFolder& folder,
                                               const std::vector<std::string>& texts);

/// "text 3 ("the old ...")": how errors name a text; `number` from 0.
std::string describe_text(const std::vector<std::string>& texts, size_t number);

/// Runs the encoder over the texts, a few thousand tokens at a time. `use` gets the number of the
/// group's first text, the group's batch and its final hidden states.
void encode_in_groups(
    const BertForPreTraining& model, const std::vector<std::vector<int32_t>>& ids,
    const std::function<void(size_t first, const PackedBatch& batch, const Variable& hidden)>& use);

}  // namespace minibert
