// corpus_lint.h: faults of a corpus that training would not notice: repeated text, documents that are
// none, text lost or damaged, a vocabulary of another language. Called by data build, data inspect and
// train's plan, with what the manifest holds. Easy to break: each finding names a fix, and
// tests/models/text/corpus_lint_test.cpp carries it out; the novels of data/austen give none.
// Test: ctest -R corpus_lint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "models/text/manifest.h"

namespace minibert {

struct CorpusFinding {
  std::string name;     // "repeated_lines"
  double share = 0;     // of the documents, tokens, sentences or examples that it concerns, 0 to 1
  std::string message;  // what, and how to fix it
};

/// The findings, those that concern most of the data first. empty_masks: examples without a masked
/// token as counted from the records; left out: as the manifest says.
std::vector<CorpusFinding> lint(const Manifest& manifest, std::optional<int64_t> empty_masks = {});

/// "name (12.3 %): message", at most `most` of them and a line that says how many are left out.
std::vector<std::string> describe(const std::vector<CorpusFinding>& findings, size_t most);
nlohmann::json to_json(const std::vector<CorpusFinding>& findings);

}  // namespace minibert
