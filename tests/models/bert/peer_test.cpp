// peer_test.cpp: our folders in Transformers and Transformers' folders here, and the verbs that use
// them. Needs the development-only Python of MINIBERT_PYTHON (tools/install-peers); what it
// computes is written by peer.py beside this file.
#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "models/bert/hugging_face.h"
#include "models/bert/inference.h"
#include "models/text/atomic_file.h"
#include "models/text/tokenizer_config.h"
#include "models/text/tokenizer_folder.h"
#include "models/text/vocab.h"
#include "tests/process.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::near;
using testing::ProcessResult;
using testing::run_process;
using testing::Tolerance;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

PackedBatch batch_below(int32_t vocab_size) {
  RandomStream stream(17, StreamPurpose::user, 0);
  std::vector<std::vector<int32_t>> sequences;
  for (const int length : {19, 1, 40, 2, 7}) {
    std::vector<int32_t>& ids = sequences.emplace_back();
    for (int i = 0; i < length; ++i) {
      ids.push_back(static_cast<int32_t>(stream.below(static_cast<uint32_t>(vocab_size))));
    }
  }
  PackedBatch batch = pack_sequences(sequences, {vocab_size, 40, 2});
  for (int64_t t = 0; t < batch.rows(); ++t) {
    batch.segment.data<int32_t>()[t] = static_cast<int32_t>(stream.below(2));
  }
  return batch;
}

/// Rows 0 .. T - 1.
Tensor every_row(const PackedBatch& batch) {
  std::vector<int32_t> rows(static_cast<size_t>(batch.tokens()));
  for (size_t t = 0; t < rows.size(); ++t) rows[t] = static_cast<int32_t>(t);
  return Tensor::from<int32_t>(rows, {batch.tokens()});
}

BertConfig small_config(int64_t vocab_size) {
  BertConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 32;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.intermediate_size = 48;
  config.max_position_embeddings = 40;
  config.initializer_range = 0.3f;
  return config;
}

/// A model in which nothing is 0 or 1, LayerNorms and biases included.
BertForPreTraining random_model(int64_t vocab_size, const BertParts& parts = {}) {
  BertConfig config = small_config(vocab_size);
  if (parts.classes > 0) config.labels = {"no", "yes", "perhaps"};
  BertForPreTraining model(config, ModelUse::inference, parts);
  model.initialize(11);
  RandomStream stream(12, StreamPurpose::user, 0);
  for (int i = 0; i < model.arena().table().count(); ++i) {
    const auto used = static_cast<size_t>(model.arena().table()[i].used());
    for (float& x : model.arena().weight(i).span<float>().first(used)) {
      x += static_cast<float>(0.2 * stream.normal());
    }
  }
  return model;
}

void expect_outputs(const BertForPreTraining& model, const PackedBatch& batch,
                    const SafetensorsFile& expected) {
  const NoGrad guard;
  const DeviceBatch there = upload(batch, model.device());
  const Variable hidden = model.encode(there, {});
  EXPECT_TRUE(near("hidden", hidden.value(), expected.read("hidden"), Tolerance::model));
  if (!expected.find("mlm_logits")) return;
  EXPECT_TRUE(near("mlm_logits", model.mlm_logits(hidden, every_row(batch)),
                   expected.read("mlm_logits"), Tolerance::model));
  EXPECT_TRUE(near("nsp_logits", model.nsp_logits(hidden, there), expected.read("nsp_logits"),
                   Tolerance::model));
}

/// The heads of fine-tuning, by peer.py's names.
const std::vector<std::pair<std::string, BertParts>> kHeads = {
    {"answers", parts_for(Objective::question_answering)},
    {"classes", parts_for(Objective::classification, 3)}};

void expect_logits(const BertForPreTraining& model, const PackedBatch& batch,
                   const SafetensorsFile& expected) {
  const NoGrad guard;
  const DeviceBatch there = upload(batch, model.device());
  const Variable hidden = model.encode(there, {});
  const Tensor logits =
      model.parts().span_head ? model.span_scores(hidden) : model.class_scores(hidden, there);
  EXPECT_TRUE(near("logits", logits, expected.read("logits"), Tolerance::model));
}

const std::vector<std::string> kMaskTexts = {"[MASK]", "The [MASK] said, [MASK] walking Elizabeth",
                                             "[MASK] walk, the [MASK]"};
const std::vector<std::string> kKinds = {"pretraining", "masked_lm", "encoder"};

/// One of our model folders, with a vocabulary.
void save_with_vocab(const fs::path& folder) {
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ","};
  for (char c = 'a'; c <= 'z'; ++c) {
    tokens.push_back(std::string(1, c));
    tokens.push_back("##" + std::string(1, c));
  }
  for (const char* word : {"the", "elizabeth", "##ing", "walk", "said"}) tokens.emplace_back(word);
  const auto vocab_size = static_cast<int64_t>(tokens.size());
  fs::create_directories(folder);
  Vocab::from_tokens(std::move(tokens), "test").save(folder / "vocab.txt");
  write_file_atomically(folder / kTokenizerConfigFile,
                        tokenizer_config_json(TokenizerOptions{}, 40));
  save_hugging_face(folder, random_model(vocab_size));
}

/// The Python program that the refusal of PyTorch's own format tells the user to run.
std::string conversion_program(const fs::path& folder) {
  fs::create_directories(folder);
  std::ofstream(folder / "pytorch_model.bin") << "x";
  try {
    load_hugging_face(folder);
  } catch (const DataError& error) {
    const std::string message = error.what();
    const std::string command = "python -c \"";
    const size_t from = message.find(command) + command.size();
    return message.substr(from, message.rfind('"') - from);
  }
  return "raise SystemExit('a folder with pytorch_model.bin was accepted')";
}

/// One run of peer.py serves all tests: the import of Transformers takes longer than they do.
class Peer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!fs::exists(environment("MINIBERT_PYTHON"))) return;
    folder() = fs::temp_directory_path() / fmt::format("minibert_peer_{}", ::getpid());
    fs::create_directories(path("ours"));
    save_hugging_face(path("ours"), random_model(131));
    for (const auto& [kind, parts] : kHeads) {
      fs::create_directories(path("our_" + kind));
      save_hugging_face(path("our_" + kind), random_model(131, parts));
    }
    save_with_vocab(path("with_vocab"));
    write_batch("batch131", batch_below(131));
    write_batch("batch70", batch_below(70));
    std::vector<std::string> words = {
        environment("MINIBERT_PYTHON"),
        environment("MINIBERT_SOURCE_DIR") + "/tests/models/bert/peer.py"};
    const auto add = [&](const std::vector<std::string>& command) {
      if (words.size() > 2) words.emplace_back("+");
      words.insert(words.end(), command.begin(), command.end());
    };
    add({"check", path("ours"), path("batch131"), path("ours.out")});
    for (const std::string& kind : kKinds) {
      add({"make", kind, path(kind)});
      const char* command = kind == "pretraining" ? "check" : "hidden";
      add({command, path(kind), path("batch70"), path(kind + ".out")});
    }
    for (const auto& [kind, parts] : kHeads) {
      add({"head", kind, path("our_" + kind), path("batch131"), path("our_" + kind + ".out")});
      add({"make", kind, path(kind)});
      add({"head", kind, path(kind), path("batch70"), path(kind + ".out")});
    }
    add({"make", "bin", path("IN")});
    add({"convert", folder(), conversion_program(path("IN"))});
    write_file_atomically(fs::path(path("IN")) / "vocab.txt", "[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
    add({"check", path("IN"), path("batch70"), path("IN.out")});
    add({"minilm", path("minilm")});
    add({"fill_mask", path("with_vocab"), path("fill_mask.json")});
    words.insert(words.end(), kMaskTexts.begin(), kMaskTexts.end());
    result() = run_process(words);
  }
  static void TearDownTestSuite() {
    if (!folder().empty()) fs::remove_all(folder());
  }
  void SetUp() override {
    if (folder().empty()) {
      GTEST_SKIP() << "needs Transformers: run tools/install-peers (MINIBERT_PYTHON is \""
                   << environment("MINIBERT_PYTHON") << "\")";
    }
    ASSERT_EQ(result().exit_code, 0) << result().err;
  }

  static fs::path& folder() {
    static fs::path path;
    return path;
  }
  static ProcessResult& result() {
    static ProcessResult result;
    return result;
  }
  static std::string path(const std::string& name) { return (folder() / name).string(); }
  static json read_json(const char* name) { return json::parse(std::ifstream(path(name))); }
  static void write_batch(const char* name, const PackedBatch& batch) {
    const NamedTensor tensors[] = {
        {"ids", batch.ids}, {"segment", batch.segment}, {"cu_seqlens", batch.cu_seqlens}};
    write_safetensors(path(name), tensors);
  }
};

TEST_F(Peer, TransformersLoadsOurFolderWithTheSameLogits) {
  expect_outputs(random_model(131), batch_below(131), SafetensorsFile(path("ours.out")));
}

TEST_F(Peer, WeLoadTransformersFoldersWithTheSameLogits) {
  for (const std::string& kind : kKinds) {
    const LoadedBert loaded = load_hugging_face(path(kind));
    EXPECT_TRUE(loaded.unused.empty()) << kind << ": " << loaded.unused[0];
    EXPECT_EQ(loaded.model.parts() == BertParts{}, kind == "pretraining");
    expect_outputs(loaded.model, batch_below(70), SafetensorsFile(path(kind + ".out")));
  }
}

TEST_F(Peer, HeadsOfFineTuningHaveTheSameLogitsBothWays) {
  for (const auto& [kind, parts] : kHeads) {
    SCOPED_TRACE(kind);
    expect_logits(random_model(131, parts), batch_below(131),
                  SafetensorsFile(path("our_" + kind + ".out")));
    const LoadedBert loaded = load_hugging_face(path(kind));
    EXPECT_TRUE(loaded.unused.empty()) << loaded.unused[0];
    EXPECT_EQ(loaded.model.parts(), parts);
    if (parts.classes > 0)
      EXPECT_EQ(loaded.model.config().labels, (std::vector<std::string>{"no", "yes", "perhaps"}));
    expect_logits(loaded.model, batch_below(70), SafetensorsFile(path(kind + ".out")));
  }
}

// The refusal of PyTorch's own format names a command; peer.py has run it. The folder is whole then.
TEST_F(Peer, TheCommandThatConvertsPytorchFilesWorks) {
  expect_outputs(load_hugging_face(path("IN")).model, batch_below(70),
                 SafetensorsFile(path("IN.out")));
  EXPECT_EQ(open_vocabulary(path("IN")).size(), 4);
}

TEST_F(Peer, MiniLmGivesTheSameStatesAndSentenceVectors) {
  const json facts = read_json("minilm.json");
  const SafetensorsFile expected(path("minilm.safetensors"));
  const std::string folder = facts["folder"];
  const LoadedBert loaded = load_hugging_face(folder);
  const auto ids = facts["ids"].get<std::vector<std::vector<int32_t>>>();
  const PackedBatch batch = pack_sequences(ids, loaded.model.limits());
  expect_outputs(loaded.model, batch, expected);

  const NoGrad guard;
  const Tensor vectors =
      sentence_vectors(loaded.model.encode(upload(batch, loaded.model.device()), {}).value(), batch,
                       Pooling::mean, /* normalize= */ true);
  EXPECT_TRUE(near("vectors", vectors, expected.read("vectors"), Tolerance::sentence_vector));

  std::string input;
  for (const std::string text : facts["texts"]) input += text + "\n";
  const ProcessResult result = run_process({environment("MINIBERT_BINARY"), "embed", "--model",
                                            folder, "--pooling", "mean", "--normalize", "--json"},
                                           input);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  std::istringstream lines(result.out);
  std::string line;
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_TRUE(std::getline(lines, line));
    const json object = json::parse(line);
    EXPECT_EQ(object["text"], facts["texts"][i]);
    EXPECT_EQ(object["ids"], facts["ids"][i]);
    EXPECT_TRUE(near("vector", object["vector"].get<std::vector<float>>(),
                     expected.read("vectors").rows(static_cast<int64_t>(i), 1).span<float>(),
                     Tolerance::sentence_vector));
  }
  EXPECT_FALSE(std::getline(lines, line));
}

TEST_F(Peer, FillMaskGivesTransformersCandidates) {
  const ProcessResult result =
      run_process({environment("MINIBERT_BINARY"), "fill-mask", "--model", path("with_vocab"),
                   "--json", kMaskTexts[0], kMaskTexts[1], kMaskTexts[2]});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::istringstream lines(result.out);
  for (const json& expected : read_json("fill_mask.json")) {
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    const json got = json::parse(line);
    EXPECT_EQ(got["text"], expected["text"]);
    EXPECT_EQ(got["ids"], expected["ids"]);
    ASSERT_EQ(got["masks"].size(), expected["masks"].size());
    for (size_t m = 0; m < got["masks"].size(); ++m) {
      const json &mask = got["masks"][m], &wanted = expected["masks"][m];
      EXPECT_EQ(mask["position"], wanted["position"]);
      ASSERT_EQ(mask["candidates"].size(), 5u);
      for (size_t k = 0; k < 5; ++k) {
        const json& candidate = mask["candidates"][k];
        EXPECT_EQ(candidate["id"], wanted["ids"][k]);
        EXPECT_EQ(candidate["token"], wanted["tokens"][k]);
        const float probability = wanted["probabilities"][k];
        EXPECT_NEAR(candidate["probability"].get<float>(), probability, Tolerance::model);
      }
    }
  }
}

}  // namespace
}  // namespace minibert
