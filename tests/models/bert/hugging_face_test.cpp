// hugging_face_test.cpp: folders in all the forms in use, and what is wrong with others.
// That Transformers itself reads and writes the same is shown by peer_test.cpp.
#include "models/bert/hugging_face.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>

#include <gtest/gtest.h>
#include <unistd.h>

#include "models/bert/checkpoint_manifest.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;

BertConfig tiny_config() {
  BertConfig config;
  config.vocab_size = 70;  // 58 padding rows
  config.hidden_size = 8;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 20;
  config.max_position_embeddings = 12;
  return config;
}

class HuggingFace : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("minibert_hugging_face_{}_{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    model_.initialize(3);
    const Tensor weights = model_.arena().masters();
    for (const ParameterSlice& slice : model_.arena().table().slices()) {
      float* values = weights.data<float>() + slice.offset;  // nothing stays 0 or 1
      for (int64_t i = 0; i < slice.used(); ++i)
        values[i] += 0.001f * static_cast<float>(i % 97 + 1);
    }
    save_hugging_face(folder_, model_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::vector<NamedTensor> tensors() const {
    return named_slices(model_.arena().table(), model_.arena().masters());
  }
  /// Rewrites model.safetensors with its tensors as changed by `edit`.
  void rewrite(const std::function<void(std::vector<NamedTensor>&)>& edit) {
    std::vector<NamedTensor> edited = tensors();
    edit(edited);
    write_safetensors((folder_ / "model.safetensors").string(), edited);
  }
  void rename(const std::function<std::string(std::string)>& name_of) {
    rewrite([&](auto& all) {
      for (NamedTensor& named : all) named.name = name_of(named.name);
    });
  }
  void expect_loads() {
    const LoadedBert loaded = load_hugging_face(folder_);
    EXPECT_EQ(loaded.unused, std::vector<std::string>{});
    expect_weights(loaded.model);
  }
  void expect_weights(const BertForPreTraining& loaded) {
    const ParameterTable& table = loaded.arena().table();
    for (int i = 0; i < table.count(); ++i) {
      const Tensor got = loaded.arena().weight(i);
      const Tensor expected = model_.arena().weight(model_.arena().table().find(table[i].name));
      ASSERT_EQ(std::memcmp(got.raw(), expected.raw(), static_cast<size_t>(got.bytes())), 0)
          << table[i].name;
    }
  }
  std::string refusal(const BertParts& required = {false, false, false}) {
    try {
      load_hugging_face(folder_, ModelUse::inference, required);
    } catch (const DataError& error) {
      return error.what();
    }
    return "(accepted)";
  }
  void expect_refused(const std::string& says, const BertParts& required = {false, false, false}) {
    const std::string message = refusal(required);
    EXPECT_NE(message.find(says), std::string::npos) << message;
    EXPECT_NE(message.find(folder_.string()), std::string::npos) << message;
  }

  fs::path folder_;
  BertForPreTraining model_{tiny_config(), ModelUse::inference};
};

NamedTensor& find(std::vector<NamedTensor>& all, const std::string& name) {
  for (NamedTensor& named : all) {
    if (named.name == name) return named;
  }
  throw std::logic_error(name);
}

constexpr const char* kWords = "bert.embeddings.word_embeddings.weight";

TEST_F(HuggingFace, LoadsWhatItSaves) {
  expect_loads();
  const SafetensorsFile file((folder_ / "model.safetensors").string());
  EXPECT_EQ(file.find(kWords)->shape, (std::vector<int64_t>{70, 8}));
  EXPECT_EQ(file.find("cls.predictions.bias")->shape, (std::vector<int64_t>{70}));
  EXPECT_EQ(file.find("cls.predictions.decoder.weight"), nullptr);
  const std::string key = "bert.encoder.layer.1.attention.self.key.weight";
  EXPECT_EQ(file.find(key)->shape, (std::vector<int64_t>{8, 8}));
}

TEST_F(HuggingFace, LoadsOldNames) {
  rename([](std::string name) {
    const size_t norm = name.find("LayerNorm.");
    if (norm == std::string::npos) return name;
    return name.substr(0, norm) + (name.ends_with("weight") ? "LayerNorm.gamma" : "LayerNorm.beta");
  });
  expect_loads();
}

TEST_F(HuggingFace, LoadsEncodersWithoutPrefixAndHeads) {
  rewrite([](auto& all) {
    std::erase_if(all, [](const NamedTensor& n) { return n.name.starts_with("cls."); });
    for (NamedTensor& named : all) named.name = named.name.substr(5);
  });
  expect_loads();
  EXPECT_EQ(load_hugging_face(folder_).model.parts(), (BertParts{true, false, false}));
  rewrite([](auto& all) {
    std::erase_if(all, [](const NamedTensor& n) { return !n.name.starts_with("bert.e"); });
    for (NamedTensor& named : all) named.name = named.name.substr(5);
  });
  expect_loads();
  EXPECT_EQ(load_hugging_face(folder_).model.parts(), (BertParts{false, false, false}));
  expect_refused("tensors are missing: bert.pooler.dense.weight, bert.pooler.dense.bias",
                 {true, false, false});
  expect_refused("missing: cls.predictions.transform.dense.weight", {false, true, false});
}

TEST_F(HuggingFace, SavesTheArchitectureOfItsParts) {
  const auto architecture = [&](const BertParts& parts) {
    BertForPreTraining model(tiny_config(), ModelUse::inference, parts);
    save_hugging_face(folder_, model);
    std::ifstream file(folder_ / "config.json");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const size_t from = text.find("\"Bert") + 1;
    EXPECT_EQ(load_hugging_face(folder_).model.parts(), parts);
    return text.substr(from, text.find('"', from) - from);
  };
  EXPECT_EQ(architecture({true, true, true}), "BertForPreTraining");
  EXPECT_EQ(architecture({false, true, false}), "BertForMaskedLM");
  EXPECT_EQ(architecture({true, false, false}), "BertModel");
  EXPECT_EQ(architecture(parts_for(Objective::question_answering)), "BertForQuestionAnswering");
  EXPECT_EQ(architecture(parts_for(Objective::classification, 4)), "BertForSequenceClassification");
}

TEST_F(HuggingFace, AcceptsEqualCopiesOfTheDecoder) {
  rewrite([](auto& all) {
    all.push_back({"cls.predictions.decoder.weight", find(all, kWords).tensor});
    all.push_back({"cls.predictions.decoder.bias", find(all, "cls.predictions.bias").tensor});
  });
  expect_loads();
  rename([](const std::string& name) {
    return name == "cls.predictions.bias" ? "cls.predictions.decoder.bias" : name;
  });
  expect_loads();
  rewrite([](auto& all) {
    Tensor other = find(all, kWords).tensor.clone();
    other.data<float>()[11] += 1e-6f;
    all.push_back({"cls.predictions.decoder.weight", other});
  });
  const LoadedBert untied = load_hugging_face(folder_);
  EXPECT_FALSE(untied.model.config().tie_word_embeddings);
  EXPECT_GE(untied.model.arena().table().find("cls.predictions.decoder.weight"), 0);
}

TEST_F(HuggingFace, AnUntiedDecoderIsNeededByItsHeadAlone) {
  BertConfig config = tiny_config();
  config.tie_word_embeddings = false;
  BertForPreTraining model(config, ModelUse::inference);
  model.initialize(7);
  save_hugging_face(folder_, model);
  const auto decoder_of = [](const BertForPreTraining& m) {
    const int number = m.arena().table().find("cls.predictions.decoder.weight");
    std::vector<float> values(static_cast<size_t>(m.arena().table()[number].used()));
    m.arena().read(number, values);
    return values;
  };
  EXPECT_EQ(decoder_of(load_hugging_face(folder_).model), decoder_of(model));
  rewrite([](auto& all) {
    std::erase_if(all, [](const NamedTensor& n) { return n.name.ends_with("decoder.weight"); });
  });
  EXPECT_FALSE(load_hugging_face(folder_).model.parts().mlm_head);
  expect_refused("1 of 47 tensors are missing: cls.predictions.decoder.weight",
                 {false, true, false});
}

TEST_F(HuggingFace, AcceptsPrefixesOfWrappersAndShowsOthers) {
  rename([](const std::string& name) { return "module." + name; });
  expect_loads();
  rename([](const std::string& name) { return "module._orig_mod." + name; });
  expect_loads();
  rename([](const std::string& name) { return "tower." + name; });
  expect_refused("37 of 37 tensors are missing");
  expect_refused("The file has 46 tensors, 46 of them under other names: tower.bert.");
  expect_refused("Their names begin with \"tower.\"");
}

TEST_F(HuggingFace, AcceptsNamesOfNvidiasModel) {
  rename([](std::string name) {
    for (const char* part : {"intermediate.dense.", "pooler.dense.", "transform.dense."})
      if (const size_t at = name.find(part); at != std::string::npos)
        name.replace(at, std::string(part).size(),
                     std::string(part, std::string(part).size() - 1) + "_act.");
    return name;
  });
  expect_loads();
}

TEST_F(HuggingFace, ReadsSeveralFilesByTheirIndex) {
  const SafetensorsFile whole((folder_ / "model.safetensors").string());
  nlohmann::json index;
  std::vector<std::vector<NamedTensor>> parts(3);
  for (size_t i = 0; i < whole.entries().size(); ++i) {
    const std::string& name = whole.entries()[i].name;
    parts[i % 3].push_back({name, whole.read(name)});
    index["weight_map"][name] = fmt::format("model-{}-of-3.safetensors", i % 3 + 1);
  }
  const auto file = [&](size_t i) { return folder_ / fmt::format("model-{}-of-3.safetensors", i); };
  for (size_t i = 0; i < 3; ++i) write_safetensors(file(i + 1).string(), parts[i]);
  std::filesystem::remove(folder_ / "model.safetensors");
  const auto write_index = [&] {
    std::ofstream(folder_ / "model.safetensors.index.json") << index.dump();
  };
  write_index();
  expect_loads();
  std::filesystem::remove(file(2));
  expect_refused("1 of 3 files are not there: model-2-of-3.safetensors");
  write_safetensors(file(2).string(), parts[0]);
  expect_refused("which lacks it");
  index["weight_map"]["x"] = std::string(300, 'x');  // longer than a file's name may be
  write_index();
  expect_refused("1 of 4 files are not there: xxx");
  index["weight_map"]["x"] = "../model.safetensors";
  write_index();
  expect_refused("tensor x is in file \"../model.safetensors\"");
}

TEST_F(HuggingFace, ConvertsHalfPrecision) {
  const Tensor words = model_.arena().weight(0);
  for (const DType dtype : {DType::f16, DType::bf16}) {
    rewrite([&](auto& all) {
      NamedTensor& named = find(all, kWords);
      const Tensor half = Tensor::empty(named.tensor.shape(), dtype);
      for (int64_t i = 0; i < half.numel(); ++i) {
        const float x = named.tensor.template data<float>()[i];
        if (dtype == DType::f16) half.data<f16>()[i] = to_f16(x);
        if (dtype == DType::bf16) half.data<bf16>()[i] = to_bf16(x);
      }
      named.tensor = half;
    });
    const LoadedBert loaded = load_hugging_face(folder_);
    // Half a unit in the last place.
    const float relative = dtype == DType::f16 ? 0x1p-11f : 0x1p-8f;
    for (int64_t i = 0; i < 70 * 8; ++i) {
      const float x = words.data<float>()[i];
      ASSERT_NEAR(loaded.model.arena().weight(0).data<float>()[i], x,
                  std::max(std::abs(x) * relative, 0x1p-25f))
          << name_of(dtype) << " " << i;
    }
  }
}

TEST_F(HuggingFace, ListsWhatIsMissingAndWhatIsUnused) {
  rewrite([](auto& all) {
    std::erase_if(all, [](const NamedTensor& n) { return n.name.ends_with("query.bias"); });
    all.push_back({"classifier.weight", Tensor::zeros({2, 8})});
  });
  expect_refused(
      "2 of 46 tensors are missing: bert.encoder.layer.0.attention.self.query.bias, "
      "bert.encoder.layer.1.attention.self.query.bias");
  rewrite([](auto& all) { all.push_back({"classifier.weight", Tensor::zeros({2, 8})}); });
  EXPECT_EQ(load_hugging_face(folder_).unused, std::vector<std::string>{"classifier.weight"});
  rewrite([](auto& all) { all.clear(); });
  expect_refused("37 of 37 tensors are missing");
}

TEST_F(HuggingFace, NamesTensorAndBothShapes) {
  rewrite([](auto& all) { find(all, kWords).tensor = Tensor::zeros({71, 8}); });
  expect_refused("tensor bert.embeddings.word_embeddings.weight is [71, 8], expected [70, 8]");
  rewrite([](auto& all) { find(all, kWords).tensor = Tensor::zeros({70 * 8}); });
  expect_refused("is [560], expected [70, 8]");
  rewrite([](auto& all) { find(all, kWords).tensor = Tensor::zeros({70, 8}, DType::i32); });
  expect_refused("is I32, expected F32, F16, BF16 or F64");
  rewrite([](auto& all) {
    all.push_back({"bert.embeddings.LayerNorm.gamma", Tensor::zeros({8})});
  });
  expect_refused("are both the parameter bert.embeddings.LayerNorm.weight");
}

// A model of these sizes has 2^24 * 2^18 word embeddings: 16 TiB.
TEST_F(HuggingFace, TakesNoMemoryForSizesThatTheFileDoesNotHave) {
  BertConfig config = tiny_config();
  config.vocab_size = int64_t{1} << 24;
  config.hidden_size = config.num_attention_heads = int64_t{1} << 18;
  std::ofstream(folder_ / "config.json") << config.to_json();
  expect_refused("is [70, 8], expected [16777216, 262144]");
}

TEST_F(HuggingFace, SaysHowToConvertOtherFormats) {
  fs::remove(folder_ / "model.safetensors");
  expect_refused("has no model.safetensors");
  for (const char* name : {"tf_model.h5", "bert_model.ckpt.index"}) {
    std::ofstream(folder_ / name) << "x";
    expect_refused("from_tf=True");
    fs::remove(folder_ / name);
  }
  std::ofstream(folder_ / "pytorch_model.bin") << "x";
  expect_refused("glob.glob('" + folder_.string() + "/pytorch_model*.bin')");
  fs::remove(folder_ / "config.json");
  expect_refused("pytorch_model.bin");
  fs::remove(folder_ / "pytorch_model.bin");
  expect_refused("has no model.safetensors");
  fs::remove_all(folder_);
  expect_refused("is not a folder");
}

// The fix that a message advises works: the test runs it.
TEST_F(HuggingFace, TheAdviceForBertConfigJsonWorks) {
  const fs::path spaced = folder_ / "my model";
  fs::create_directory(spaced);
  for (const char* name : {"config.json", "model.safetensors"})
    fs::rename(folder_ / name, spaced / name);
  fs::rename(spaced / "config.json", spaced / "bert_config.json");
  folder_ = spaced;
  std::string message;
  try {
    load_hugging_face(folder_);
  } catch (const DataError& error) {
    message = error.what();
  }
  EXPECT_NE(message.find("my model/config.json: is missing"), std::string::npos) << message;
  ASSERT_NE(message.find("Copy it: cp '"), std::string::npos) << message;
  EXPECT_EQ(std::system(message.substr(message.find("cp '")).c_str()), 0);
  expect_loads();
  fs::remove(folder_ / "bert_config.json");
  fs::remove(folder_ / "config.json");
  expect_refused("config.json: cannot be opened (No such file or directory)");
  folder_ = folder_.parent_path();
}

TEST_F(HuggingFace, RunFolderIsToldFromItsCheckpoints) {
  fs::remove(folder_ / "config.json");
  fs::remove(folder_ / "model.safetensors");
  fs::create_directory_symlink("checkpoint-3", folder_ / "latest");
  expect_refused("has no model.safetensors");  // the link leads nowhere yet
  fs::create_directory(folder_ / "checkpoint-3");
  expect_refused("is a run folder, expected one of its checkpoints. Give " +
                 (folder_ / "latest").string());
}

TEST_F(HuggingFace, WeightsThatAreNotFiniteAreRefusedByName) {
  const std::string name = "bert.encoder.layer.1.output.dense.weight";
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    rewrite([&](auto& all) {
      NamedTensor& named = find(all, name);
      named.tensor = named.tensor.clone();
      named.tensor.template data<float>()[7] = bad;
    });
    try {
      load_hugging_face(folder_);
      ADD_FAILURE() << bad << " was accepted";
    } catch (const NumericError& error) {
      EXPECT_NE(std::string(error.what()).find("tensor " + name), std::string::npos);
    }
  }
}

TEST_F(HuggingFace, CheckpointsAreComparedWithTheirManifest) {
  const auto sum_of = [&](const char* name) {
    std::ifstream file(folder_ / name, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    FileSum sum;
    sum.add(bytes.data(), bytes.size());
    return std::pair<std::string, FileSum>(name, sum);
  };
  std::ofstream(folder_ / "MANIFEST.json")
      << checkpoint_manifest(3, {sum_of("config.json"), sum_of("model.safetensors")});
  expect_loads();
  std::fstream file(folder_ / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-3, std::ios::end);
  const char flipped = static_cast<char>(file.get() ^ 1);
  file.seekp(-3, std::ios::end);
  file.put(flipped);
  file.close();
  EXPECT_THROW(load_hugging_face(folder_), CheckpointError);
  fs::remove(folder_ / "MANIFEST.json");
  load_hugging_face(folder_);  // nothing to compare with
}

TEST_F(HuggingFace, SavingIntoNowhereIsAnError) {
  EXPECT_THROW(save_hugging_face(folder_ / "absent", model_), Error);
}

TEST_F(HuggingFace, LoadsWeightsIntoAModel) {
  BertForPreTraining other(tiny_config());
  EXPECT_TRUE(load_weights(folder_ / "model.safetensors", other).empty());
  expect_weights(other);
  BertConfig wider = tiny_config();
  wider.intermediate_size = 24;
  BertForPreTraining wrong(wider);
  EXPECT_THROW(load_weights(folder_ / "model.safetensors", wrong), DataError);
}

}  // namespace
}  // namespace minibert
