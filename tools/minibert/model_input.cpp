// model_input.cpp: opening a folder, reading texts, encoding them in groups.
#include "tools/minibert/model_input.h"

#include <cstdio>
#include <filesystem>
#include <mutex>
#include <utility>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/nearest_name.h"
#include "core/parallel.h"
#include "models/bert/inference.h"
#include "models/text/json_text.h"
#include "models/text/tokenizer_config.h"
#include "models/text/tokenizer_folder.h"
#include "tools/minibert/status_line.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

constexpr size_t kGroupTokens = 2048;               // limits the memory of activations
constexpr size_t kWindowBytes = size_t{256} << 10;  // of text, read before its groups are computed
constexpr int64_t kEncodeGrain = 16;                // texts

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
  return {std::move(loaded.model), std::move(found.tokenizer), load_cuts_left(folder)};
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
  std::error_code error;
  const char* const path = file_.empty() || file_ == "-" ? "/dev/stdin" : file_.c_str();
  if (std::filesystem::is_regular_file(path, error) && !error)
    source.file_bytes_ = static_cast<int64_t>(std::filesystem::file_size(path, error));
  return source;
}

bool TextInput::Source::next(std::string& text) {
  if (reader_) return reader_->next(text);
  if (next_ == arguments_.size()) return false;
  text = arguments_[next_++];
  replace_invalid_utf8(text);
  return true;
}

std::optional<double> TextInput::Source::share_read() const {
  if (!reader_) return static_cast<double>(next_) / static_cast<double>(arguments_.size());
  if (file_bytes_ <= 0) return {};
  return static_cast<double>(reader_->stats().file_bytes) / static_cast<double>(file_bytes_);
}

namespace {

/// "text 3 ("the old ...")": how messages name a text; `number` from 1.
std::string describe_text(int64_t number, const std::string& text) {
  constexpr size_t kShown = 40;
  return fmt::format("text {} (\"{}{}\")", number, text.substr(0, kShown),
                     text.size() > kShown ? "..." : "");
}

/// A text of the window, and what becomes of it.
struct WindowText {
  EncodedText encoded;
  int64_t number = 0;     // of the text, from 1
  std::string objection;  // why it can't be used; "" if it can
  std::string result;     // what is printed for it
};

class TextRun {
 public:
  TextRun(const ModelFolder& folder, const TextInput& input, const TextUse& use)
      : folder_(folder), input_(input), use_(use), source_(input.open()) {}

  void run() {
    while (read_window()) {
      encode();
      const bool stops = judge();
      compute();
      print();
      if (stops) fail<DataError>("{}", stopping_);
    }
    report();
  }

 private:
  /// What can be read without waiting for somebody to write, but some text. False at the end.
  bool read_window() {
    window_.clear();
    share_before_ = source_.share_read();
    size_t bytes = 0;
    std::string text;
    while (source_.next(text)) {
      bytes += text.size();
      window_.push_back({{std::move(text), {}}, ++texts_, {}, {}});
      if (bytes >= kWindowBytes || !source_.ready()) break;
    }
    return !window_.empty();
  }

  void encode() {
    const auto texts = static_cast<int64_t>(window_.size());
    parallel_for(texts, kEncodeGrain, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        EncodedText& encoded = window_[i].encoded;
        encoded.ids = folder_.tokenizer.encode_with_special_tokens(use_.prompt + encoded.text);
      }
    });
  }

  /// Cuts what is too long and finds what can't be used. True if that ends the verb: the window
  /// then ends before it.
  bool judge() {
    for (size_t i = 0; i < window_.size(); ++i) {
      WindowText& text = window_[i];
      text.objection = objection_to(text.encoded);
      if (text.objection.empty()) continue;
      if (input_.stops()) {
        stopping_ = describe_text(text.number, text.encoded.text) + " " + text.objection;
        window_.resize(i);
        return true;
      }
      ++refused_;
      const nlohmann::ordered_json object = {{"text", text.encoded.text},
                                             {"error", text.objection}};
      if (use_.json) text.result = json_text(object) + "\n";
    }
    return false;
  }

  std::string objection_to(EncodedText& text) {
    const auto limit = static_cast<size_t>(use_.max_tokens);
    if (text.ids.size() > limit && !input_.truncate()) {
      return fmt::format(
          "has {} tokens with [CLS] and [SEP], expected at most {}, which the model can read. "
          "Shorten it, split it, or give --truncate",
          text.ids.size(), limit);
    }
    if (text.ids.size() > limit) cut_text(text, limit);
    const std::string objection = rowless_token(text);
    return objection.empty() ? use_.objection(text) : objection;
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

  /// The first tokens, or the last ones, as Transformers' truncation leaves them.
  void cut_text(EncodedText& text, size_t limit) {
    cut_ids(text.ids, limit, folder_.cuts_left);
    text.cut = true;
    ++cut_;
  }

  /// Consecutive texts that can be used, kGroupTokens at most unless one alone has more. Nothing
  /// pads, so that sorting them by length would win nothing.
  std::vector<std::vector<WindowText*>> groups() {
    std::vector<std::vector<WindowText*>> groups;
    size_t tokens = 0;
    for (WindowText& text : window_) {
      if (!text.objection.empty()) continue;
      if (groups.empty() || tokens + text.encoded.ids.size() > kGroupTokens) {
        groups.emplace_back();
        tokens = 0;
      }
      groups.back().push_back(&text);
      tokens += text.encoded.ids.size();
    }
    return groups;
  }

  /// A group a thread: they need not wait for each other at each op, as the threads of one group would.
  void compute() {
    const std::vector<std::vector<WindowText*>> all = groups();
    const auto compute_one = [&](int64_t group) { compute(all[static_cast<size_t>(group)]); };
    const auto number = static_cast<int64_t>(all.size());
    computed_ = 0;
    if (folder_.model.device() == Device::cpu) return parallel_blocks(number, compute_one);
    for (int64_t group = 0; group < number; ++group) compute_one(group);
  }

  void compute(const std::vector<WindowText*>& group) {
    const NoGrad guard;
    std::vector<EncodedText> texts;
    std::vector<std::vector<int32_t>> ids;
    for (WindowText* text : group) {
      ids.push_back(text->encoded.ids);
      texts.push_back(std::move(text->encoded));
    }
    const BertForPreTraining& model = folder_.model;
    const PackedBatch batch = pack_sequences(ids, model.limits());
    const Variable hidden = model.encode(upload(batch, model.device()), StepContext{});
    std::vector<std::string> results = use_.print(texts, batch, hidden);
    for (size_t i = 0; i < group.size(); ++i) group[i]->result = std::move(results[i]);
    show_progress(group.size());
  }

  void show_progress(size_t computed) {
    const std::lock_guard lock(status_mutex_);
    computed_ += static_cast<int64_t>(computed);
    std::optional<double> share = source_.share_read();
    const auto window = static_cast<int64_t>(window_.size());
    if (share && share_before_)
      *share = *share_before_ + (*share - *share_before_) * static_cast<double>(computed_) /
                                    static_cast<double>(window);
    status_.show(texts_ - window + computed_, share);
  }

  void print() {
    for (const WindowText& text : window_) {
      if (!text.objection.empty()) {
        status_.clear();
        fmt::print(stderr, "error: {} {}\n", describe_text(text.number, text.encoded.text),
                   text.objection);
      }
      fmt::print("{}", text.result);
    }
    std::fflush(stdout);
  }

  void report() {
    status_.clear();
    if (cut_ > 0)
      fmt::print(stderr,
                 "note: {} of {} texts were cut to {} tokens (--no-truncate refuses them)\n", cut_,
                 texts_, use_.max_tokens);
    const SourceStats* stats = source_.stats();
    const std::string note = stats ? encoding_note(*stats) : "";
    if (!note.empty()) fmt::print(stderr, "note: {}\n", note);
    MB_CHECK_AS(DataError, refused_ == 0, "{} of {} texts could not be used: see above", refused_,
                texts_);
  }

  const ModelFolder& folder_;
  const TextInput& input_;
  const TextUse& use_;
  TextInput::Source source_;
  std::vector<WindowText> window_;
  std::optional<double> share_before_;  // of the texts, before the window
  std::string stopping_;                // the message that ends the verb
  int64_t texts_ = 0, cut_ = 0, refused_ = 0;
  std::mutex status_mutex_;
  int64_t computed_ = 0;  // texts of the window
  StatusLine status_;
};

}  // namespace

void run_on_texts(const ModelFolder& folder, const TextInput& input, const TextUse& use) {
  TextRun(folder, input, use).run();
}

}  // namespace minibert
