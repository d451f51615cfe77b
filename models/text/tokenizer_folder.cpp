// tokenizer_folder.cpp: Transformers' way from files to a tokenizer, step by step.
// Source: transformers 5.23, PreTrainedTokenizerBase._from_pretrained, TokenizersBackend.__init__,
// BertTokenizer.__init__; `tokenizers` 0.23.3, AddedVocabulary::add_tokens.
#include "models/text/tokenizer_folder.h"

#include <algorithm>
#include <map>
#include <optional>

#include "core/shell_word.h"
#include "models/text/json_numbers.h"
#include "models/text/tokenizer_config.h"
#include "models/text/tokenizer_fields.h"
#include "models/text/tokenizer_json.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kVocabFile = "vocab.txt";
constexpr const char* kJsonFile = "tokenizer.json";
constexpr const char* kAddedFile = "added_tokens.json";
constexpr const char* kMapFile = "special_tokens_map.json";

/// Keys of the named special tokens, in the order in which Transformers adds them.
constexpr const char* kNameKeys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                     "pad_token", "cls_token", "mask_token"};

/// Classes that Transformers makes from a vocabulary and settings.
constexpr const char* kBertClasses[] = {
    "BertTokenizer",     "DistilBertTokenizer", "ElectraTokenizer",  "MobileBertTokenizer",
    "ConvBertTokenizer", "LxmertTokenizer",     "LayoutLMTokenizer", "SqueezeBertTokenizer",
};
/// Classes that Transformers reads from tokenizer.json as it is.
constexpr const char* kBackendClasses[] = {"PreTrainedTokenizerFast", "TokenizersBackend",
                                           "PreTrainedTokenizer"};

std::string trimmed_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

constexpr const char *kExtraTokens = "extra_special_tokens",
                     *kAdditionalTokens = "additional_special_tokens";

bool is_there(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

bool is_one_of(std::span<const char* const> names, const std::string& name) {
  return std::ranges::any_of(names, [&](const char* known) { return name == known; });
}

bool is_name_key(const std::string& key) {
  return is_one_of(kNameKeys, key);
}

class FolderReader {
 public:
  explicit FolderReader(const fs::path& folder)
      : folder_(folder),
        config_(read_json_object(folder / kTokenizerConfigFile)),
        config_fields_{config_, (folder / kTokenizerConfigFile).string()} {}

  FolderTokenizer read() {
    refuse_other_settings();
    bert_ = is_bert_class();
    if (is_there(folder_ / kJsonFile)) json_ = read_tokenizer_json(folder_ / kJsonFile);
    check_files();
    read_names(folder_ / kTokenizerConfigFile);
    read_listed_tokens();
    Vocab vocab = read_vocab();
    const TokenizerOptions options = bert_ ? load_tokenizer_config(folder_) : json_->options;
    if (bert_ && json_) note_differences(options);
    number_tokens(vocab);
    vocab.set_special(special_names(), origin().string());
    if (!bert_) check_template(vocab);
    return {WordPieceTokenizer(std::move(vocab), options, added_), std::move(notes_)};
  }

 private:
  fs::path origin() const { return folder_ / (json_ ? kJsonFile : kVocabFile); }

  void refuse_other_settings() const {
    MB_CHECK_AS(DataError, !config_fields_.flag("split_special_tokens", false),
                "{}: split_special_tokens is true, expected false: [MASK] in a text would be "
                "characters. Set it to false",
                config_fields_.source);
    MB_CHECK_AS(DataError, !config_fields_.find("fast_tokenizer_files"),
                "{}: fast_tokenizer_files names a tokenizer.json for each version of Transformers, "
                "expected one. Name the file you want tokenizer.json and remove the key",
                config_fields_.source);
  }

  /// Whether Transformers makes the tokenizer from a vocabulary and settings; else from
  /// tokenizer.json.
  bool is_bert_class() const {
    std::string name = config_fields_.text("tokenizer_class", "");
    std::string source = config_fields_.source;
    if (name.empty() && is_there(folder_ / "config.json")) {
      source = (folder_ / "config.json").string();
      const json model = read_json_object(source);
      name = TokenizerFields{model, source}.text("tokenizer_class", "");
    }
    constexpr std::string_view kFast = "Fast";
    std::string plain = name;
    if (plain.ends_with(kFast)) plain.resize(plain.size() - kFast.size());
    if (name.empty() || is_one_of(kBertClasses, plain)) return true;
    MB_CHECK_AS(DataError, is_one_of(kBackendClasses, name),
                "{}: tokenizer_class is {}, expected BertTokenizer, a class that works as it does, "
                "or PreTrainedTokenizerFast: no other tokenizer is built in",
                source, name);
    return false;
  }

  void check_files() const {
    if (!json_ && !is_there(folder_ / kVocabFile)) {
      refuse_outer_folder(folder_);
      refuse_other_name();
    }
    MB_CHECK_AS(DataError, json_ || is_there(folder_ / kVocabFile),
                "{}: has no vocab.txt and no tokenizer.json, expected the model's vocabulary. Copy "
                "it from where the model came from",
                folder_.string());
    if (bert_) return;
    MB_CHECK_AS(DataError, json_.has_value(),
                "{}: tokenizer_class is {}, which needs tokenizer.json, and there is none. Set it "
                "to BertTokenizer, which reads vocab.txt",
                config_fields_.source, config_fields_.text("tokenizer_class", "(of config.json)"));
    MB_CHECK_AS(DataError, json_->faults.empty(),
                "{}: is not BERT's tokenizer, the only one that is built in: {}",
                (folder_ / kJsonFile).string(), fmt::join(json_->faults, "; "));
  }

  /// bert-base-uncased-vocab.txt, as files of the first releases and of `tokenizers` are called.
  void refuse_other_name() const {
    std::vector<fs::path> found;
    std::error_code ignored;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder_, ignored))
      if (entry.path().filename().string().ends_with(kVocabFile)) found.push_back(entry.path());
    if (found.size() != 1) return;
    fail<DataError>("{}: has no vocab.txt, but {}. Rename it: mv {} {}", folder_.string(),
                    found.front().filename().string(), shell_word(found.front().string()),
                    shell_word((folder_ / kVocabFile).string()));
  }

  // ---- Names and lists of tokens -----------------------------------------------------------------

  /// Names of tokens and lists of more. Those without an id are numbered in Transformers' order: keys that end in
  /// _token, then an object of names, each as the file has them, then a list.
  void read_names(const fs::path& file, bool with_additional = true) {
    if (!is_there(file)) return;
    const auto object = nlohmann::ordered_json::parse(read_whole_file(file, kTokenizerFix));
    const auto source = [&](const std::string& key) { return file.string() + ", " + key; };
    for (const auto& [key, value] : object.items()) {
      if (is_name_key(key)) {
        names_[key] = value.is_null()
                          ? std::optional<AddedToken>{}
                          : read_added_token(json(value), source(key), /* special= */ true);
      } else if (key.ends_with("_token") && (value.is_string() || value.is_object())) {
        add_extra(read_added_token(json(value), source(key), /* special= */ true));
      }
    }
    const auto extra = object.value(kExtraTokens, nlohmann::ordered_json());
    read_extra_tokens(extra, source(kExtraTokens));
    const bool replaced = extra.is_array() && !extra.empty();
    if (with_additional && !replaced && object.contains(kAdditionalTokens))
      read_extra_tokens(object[kAdditionalTokens], source(kAdditionalTokens));
  }

  void read_extra_tokens(const nlohmann::ordered_json& value, const std::string& source) {
    if (value.is_null()) return;
    MB_CHECK_AS(DataError, value.is_structured(), "{}: is {}, expected tokens. {}", source,
                json_text(json(value)), kTokenizerFix);
    for (const auto& token : value)
      add_extra(read_added_token(json(token), source, /* special= */ true));
  }

  void add_extra(AddedToken token) {
    const bool known = std::ranges::any_of(
        extra_, [&](const AddedToken& other) { return other.content == token.content; });
    if (!known) extra_.push_back(std::move(token));
  }

  /// A token with the id that a file gives it; of two with one id the last counts.
  void list(AddedToken token, const std::string& source) {
    for (auto& [id, other] : listed_tokens_) {
      MB_CHECK_AS(DataError, id == token.id || other.content != token.content,
                  "{}: token '{}' has the ids {} and {}, expected one. {}", source, token.content,
                  id, token.id, kTokenizerFix);
    }
    sources_[token.id] = source;
    listed_tokens_[token.id] = std::move(token);
  }

  /// added_tokens_decoder says all; without it, the older files do.
  void read_listed_tokens() {
    if (const json* decoder = config_fields_.find("added_tokens_decoder")) {
      read_decoder(*decoder);
      if (json_) compare_with_decoder();
      return;
    }
    const fs::path map_file = folder_ / kMapFile, added_file = folder_ / kAddedFile;
    read_json_object(map_file);            // checks it
    read_names(map_file, extra_.empty());  // else those of the settings count
    const json added = read_json_object(added_file);
    for (const auto& [content, id] : added.items()) {
      const std::optional<int32_t> number = whole_number<int32_t>(id);
      MB_CHECK_AS(DataError, number, "{}: token '{}' has id {}, expected a whole number. {}",
                  added_file.string(), content, json_text(id), kTokenizerFix);
      const bool special = is_named(content);
      list({.content = content, .id = *number, .normalized = !special, .special = special},
           added_file.string());
    }
    if (!json_) return;
    for (const AddedToken& token : json_->added) list(token, (folder_ / kJsonFile).string());
  }

  void read_decoder(const json& decoder) {
    const std::string source = config_fields_.source + ", added_tokens_decoder";
    MB_CHECK_AS(DataError, decoder.is_object(), "{}: is {}, expected ids with tokens. {}", source,
                json_text(decoder), kTokenizerFix);
    for (const auto& [key, value] : decoder.items()) {
      const bool number = !key.empty() && key.size() < 9 &&
                          std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; });
      MB_CHECK_AS(DataError, number, "{}: id is \"{}\", expected a whole number. {}", source, key,
                  kTokenizerFix);
      AddedToken token = read_added_token(value, source, /* special= */ false);
      token.id = std::stoi(key);
      list(std::move(token), source);
    }
  }

  /// With both lists, class BertTokenizer takes the decoder's; another class mixes them.
  void compare_with_decoder() {
    for (const AddedToken& token : json_->added) {
      const auto found = listed_tokens_.find(token.id);
      if (found != listed_tokens_.end() && found->second == token) continue;
      const std::string difference = fmt::format(
          "{}: added token '{}' (id {}) is {} in added_tokens_decoder of {}",
          (folder_ / kJsonFile).string(), token.content, token.id,
          found == listed_tokens_.end() ? "missing" : "different", config_fields_.source);
      MB_CHECK_AS(DataError, bert_, "{}, expected the same in both. Make them equal", difference);
      notes_.push_back(difference + ", which counts");
    }
  }

  bool is_named(const std::string& content) const {
    return std::ranges::any_of(
               names_, [&](const auto& n) { return n.second && n.second->content == content; }) ||
           std::ranges::any_of(extra_, [&](const auto& e) { return e.content == content; }) ||
           std::ranges::any_of(kDefaultNames, [&](const auto& d) {
             return bert_ && !names_.contains(d.first) && content == d.second;
           });
  }

  // ---- Vocabulary ----------------------------------------------------------------------------------

  Vocab read_vocab() {
    const fs::path file = folder_ / kVocabFile;
    if (!json_) return Vocab::load_lines(file);
    Vocab vocab = Vocab::from_entries(json_->vocab, (folder_ / kJsonFile).string());
    if (is_there(file)) compare_with_lines(vocab, Vocab::load_lines(file));
    return vocab;
  }

  /// Transformers ignores vocab.txt beside tokenizer.json, which people edit and expect to count.
  void compare_with_lines(const Vocab& vocab, const Vocab& lines) {
    for (const auto& [token, id] : lines.pieces()) {
      if (vocab.id(token) == id) continue;
      const bool later = std::ranges::any_of(
          json_->added,
          [&token = token, id = id](const auto& a) { return a.content == token && a.id == id; });
      if (later) continue;
      const std::string there = vocab.id(token) < 0 ? "missing" : std::to_string(vocab.id(token));
      notes_.push_back(fmt::format(
          "{}: token '{}' is in line {}, but its id in {} is {}; tokenizer.json counts, as in "
          "Transformers",
          (folder_ / kVocabFile).string(), token, id + 1, kJsonFile, there));
      return;
    }
  }

  void note_differences(const TokenizerOptions& options) {
    TokenizerOptions theirs = json_->options;
    std::vector<std::string> parts = json_->faults;
    if (theirs.max_characters_per_word != options.max_characters_per_word)
      parts.push_back(fmt::format("model's max_input_chars_per_word is {}, used is {}",
                                  theirs.max_characters_per_word, options.max_characters_per_word));
    theirs.max_characters_per_word = options.max_characters_per_word;
    if (theirs != options)
      parts.emplace_back(
          "normalizer differs from do_lower_case, strip_accents and "
          "tokenize_chinese_chars");
    for (const std::string& part : parts)
      notes_.push_back(fmt::format("{}: {}; {} counts, as in Transformers 5 for this class",
                                   (folder_ / kJsonFile).string(), part, kTokenizerConfigFile));
  }

  // ---- Numbers -------------------------------------------------------------------------------------

  SpecialNames special_names() const {
    SpecialNames names;
    if (!bert_) {
      names.unk = json_->unk_token;
      names.cls = json_->cls.first;
      names.sep = json_->sep.first;
    }
    const auto take = [&](const char* key, std::string& name) {
      const auto found = names_.find(key);
      if (found == names_.end()) return;
      MB_CHECK_AS(DataError, found->second || std::string_view(key) == "pad_token",
                  "{}: {} is null, expected the name of a token", config_fields_.source, key);
      name = found->second ? found->second->content : "";
    };
    take("unk_token", names.unk);
    take("sep_token", names.sep);
    take("pad_token", names.pad);
    take("cls_token", names.cls);
    take("mask_token", names.mask);
    return names;
  }

  /// Adds tokens as Transformers does: those of the files in the order of their ids, then the names,
  /// then the others.
  void number_tokens(Vocab& vocab) {
    const int32_t unk = vocab.id(special_names().unk);
    MB_CHECK_AS(DataError, unk >= 0,
                "{}: the vocabulary lacks {}, expected it (unk_token: what unknown words become). "
                "Get the file again from where the model came from",
                origin().string(), special_names().unk);
    MB_CHECK_AS(DataError, bert_ || json_->unk_token == special_names().unk,
                "{}: model's unk_token is {}, expected {} (unk_token of {})", origin().string(),
                json_->unk_token, special_names().unk, kTokenizerConfigFile);
    distinct_ = vocab.distinct();
    for (auto& [id, token] : listed_tokens_) {
      if (token.content.empty()) continue;
      token.special = token.special || is_one_of_the_names(token.content);
      const int32_t given = number(token, vocab, /* listed= */ true);
      MB_CHECK_AS(
          DataError, given == id,
          "{}: added token '{}' has id {}, but Transformers gives it {} (the vocabulary has "
          "{} different tokens). Set its id to {}, if the model was trained so",
          sources_[id], token.content, id, given, distinct_, given);
    }
    const auto add_named = [&](AddedToken token) {
      const bool known = std::ranges::any_of(
          added_, [&](const AddedToken& other) { return other.content == token.content; });
      if (!known && !token.content.empty()) number(std::move(token), vocab, /* listed= */ false);
    };
    for (const char* key : kNameKeys) {
      const auto found = names_.find(key);
      if (found != names_.end() && found->second) add_named(*found->second);
      const auto standard = kDefaultNames.find(key);
      if (bert_ && found == names_.end() && standard != kDefaultNames.end())
        add_named({.content = standard->second, .normalized = false, .special = true});
    }
    for (const AddedToken& token : extra_) add_named(token);
  }

  bool is_one_of_the_names(const std::string& content) const {
    const SpecialNames names = special_names();
    return content == names.pad || content == names.unk || content == names.cls ||
           content == names.sep || content == names.mask;
  }

  /// The id of a token of the vocabulary, or the next one.
  int32_t number(AddedToken token, Vocab& vocab, bool listed) {
    token.id = vocab.id(token.content);
    if (token.id < 0) token.id = largest_ >= distinct_ ? largest_ + 1 : distinct_;
    largest_ = std::max(largest_, token.id);
    vocab.add(token.content, token.id, listed);
    added_.push_back(token);
    return token.id;
  }

  void check_template(const Vocab& vocab) const {
    const bool same = vocab.id(json_->cls.first) == json_->cls.second &&
                      vocab.id(json_->sep.first) == json_->sep.second &&
                      json_->cls.second == vocab.cls_id() && json_->sep.second == vocab.sep_id();
    MB_CHECK_AS(
        DataError, same,
        "{}: post_processor writes {} (id {}) and {} (id {}), expected cls_token {} (id {}) "
        "and sep_token {} (id {})",
        (folder_ / kJsonFile).string(), json_->cls.first, json_->cls.second, json_->sep.first,
        json_->sep.second, vocab.token(vocab.cls_id()), vocab.cls_id(), vocab.token(vocab.sep_id()),
        vocab.sep_id());
  }

  inline static const std::map<std::string, std::string> kDefaultNames = {
      {"unk_token", std::string(kUnkToken)},   {"sep_token", std::string(kSepToken)},
      {"pad_token", std::string(kPadToken)},   {"cls_token", std::string(kClsToken)},
      {"mask_token", std::string(kMaskToken)},
  };

  fs::path folder_;
  json config_;
  TokenizerFields config_fields_;
  std::optional<TokenizerJson> json_;
  std::map<std::string, std::optional<AddedToken>> names_;  // by key; null: there is none
  std::vector<AddedToken> extra_;                           // further special tokens
  std::map<int32_t, AddedToken> listed_tokens_;             // by the id that a file gives
  std::map<int32_t, std::string> sources_;                  // of these
  std::vector<AddedToken> added_;                           // with ids, in order
  std::vector<std::string> notes_;
  bool bert_ = true;  // made from a vocabulary and settings, not from tokenizer.json as it is
  int32_t distinct_ = 0, largest_ = -1;
};

std::string lines_of(const fs::path& tokenizer_json) {
  return Vocab::from_entries(read_tokenizer_json(tokenizer_json).vocab, tokenizer_json.string())
      .text();
}

/// The folder that a path to it or to one of its files means; nothing for a vocab.txt alone.
std::optional<fs::path> folder_of(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return path;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (path.filename() == kJsonFile) return folder;
  if (path.filename() != kVocabFile || !has_tokenizer_settings(path)) return std::nullopt;
  return folder;
}

}  // namespace

bool holds_vocabulary(const fs::path& folder) {
  return is_there(folder / kVocabFile) || is_there(folder / kJsonFile);
}

std::vector<SentenceModule> read_sentence_modules(const fs::path& folder) {
  constexpr const char* kFix = "Copy the file again from where the model came from";
  const fs::path list = folder / "modules.json";
  if (!is_there(list)) return {};
  const json parsed = parse_shallow_json(read_whole_file(list, kFix), list.string());
  MB_CHECK_AS(DataError, parsed.is_array(),
              "{}: is no JSON list, expected the modules of sentence-transformers. {}",
              list.string(), kFix);
  std::vector<SentenceModule> modules;
  for (const json& module : parsed) {
    MB_CHECK_AS(DataError, module.is_object(),
                "{}: module {} is {}, expected an object with type and path. {}", list.string(),
                modules.size(), json_text(module), kFix);
    const TokenizerFields fields{module, list.string()};
    modules.push_back({fields.text("type", ""), fields.text("path", "")});
  }
  return modules;
}

void refuse_outer_folder(const fs::path& folder) {
  constexpr const char* kConfig = "config.json";
  std::error_code ignored;
  std::vector<fs::path> snapshots;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder / "snapshots", ignored))
    if (is_there(entry.path() / kConfig)) snapshots.push_back(entry.path());
  std::ranges::sort(snapshots);
  if (!snapshots.empty() && !is_there(folder / kConfig)) {
    const fs::path main = folder / "refs" / "main";
    fs::path newest = snapshots.back();
    if (is_there(main)) newest = folder / "snapshots" / trimmed_line(read_whole_file(main, ""));
    if (!is_there(newest / kConfig)) newest = snapshots.back();
    fail<DataError>("{}: is a cache of the Hugging Face hub, expected the model in it. Give {}",
                    folder.string(), newest.string());
  }
  if (is_there(folder / kConfig)) return;
  for (const auto& [type, path] : read_sentence_modules(folder)) {
    if (path.empty() || !is_there(folder / path / kConfig) ||
        !(is_there(folder / path / kVocabFile) || is_there(folder / path / kJsonFile)))
      continue;
    fail<DataError>(
        "{}: holds the parts of a model of sentence-transformers, expected its BERT. Give {}",
        folder.string(), (folder / path).string());
  }
}

bool has_tokenizer_settings(const fs::path& path) {
  std::error_code ignored;
  const bool whole = fs::is_directory(path, ignored);
  if (!whole && path.filename() != kVocabFile && path.filename() != kJsonFile) return false;
  const fs::path folder = whole                    ? path
                          : path.has_parent_path() ? path.parent_path()
                                                   : fs::path(".");
  for (const char* name : {kTokenizerConfigFile, kJsonFile, kAddedFile, kMapFile})
    if (is_there(folder / name)) return true;
  return false;
}

void FolderTokenizer::check_rows(const fs::path& folder, int64_t rows) const {
  const int32_t size = tokenizer.vocab().size();
  MB_CHECK_AS(DataError, size <= rows,
              "{}: the vocabulary has {} tokens, expected at most {} (vocab_size in config.json). "
              "Vocabulary and model do not belong together; if tokens were added, save the model "
              "after model.resize_token_embeddings(len(tokenizer)), too",
              folder.string(), size, rows);
}

bool FolderTokenizer::is_plain() const {
  const Vocab& vocab = tokenizer.vocab();
  const TokenizerOptions usual;
  const bool own_settings =
      tokenizer.options().clean_text != usual.clean_text ||
      tokenizer.options().max_characters_per_word != usual.max_characters_per_word;
  const bool usual_names =
      vocab.token(vocab.unk_id()) == kUnkToken && vocab.token(vocab.cls_id()) == kClsToken &&
      vocab.token(vocab.sep_id()) == kSepToken && vocab.token(vocab.mask_id()) == kMaskToken &&
      vocab.pad_id() == vocab.id(kPadToken);
  const bool no_others = std::ranges::all_of(tokenizer.added(), [&](const AddedToken& token) {
    return vocab.is_special(token.id) && !token.normalized && !token.single_word && !token.lstrip &&
           !token.rstrip;
  });
  return usual_names && no_others && !own_settings && vocab.pieces_hold_all();
}

FolderTokenizer open_tokenizer_folder(const fs::path& path) {
  if (const auto folder = folder_of(path)) return FolderReader(*folder).read();
  return {WordPieceTokenizer(Vocab::load(path), TokenizerOptions{}), {}};
}

Vocab open_vocabulary(const fs::path& path) {
  return open_tokenizer_folder(path).tokenizer.vocab();
}

const std::vector<std::string>& tokenizer_file_names() {
  static const std::vector<std::string> names = {kVocabFile, kJsonFile, kTokenizerConfigFile,
                                                 kAddedFile, kMapFile};
  return names;
}

namespace {

/// config.json, which a run writes anew, may be what names the tokenizer's class.
void keep_class(const fs::path& folder, std::vector<NamedText>& files) {
  json settings = read_json_object(folder / kTokenizerConfigFile);
  const json model = read_json_object(folder / "config.json");
  if (settings.contains("tokenizer_class") || !model.contains("tokenizer_class")) return;
  settings["tokenizer_class"] = model["tokenizer_class"];
  std::erase_if(files, [](const NamedText& file) { return file.first == kTokenizerConfigFile; });
  files.emplace_back(kTokenizerConfigFile, json_text(settings, 2) + "\n");
}

}  // namespace

std::vector<NamedText> tokenizer_files(const fs::path& folder) {
  std::vector<NamedText> files;
  for (const std::string& name : tokenizer_file_names())
    if (is_there(folder / name))
      files.emplace_back(name, read_whole_file(folder / name, kTokenizerFix));
  keep_class(folder, files);
  if (!is_there(folder / kVocabFile))
    files.emplace(files.begin(), kVocabFile, lines_of(folder / kJsonFile));
  return files;
}

std::vector<NamedText> files_for_shards(const fs::path& path) {
  const std::optional<fs::path> folder = folder_of(path);
  if (!folder) return {{kVocabFile, read_whole_file(path, "Give vocab.txt with --vocab.")}};
  if (!open_tokenizer_folder(*folder).is_plain()) return tokenizer_files(*folder);
  const bool has_json = is_there(*folder / kJsonFile);
  return {{kVocabFile, has_json ? lines_of(*folder / kJsonFile)
                                : read_whole_file(*folder / kVocabFile, kTokenizerFix)}};
}

}  // namespace minibert
