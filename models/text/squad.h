// squad.h: files of SQuAD 1.1: questions, each with its paragraph and its answers, and the predictions
// about them. The first stage of fine-tuning: file -> questions -> windows (squad_windows.h) -> packed
// batches. Called by the verbs `finetune squad` and `eval squad`. Easy to break: answer_start counts
// characters (code points), not bytes, and all faults of a file are reported at once.
// Test: ctest -R models_text_squad_test. Source: rajpurkar/SQuAD-explorer (the format).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace minibert {

struct SquadAnswer {
  std::string text;
  int64_t start = 0;  // characters of the context before it
};

struct SquadQuestion {
  std::string id, text;
  size_t context = 0;                // number in SquadData::contexts
  std::vector<SquadAnswer> answers;  // in training the first counts
};

struct SquadData {
  std::string file;
  std::vector<std::string> contexts;
  std::vector<SquadQuestion> questions;  // in the order of the file
  std::vector<std::string> notes;        // what a reader should know
};

/// What questions must have.
enum class SquadUse {
  train,     // an answer that stands where answer_start says
  evaluate,  // an answer, wherever it stands
};

struct SquadReading {
  SquadUse use = SquadUse::train;
  /// Leaves out questions whose answer is not in its context, with a note, instead of failing.
  bool skip_bad_answers = false;
};

/// Reads a file, plain, gzip or zstd: SQuAD's own form, or rows as Hugging Face's `datasets` has
/// them, with the lists "text" and "answer_start" under "answers": JSON lines, a list, or a list
/// under "data".
/// Errors  DataError naming the file and the first ten of each kind of fault, with the fix: not JSON,
///         missing keys, questions that cannot be answered (SQuAD 2.0), an id twice, answers that are
///         not in their context, no questions at all.
SquadData read_squad(const std::filesystem::path& file, const SquadReading& reading);

/// Answers by question id, as a file of predictions has them: {"ID": "text", ...}.
using SquadPredictions = std::map<std::string, std::string>;
/// Errors: DataError naming file and id.
SquadPredictions read_predictions(const std::filesystem::path& file);

}  // namespace minibert
