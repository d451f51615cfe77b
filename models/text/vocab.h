// vocab.h: a WordPiece vocabulary: one token per line of vocab.txt, and the id is the 0-based line
// number. Called by wordpiece.cpp, the data builder (random replacement ids, special ids) and the
// checkpoint writer. Easy to break: ids are line numbers, so no line may be dropped or repaired
// silently: every fault is a DataError. Test: ctest -R text_vocab. Format: google-research/bert
// vocab.txt, as `tokenizers` and Transformers read it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace minibert {

inline constexpr std::string_view kPadToken = "[PAD]", kUnkToken = "[UNK]", kClsToken = "[CLS]",
                                  kSepToken = "[SEP]", kMaskToken = "[MASK]";

class Vocab {
 public:
  /// Reads vocab.txt. Errors: DataError with file, line and fix if the file is missing, empty or
  /// not UTF-8, has an empty line before the last token or a token twice (both lines are named), or
  /// lacks [UNK], [CLS], [SEP] or [MASK].
  static Vocab load(const std::filesystem::path& file);

  /// The same from tokens in memory; errors name `origin`.
  static Vocab from_tokens(std::vector<std::string> tokens, std::string_view origin);

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }

  /// Id of a token, or -1.
  int32_t id(std::string_view token) const;

  /// Text of an id in 0..size()-1. Errors: UsageError for any other.
  std::string_view token(int32_t id) const;
  const std::vector<std::string>& tokens() const { return tokens_; }

  int32_t pad_id() const { return pad_; }  // -1 if there is no [PAD]: BERT never needs it
  int32_t unk_id() const { return unk_; }
  int32_t cls_id() const { return cls_; }
  int32_t sep_id() const { return sep_; }
  int32_t mask_id() const { return mask_; }
  bool is_special(int32_t id) const;

  /// Writes vocab.txt atomically (atomic_file.h). Errors: DataError.
  void save(const std::filesystem::path& file) const;

  /// FNV-1a of the tokens in order, each followed by a newline; identifies the vocabulary in
  /// manifests.
  uint64_t hash() const;

 private:
  std::vector<std::string> tokens_;
  std::vector<int32_t> by_text_;  // ids in the order of their tokens, for id()
  int32_t pad_ = -1, unk_ = -1, cls_ = -1, sep_ = -1, mask_ = -1;
};

}  // namespace minibert
