// config_fuzz.cpp: config.json of a model. Reader: models/bert/config.h.
#include "models/bert/config.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {

void fuzz(std::string_view input) {
  succeeds([&] {
    const BertConfig config = BertConfig::from_json(std::string(input), "config.json");
    config.gelu();
    claim(config.padded_vocab_size() >= config.vocab_size && config.head_size() > 0,
          "sizes are sizes");
    claim(BertConfig::from_json(config.to_json(), "again") == config,
          "a configuration comes back from its text");
  });
}

std::vector<std::string> seeds() {
  BertConfig labelled = BertConfig::named("bert-tiny");
  labelled.labels = {"no", "yes"};
  labelled.hidden_act = "gelu_new";
  return {BertConfig().to_json(), labelled.to_json("BertForSequenceClassification"), "{}",
          deep_json("vocab_size")};
}

}  // namespace minibert::fuzz
