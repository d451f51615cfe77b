// model_input.cpp: opening a folder, reading texts, encoding them in groups.
#include "tools/minibert/model_input.h"

#include <cstdio>
#include <fstream>
#include <iostream>

#include <unistd.h>

#include "core/nearest_name.h"
#include "models/bert/inference.h"
#include "models/text/tokenizer_config.h"
#include "models/text/unicode.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

constexpr int64_t kTokensAtATime = 4096;  // limits the memory of activations

std::vector<std::string> lines_of(std::istream& stream) {
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

}  // namespace

ModelFolder ModelFolder::open(const std::string& folder, const BertParts& required,
                              ComputeOptions compute) {
  LoadedBert loaded = load_hugging_face(folder, ModelUse::inference, required, compute);
  if (!loaded.unused.empty()) {
    fmt::print(stderr, "note: {} tensors of {} are not used: {}\n", loaded.unused.size(), folder,
               fmt::join(loaded.unused, ", "));
  }
  const std::filesystem::path vocab_file = std::filesystem::path(folder) / "vocab.txt";
  WordPieceTokenizer tokenizer(Vocab::load(vocab_file), load_tokenizer_config(folder));
  const int64_t tokens = tokenizer.vocab().size(), rows = loaded.model.config().vocab_size;
  MB_CHECK_AS(DataError, tokens <= rows,
              "{}: has {} tokens, expected at most {} (vocab_size in config.json). Vocabulary and "
              "model do not belong together",
              vocab_file.string(), tokens, rows);
  return {std::move(loaded.model), std::move(tokenizer)};
}

void TextInput::add_options(CLI::App& verb) {
  // A positional option takes the first text, and the others are CLI11's remaining arguments: an
  // option for many texts would read "[MASK] and [MASK]" as a list in brackets.
  verb_ = &verb;
  verb.add_option("TEXT...", first_,
                  "texts; without any, standard input is read, one text per line");
  verb.allow_extras();
  verb.add_option("--file", file_, "a file with one text per line, instead of TEXT...");
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

std::vector<std::string> TextInput::read() const {
  std::vector<std::string> texts = arguments();
  MB_CHECK(texts.empty() || file_.empty(),
           "texts are given both as arguments and with --file, expected only one of the two");
  if (!file_.empty()) {
    std::ifstream stream(file_, std::ios::binary);
    MB_CHECK_AS(DataError, stream.good() && !std::filesystem::is_directory(file_),
                "{}: cannot be read, expected a text file (--file)", file_);
    texts = lines_of(stream);
  } else if (texts.empty()) {
    if (isatty(STDIN_FILENO)) fmt::print(stderr, "Type one text per line; Ctrl-D ends.\n");
    texts = lines_of(std::cin);
  }
  size_t malformed = 0;
  for (const std::string& text : texts) malformed += count_invalid_utf8(text);
  if (malformed > 0) {
    fmt::print(stderr, "note: {} malformed UTF-8 sequences were dropped from the texts\n",
               malformed);
  }
  return texts;
}

std::string describe_text(const std::vector<std::string>& texts, size_t number) {
  constexpr size_t kShown = 40;
  const std::string& text = texts[number];
  return fmt::format("text {} (\"{}{}\")", number + 1, text.substr(0, kShown),
                     text.size() > kShown ? "..." : "");
}

std::vector<std::vector<int32_t>> encode_texts(const ModelFolder& folder,
                                               const std::vector<std::string>& texts) {
  const auto positions = static_cast<size_t>(folder.model.config().max_position_embeddings);
  std::vector<std::vector<int32_t>> ids;
  for (size_t i = 0; i < texts.size(); ++i) {
    ids.push_back(folder.tokenizer.encode_with_special_tokens(texts[i]));
    MB_CHECK_AS(DataError, ids[i].size() <= positions,
                "{} has {} tokens with [CLS] and [SEP], expected at most {} "
                "(max_position_embeddings of the model). Shorten it or split it",
                describe_text(texts, i), ids[i].size(), positions);
  }
  return ids;
}

void encode_in_groups(const BertForPreTraining& model, const std::vector<std::vector<int32_t>>& ids,
                      const std::function<void(size_t, const PackedBatch&, const Variable&)>& use) {
  const NoGrad guard;
  size_t first = 0;
  for (const size_t end : group_by_tokens(ids, kTokensAtATime)) {
    const PackedBatch batch =
        pack_sequences(std::span(ids).subspan(first, end - first), model.limits());
    use(first, batch, model.encode(upload(batch, model.device()), StepContext{}));
    first = end;
  }
}

}  // namespace minibert
