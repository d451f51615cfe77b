// tokenizer_fuzz.cpp: the files of a Transformers folder that say how to tokenize, and a text.
// Parts of an input: tokenizer.json, tokenizer_config.json, special_tokens_map.json,
// added_tokens.json, vocab.txt, the text. Reader: models/text/tokenizer_folder.h.
#include "models/text/tokenizer_config.h"
#include "models/text/tokenizer_folder.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {

void fuzz(std::string_view input) {
  const auto parts = parts_of(input, 6);
  constexpr const char* kFiles[] = {"tokenizer.json", "tokenizer_config.json",
                                    "special_tokens_map.json", "added_tokens.json", "vocab.txt"};
  for (size_t i = 0; i < std::size(kFiles); ++i) write_or_remove(kFiles[i], parts[i]);
  succeeds([&] {
    const FolderTokenizer opened = open_tokenizer_folder(folder());
    const WordPieceTokenizer& tokenizer = opened.tokenizer;
    opened.is_plain();
    const std::vector<int32_t> ids = tokenizer.encode_with_special_tokens(parts[5]);
    for (const int32_t id : ids) claim(id >= 0, "an id is a number of a token");
    tokenizer.decode(ids);
  });
  succeeds([&] { load_max_tokens(folder()); });
  succeeds(
      [&] { claim(!tokenizer_files(folder()).empty(), "a folder's files hold a vocabulary"); });
}

std::vector<std::string> seeds() {
  const std::string vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##b\n.\n";
  const std::string json =
      R"({"version":"1.0","added_tokens":[{"id":0,"content":"[PAD]","special":true,"normalized":false},)"
      R"({"id":9,"content":"<x>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":false}],)"
      R"("normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,)"
      R"("lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"TemplateProcessing",)"
      R"("single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},)"
      R"({"SpecialToken":{"id":"[SEP]","type_id":0}}],"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],)"
      R"("tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}},)"
      R"("model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",)"
      R"("max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"[MASK]":4,"a":5,"b":6,)"
      R"("##b":7,".":8}}})";
  const std::string steps =
      R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"Lowercase"},{"type":"StripAccents"}]},)"
      R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Punctuation",)"
      R"("behavior":"Isolated"}]},"post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},)"
      R"("model":{"vocab":{"[UNK]":1,"[CLS]":2,"[SEP]":3,"[MASK]":4,"a":5}}})";
  const std::string config =
      R"({"tokenizer_class":"BertTokenizer","do_lower_case":false,"model_max_length":512,"added_tokens_decoder":)"
      R"({"9":{"content":"<x>","special":true}},"additional_special_tokens":["<x>"],"unk_token":"[UNK]"})";
  return {
      joined({"", "", "", "", vocab, "ab b. [MASK]"}),
      joined({json, "", "", "", "", "a <x> b"}),
      joined({json, R"({"tokenizer_class":"PreTrainedTokenizerFast"})", "", "", "", "a b"}),
      joined({steps, R"({"tokenizer_class":"PreTrainedTokenizerFast"})", "", "", "", "\xC3\xA4 a"}),
      joined({"", config, "", "", vocab, "a <x> b"}),
      joined({"", "{}", R"({"pad_token":{"content":"[PAD]"},"sep_token":"[SEP]"})", R"({"<y>":9})",
              vocab, "a<y>"}),
      joined({deep_json("added_tokens"), deep_json("tokenizer_class")})};
}

}  // namespace minibert::fuzz
