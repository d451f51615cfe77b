// vocab.h: a WordPiece vocabulary: one token per line of vocab.txt, and the id is the 0-based line
// number. Called by wordpiece.cpp, the data builder (random replacement ids, special ids) and the
// checkpoint writer. Easy to break: ids are line numbers, so no line may be dropped or repaired
// silently. A blank line keeps its number, and of a token that is there twice the last line is its
// id. Test: ctest -R text_vocab. Format: google-research/bert vocab.txt, as `tokenizers` 0.23.3 and
// Transformers read it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace minibert {

inline constexpr std::string_view kPadToken = "[PAD]", kUnkToken = "[UNK]", kClsToken = "[CLS]",
                                  kSepToken = "[SEP]", kMaskToken = "[MASK]";

/// How a model names its special tokens.
struct SpecialNames {
  std::string pad{kPadToken}, unk{kUnkToken}, cls{kClsToken}, sep{kSepToken}, mask{kMaskToken};
  bool operator==(const SpecialNames&) const = default;
};

class Vocab {
 public:
  using Entry = std::pair<std::string, int32_t>;  // a token and its id

  /// Reads vocab.txt. Errors: DataError with file, lines and fix if the file is missing, empty or
  /// not UTF-8, or lacks [UNK], [CLS], [SEP] or [MASK].
  static Vocab load(const std::filesystem::path& file);

  /// Reads vocab.txt without asking for special tokens: set_special() does.
  static Vocab load_lines(const std::filesystem::path& file);

  /// The same from tokens in memory; errors name `origin`.
  static Vocab from_tokens(std::vector<std::string> tokens, std::string_view origin);

  /// From tokens with their ids (tokenizer.json), each token once. Ids without a token are "".
  /// set_special() comes next. Errors: DataError for an id below 0 or beyond 2^24, or given twice.
  static Vocab from_entries(const std::vector<Entry>& entries, std::string_view origin);

  /// Finds the special tokens. Errors: DataError naming all that are missing; [PAD] may be.
  void set_special(const SpecialNames& names, std::string_view origin);

  /// Gives an id to a token that is matched as a whole and is no piece of words (added_tokens.h).
  /// Nothing changes if the token has that id already. `listed`: whether the model's files name it;
  /// a special token that they leave out has an id, but no model has a row for it.
  void add(std::string_view token, int32_t id, bool listed);

  /// Largest id of a listed token and 1: what a model has rows for, at least.
  int32_t size() const { return size_; }

  /// Different tokens, without added ones: from here on Transformers numbers what is added.
  int32_t distinct() const { return distinct_; }

  /// Whether add() has given no token an id.
  bool pieces_hold_all() const { return added_.empty(); }

  /// Id of a token, or -1.
  int32_t id(std::string_view token) const;

  /// Text of an id. Errors: UsageError for one that no token has.
  std::string_view token(int32_t id) const;
  /// Those of 0..size()-1; unlisted ones may follow.
  const std::vector<std::string>& tokens() const { return tokens_; }

  /// What words are cut into: each token once, with its id; no added tokens.
  const std::vector<Entry>& pieces() const { return pieces_; }

  /// Ids of [PAD] and so on, by whatever name.
  int32_t pad_id() const { return pad_; }  // -1 if there is no [PAD]: BERT never needs it
  int32_t unk_id() const { return unk_; }
  int32_t cls_id() const { return cls_; }
  int32_t sep_id() const { return sep_; }
  int32_t mask_id() const { return mask_; }
  bool is_special(int32_t id) const;

  /// Writes vocab.txt atomically (atomic_file.h). Errors: DataError.
  void save(const std::filesystem::path& file) const;

  /// The lines of vocab.txt, without unlisted tokens. A token that no line can hold is a blank one.
  std::string text() const;

  /// FNV-1a of text(); identifies the vocabulary in manifests.
  uint64_t hash() const;

 private:
  void check_utf8(std::string_view origin) const;
  void index(std::vector<Entry> entries);

  std::vector<std::string> tokens_;
  std::vector<Entry> pieces_;                          // sorted by token
  std::map<std::string, int32_t, std::less<>> added_;  // tokens that are no pieces
  int32_t size_ = 0, distinct_ = 0;
  int32_t pad_ = -1, unk_ = -1, cls_ = -1, sep_ = -1, mask_ = -1;
};

}  // namespace minibert
