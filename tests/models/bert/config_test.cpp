// config_test.cpp: config.json in and out, what is refused, and the sizes of the named models.
#include "models/bert/config.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace minibert {
namespace {

std::string refusal(const std::string& text) {
  try {
    BertConfig::from_json(text, "dir/config.json");
  } catch (const DataError& error) {
    return error.what();
  }
  return "(accepted)";
}

TEST(BertConfig, ReadsWhatTransformersWrites) {
  // What BertConfig(vocab_size=100, hidden_size=32, ...).save_pretrained wrote (Transformers 5.23).
  const BertConfig config = BertConfig::from_json(R"({
    "add_cross_attention": false, "architectures": ["BertForPreTraining"],
    "attention_probs_dropout_prob": 0.2, "bos_token_id": null, "classifier_dropout": null,
    "dtype": "float32", "eos_token_id": null, "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.3, "hidden_size": 32, "initializer_range": 0.06,
    "intermediate_size": 64, "is_decoder": false, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 40, "model_type": "bert", "num_attention_heads": 2,
    "num_hidden_layers": 1, "pad_token_id": 3, "tie_word_embeddings": true,
    "transformers_version": "5.23.0", "type_vocab_size": 4, "use_cache": true, "vocab_size": 100})",
                                                  "config.json");
  BertConfig expected;
  expected.vocab_size = 100;
  expected.hidden_size = 32;
  expected.num_hidden_layers = 1;
  expected.num_attention_heads = 2;
  expected.intermediate_size = 64;
  expected.hidden_act = "gelu_new";
  expected.hidden_dropout_prob = 0.3f;
  expected.attention_probs_dropout_prob = 0.2f;
  expected.max_position_embeddings = 40;
  expected.type_vocab_size = 4;
  expected.initializer_range = 0.06f;
  expected.pad_token_id = 3;
  EXPECT_EQ(config, expected);
  EXPECT_EQ(config.gelu(), Gelu::tanh);
  EXPECT_EQ(config.padded_vocab_size(), 128);
}

TEST(BertConfig, SurvivesJson) {
  BertConfig config = BertConfig::named("bert-mini");
  config.hidden_dropout_prob = 0.15f;
  config.layer_norm_eps = 1e-7f;
  config.initializer_range = 0.06f;
  EXPECT_EQ(BertConfig::from_json(config.to_json(), "text"), config);
  EXPECT_NE(config.to_json().find("\"initializer_range\": 0.06,"), std::string::npos);
}

// Which function each name of Transformers' ACT2FN computes was found by comparing it over [-8, 8]
// with torch.nn.functional.gelu (Transformers 5.23).
TEST(BertConfig, TakesEveryNameOfTheTwoGelus) {
  for (const char* name : {"gelu", "gelu_python"}) {
    const std::string text = fmt::format(R"({{"hidden_act":"{}"}})", name);
    const BertConfig config = BertConfig::from_json(text, "text");
    EXPECT_EQ(config.gelu(), Gelu::erf) << name;
    EXPECT_EQ(config.hidden_act, name);  // written back as it was read
  }
  for (const char* name :
       {"gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"}) {
    const std::string text = fmt::format(R"({{"hidden_act":"{}"}})", name);
    EXPECT_EQ(BertConfig::from_json(text, "text").gelu(), Gelu::tanh) << name;
  }
}

TEST(BertConfig, RefusesWhatItCannotCompute) {
  const auto expect = [](const std::string& text, const std::string& says) {
    const std::string message = refusal(text);
    EXPECT_NE(message.find(says), std::string::npos) << text << "\n  " << message;
    EXPECT_NE(message.find("dir/config.json"), std::string::npos) << message;
  };
  expect(R"({"hidden_act":"relu"})", "hidden_act is \"relu\"");
  expect(R"({"model_type":"roberta"})", "model_type is \"roberta\"");
  expect(R"({"position_embedding_type":"relative_key"})", "position_embedding_type");
  expect(R"({"is_decoder":true})", "is_decoder is true");
  expect(R"({"tie_word_embeddings":"no"})", "tie_word_embeddings is \"no\"");
  expect(R"({"hidden_size":100})", "hidden_size is 100, expected a multiple of");
  expect(R"({"hidden_size":"100"})", "hidden_size is \"100\"");
  expect(R"({"hidden_size":0})", "hidden_size is 0");
  expect(R"({"hidden_size":1e3})", "expected a whole number");
  expect(R"({"num_attention_heads":0})", "num_attention_heads is 0");
  expect(R"({"num_attention_heads":1})", "hidden_size / num_attention_heads is 768");
  expect(R"({"vocab_size":-5})", "vocab_size is -5");
  expect(R"({"vocab_size":18446744073709551615})", "expected a whole number");
  expect(R"({"num_hidden_layers":65})", "num_hidden_layers is 65");
  expect(R"({"hidden_dropout_prob":1.0})", "hidden_dropout_prob is 1");
  expect(R"({"attention_probs_dropout_prob":-0.1})", "attention_probs_dropout_prob");
  expect(R"({"hidden_act":"quick_gelu"})", "hidden_act is \"quick_gelu\"");
  expect(R"({"layer_norm_eps":-1})", "layer_norm_eps is -1, expected a small number above 0");
  expect(R"({"layer_norm_eps":0})", "Set it to 1e-12");
  expect(R"({"layer_norm_eps":1e-60})", "layer_norm_eps is 0,");  // 0 in f32
  expect(R"({"pad_token_id":30522})", "pad_token_id is 30522");
  expect(R"({"pad_token_id":-30523})", "pad_token_id is -30523");
  expect("[]", "is not a JSON object");
  expect("", "not JSON");
}

TEST(BertConfig, KnowsTheNamedSizes) {
  struct Size {
    const char* name;
    int64_t layers, hidden, heads, feed_forward;
  };
  for (const Size& size :
       {Size{"bert-tiny", 2, 128, 2, 512}, Size{"bert-mini", 4, 256, 4, 1024},
        Size{"bert-small", 4, 512, 8, 2048}, Size{"bert-base", 12, 768, 12, 3072},
        Size{"bert-large", 24, 1024, 16, 4096}}) {
    const BertConfig config = BertConfig::named(size.name);
    EXPECT_EQ(config.num_hidden_layers, size.layers) << size.name;
    EXPECT_EQ(config.hidden_size, size.hidden) << size.name;
    EXPECT_EQ(config.num_attention_heads, size.heads) << size.name;
    EXPECT_EQ(config.intermediate_size, size.feed_forward) << size.name;
  }
  EXPECT_THROW(BertConfig::named("bert-huge"), UsageError);
}

}  // namespace
}  // namespace minibert
