// text_fuzz.cpp: any bytes as a text: to words, ids and back, and into sentences. The first byte
// chooses the tokenizer's options. Readers: models/text/wordpiece.h,
// models/text/sentence_splitter.h, models/text/text_reader.h.
#include "models/text/sentence_splitter.h"
#include "models/text/text_reader.h"
#include "models/text/unicode.h"
#include "models/text/wordpiece.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {
namespace {

const Vocab& vocabulary() {
  static const Vocab vocab = Vocab::from_tokens(
      {"[PAD]", "[UNK]", "[CLS]", "[SEP]",    "[MASK]", "a", "##a",          "b",
       "##b",   "ab",    "##c",   "\xC3\xA4", ".",      "'", "\xE4\xB8\xAD", "##\xCC\x81",
       "s",     "##1",   "1",     "don",      "t"},
      "the target's vocabulary");
  return vocab;
}

/// Options by the bits of a byte.
const WordPieceTokenizer& tokenizer(uint8_t bits) {
  static const std::vector<WordPieceTokenizer> all = [] {
    std::vector<WordPieceTokenizer> tokenizers;
    for (int i = 0; i < 32; ++i)
      tokenizers.emplace_back(vocabulary(),
                              TokenizerOptions{.lowercase = (i & 1) != 0,
                                               .strip_accents = (i & 2) != 0,
                                               .split_chinese = (i & 4) != 0,
                                               .recognise_special_tokens = (i & 8) != 0,
                                               .clean_text = (i & 16) != 0});
    return tokenizers;
  }();
  return all[bits % all.size()];
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const WordPieceTokenizer& words = tokenizer(static_cast<uint8_t>(input[0]));
  input.remove_prefix(1);
  const std::vector<int32_t> ids = words.encode(input);
  for (const int32_t id : ids)
    claim(id >= 0 && id < vocabulary().size(), "an id is in the vocabulary");
  words.decode(ids);
  std::string clean(input);
  const bool replaced = replace_invalid_utf8(clean) > 0;
  claim(replaced == (count_invalid_utf8(input) > 0), "both find malformed bytes");
  claim(count_invalid_utf8(clean) == 0, "a cleaned text is UTF-8");
  claim(words.encode(clean) == ids, "malformed bytes count as U+FFFD");
  size_t sum = 0;
  for (const std::string_view sentence : split_sentences(clean)) {
    claim(!sentence.empty(), "no sentence is empty");
    sum += sentence.size();
  }
  claim(sum <= clean.size(), "sentences are parts of the text");
}

std::vector<std::string> seeds() {
  return {
      "\x1f"
      "Ab ba c. [MASK] don't 1 'a' b!",
      "\x1e"
      "\xC3\x84 e\xCC\x81 \xE4\xB8\xAD\xE6\x96\x87 \xEA\xB0\x80 \xF0\x9F\x98\x80 \xE2\x80\x8B",
      "\x0f"
      "Mr. Darcy went. \"What!\" cried she--No. 5 was J. R. R. I. He said e.g. this\xE2\x80\xA6 "
      "And",
      "\x03"
      "bad \xff\xfe\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82 text"};
}

}  // namespace minibert::fuzz
