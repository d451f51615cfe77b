// model_input.cpp: opening a folder, reading texts, encoding them in groups.
#include "tools/minibert/model_input.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/clock.h"
#include "core/nearest_name.h"
#include "models/bert/inference.h"
#include "models/text/json_text.h"
#include "models/text/tokenizer_folder.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

constexpr size_t kTokensAtATime = 4096;   // limits the memory of activations
constexpr double kProgressSeconds = 0.5;  // between two states of the progress line

}  // namespace

ModelFolder ModelFolder::open(const std::string& folder, const BertParts& required,
                              ComputeOptions compute) {
  LoadedBert loaded = load_hugging_face(folder, ModelUse::inference, required, compute);
  if (!loaded.unused.empty()) {
    fmt::print(stderr, "note: {} tensors of {} are not used: {}\n", loaded.unused.size(), folder,
               fmt::join(loaded.unused, ", "));
  }
  FolderTokenizer found = open_tokenizer_folder(folder);
  for (const std::string& note : found.notes) fmt::print(stderr, "note: {}\n", note);
  found.check_rows(folder, loaded.model.config().vocab_size);
  return {std::move(loaded.model), std::move(found.tokenizer)};
}

void TextInput::add_options(CLI::App& verb, bool truncate) {
  // A positional option takes the first text, and the others are CLI11's remaining arguments: an
  // option for many texts would read "[MASK] and [MASK]" as a list in brackets.
  verb_ = &verb;
  truncate_ = truncate;
  verb.add_option("TEXT...", first_,
                  "texts; without any, standard input is read, one text per line");
  verb.allow_extras();
  verb.parse_complete_callback([this] { arguments(); });  // a misspelt flag is told before all else
  verb.add_option("--file", file_,
                  "a file with one text per line, plain or .gz or .zst, instead of TEXT...");
  verb.add_flag("--truncate,!--no-truncate", truncate_,
                fmt::format("cut texts that are longer than the model can read [{}]",
                            truncate ? "on" : "off"));
  verb.add_option("--on-error", on_error_,
                  "a text that can't be used. skip: it costs its own result alone, and exit code 3 "
                  "at the end; stop: it ends the verb")
      ->check(CLI::IsMember({"skip", "stop"}))
      ->capture_default_str();
}

std::vector<std::string> TextInput::arguments() const {
  std::vector<std::string> texts;
  if (verb_->get_option("TEXT...")->count() > 0) texts.push_back(first_);
  bool only_texts = false;  // after "--"
  for (const std::string& argument : verb_->remaining()) {
    if (!only_texts && argument == "--") {
      only_texts = true;
      continue;
    }
    MB_CHECK(only_texts || argument.size() < 2 || argument[0] != '-',
             "{}: there is no flag {}.{} --help lists them; write -- before the first text if one "
             "starts with -",
             verb_->get_name(), argument,
             did_you_mean(argument.substr(0, argument.find('=')), flags_of(*verb_)));
    texts.push_back(argument);
  }
  return texts;
}

TextInput::Source TextInput::open() const {
  Source source;
  source.arguments_ = arguments();
  MB_CHECK(source.arguments_.empty() || file_.empty(),
           "texts are given both as arguments and with --file, expected only one of the two");
  if (!source.arguments_.empty()) return source;
  if (file_.empty() && isatty(STDIN_FILENO))
    fmt::print(stderr, "Type one text per line; Ctrl-D ends.\n");
  source.reader_.emplace(file_.empty() ? "-" : file_, LineReader::Empty::allowed);
  return source;
}

bool TextInput::Source::next(std::string& text) {
  if (reader_) return reader_->next(text);
  if (next_ == arguments_.size()) return false;
  text = arguments_[next_++];
  replace_invalid_utf8(text);
  return true;
}

namespace {

/// "text 3 ("the old ...")": how messages name a text; `number` from 1.
std::string describe_text(int64_t number, const std::string& text) {
  constexpr size_t kShown = 40;
  return fmt::format("text {} (\"{}{}\")", number, text.substr(0, kShown),
                     text.size() > kShown ? "..." : "");
}

/// Texts of a group in order, those that can't be used among them.
struct Group {
  std::vector<EncodedText> texts;   // that can be used
  std::vector<std::string> errors;  // of the others: what is printed for them, "" for people
  std::vector<bool> usable;         // in order: whether the next one is of `texts` or of `errors`
  size_t tokens = 0;
};

class TextRun {
 public:
  TextRun(const ModelFolder& folder, const TextInput& input, const TextUse& use)
      : folder_(folder), input_(input), use_(use), source_(input.open()) {}

  void run() {
    std::string text;
    while (source_.next(text)) {
      add(text);
      if (group_.tokens >= kTokensAtATime || !source_.ready()) flush();
    }
    flush();
    report();
  }

 private:
  void add(const std::string& text) {
    ++texts_;
    EncodedText encoded{text, folder_.tokenizer.encode_with_special_tokens(text)};
    const auto limit = static_cast<size_t>(use_.max_tokens);
    std::string objection;
    if (encoded.ids.size() > limit && input_.truncate()) {
      cut_text(encoded, limit);
    } else if (encoded.ids.size() > limit) {
      objection = fmt::format(
          "has {} tokens with [CLS] and [SEP], expected at most {}, which the model can read. "
          "Shorten it, split it, or give --truncate",
          encoded.ids.size(), limit);
    }
    if (objection.empty()) objection = rowless_token(encoded);
    if (objection.empty()) objection = use_.objection(encoded);
    if (!objection.empty()) return refuse(text, objection);
    if (group_.tokens + encoded.ids.size() > kTokensAtATime) flush();
    group_.tokens += encoded.ids.size();
    group_.texts.push_back(std::move(encoded));
    group_.usable.push_back(true);
  }

  /// A special token that no file lists may have an id beyond the model's rows.
  std::string rowless_token(const EncodedText& text) const {
    const int64_t rows = folder_.model.config().vocab_size;
    for (const int32_t id : text.ids)
      if (id >= rows)
        return fmt::format("has the token {} (id {}), for which the model has no row (it has {})",
                           folder_.tokenizer.vocab().token(id), id, rows);
    return "";
  }

  /// The first tokens and [SEP], as Transformers' truncation leaves them.
  void cut_text(EncodedText& text, size_t limit) {
    text.ids.resize(limit);
    text.ids.back() = folder_.tokenizer.vocab().sep_id();
    text.cut = true;
    ++cut_;
  }

  void refuse(const std::string& text, const std::string& objection) {
    const std::string message = describe_text(texts_, text) + " " + objection;
    if (input_.stops()) {
      flush();
      fail<DataError>("{}", message);
    }
    ++refused_;
    fmt::print(stderr, "error: {}\n", message);
    const nlohmann::ordered_json object = {{"text", text}, {"error", objection}};
    group_.errors.push_back(use_.json ? json_text(object) + "\n" : "");
    group_.usable.push_back(false);
  }

  /// Computes and prints the group's results.
  void flush() {
    std::vector<std::string> results;
    if (!group_.texts.empty()) {
      const NoGrad guard;
      std::vector<std::vector<int32_t>> ids;
      for (const EncodedText& text : group_.texts) ids.push_back(text.ids);
      const BertForPreTraining& model = folder_.model;
      const PackedBatch batch = pack_sequences(ids, model.limits());
      const Variable hidden = model.encode(upload(batch, model.device()), StepContext{});
      results = use_.print(group_.texts, batch, hidden);
    }
    size_t result = 0, error = 0;
    for (const bool usable : group_.usable)
      fmt::print("{}", usable ? results[result++] : group_.errors[error++]);
    std::fflush(stdout);
    group_ = {};
    show_progress();
  }

  /// A line that is written over, for someone who waits at a terminal for a file of results.
  void show_progress() {
    static const bool watched = isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO);
    if (!watched || seconds_now() - shown_ < kProgressSeconds) return;
    shown_ = seconds_now();
    fmt::print(stderr, "\r{} texts, {:.0f} a second ", texts_,
               static_cast<double>(texts_) / std::max(shown_ - begun_, 1e-3));
  }

  void report() {
    if (shown_ > 0) fmt::print(stderr, "\n");
    if (cut_ > 0)
      fmt::print(stderr,
                 "note: {} of {} texts were cut to {} tokens (--no-truncate refuses them)\n", cut_,
                 texts_, use_.max_tokens);
    const SourceStats* stats = source_.stats();
    if (stats && stats->invalid_bytes > 0)
      fmt::print(stderr,
                 "note: {} bytes are not UTF-8 (first in line {}); they were replaced by U+FFFD, "
                 "which BERT drops\n",
                 stats->invalid_bytes, stats->first_invalid_line);
    MB_CHECK_AS(DataError, refused_ == 0, "{} of {} texts could not be used: see above", refused_,
                texts_);
  }

  const ModelFolder& folder_;
  const TextInput& input_;
  const TextUse& use_;
  TextInput::Source source_;
  Group group_;
  int64_t texts_ = 0, cut_ = 0, refused_ = 0;
  double begun_ = seconds_now(), shown_ = 0;
};

}  // namespace

void run_on_texts(const ModelFolder& folder, const TextInput& input, const TextUse& use) {
  TextRun(folder, input, use).run();
}

}  // namespace minibert
