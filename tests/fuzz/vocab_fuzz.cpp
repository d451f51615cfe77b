// vocab_fuzz.cpp: vocab.txt alone. Reader: models/text/vocab.h.
#include "models/text/vocab.h"
#include "models/text/wordpiece.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {

void fuzz(std::string_view input) {
  const auto path = write("vocab.txt", input);
  succeeds([&] {
    const Vocab vocab = Vocab::load(path);
    const std::string text = vocab.text();
    write("again.txt", text);
    claim(Vocab::load(folder() / "again.txt").text() == text,
          "a vocabulary comes back from its text");
    for (const auto& [token, id] : vocab.pieces())
      claim(vocab.id(token) == id, "a token has its id");
    const WordPieceTokenizer tokenizer(vocab, {});
    tokenizer.decode(tokenizer.encode_with_special_tokens(input));
  });
}

std::vector<std::string> seeds() {
  return {
      "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\n\nb\n",
      "\xEF\xBB\xBF[UNK]\r\n[CLS] \r\n[SEP]\r\n[MASK]\r\n\xC3\xA4\xE2\x80\x83\r\na\r\na\r\n\r\n"};
}

}  // namespace minibert::fuzz
