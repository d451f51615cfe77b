// tokenizer_golden.h: the goldens that tools/goldens/tokenizer.py wrote, for the tests of the
// tokenizer. Called by the tests beside it. Source of every expected value: `tokenizers` 0.23.3 and
// Transformers' BertTokenizer.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include "models/text/vocab.h"

namespace minibert::testing {

inline std::filesystem::path source_folder() {
  const char* folder = std::getenv("MINIBERT_SOURCE_DIR");
  return folder != nullptr ? folder : std::filesystem::current_path();
}

inline std::filesystem::path tokenizer_goldens() {
  return source_folder() / "tests/goldens/tokenizer";
}

inline const nlohmann::json& tokenizer_golden() {
  static const auto golden =
      nlohmann::json::parse(std::ifstream(tokenizer_goldens() / "conformance.json"));
  return golden;
}

inline Vocab uncased_vocab() {
  return Vocab::load(tokenizer_goldens() / "bert-base-uncased-vocab.txt");
}
inline Vocab cased_vocab() {
  return Vocab::load(tokenizer_goldens() / "austen-cased-vocab.txt");
}

}  // namespace minibert::testing
