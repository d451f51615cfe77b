// build_journal.h: how far a large build has come, in OUTPUT.partial, so that after a kill the same
// command continues there. Called by shard_build.cpp, example_stage.cpp and partial_folder.cpp. It is
// written when the text is tokenised and whenever a shard is closed. Easy to break: it is believed
// only if command, files, vocabulary and program are the same, and if what it names has the right
// size; else the build starts from scratch. What it names is on disk before it. Test: ctest -R
// build_journal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/text/text_stage.h"

namespace minibert {

/// Where the examples of a part go on: in this group of documents, after this many of its examples.
struct ExamplePosition {
  int duplicate = 0;
  int64_t first_document = 0, first_example = 0, taken = 0;
};

class BuildJournal {
 public:
  /// The journal of another build, if there is one in `folder`, is not touched. identity: text that is
  /// the same for the same build only; empty: nothing is kept.
  BuildJournal(std::filesystem::path folder, std::string identity);
  /// Whether `folder` has the journal of the build `identity`.
  static bool is_of(const std::filesystem::path& folder, const std::string& identity);

  bool on() const { return !identity_.empty(); }

  /// Notes that the text is tokenised; its arrays go to their files. manifest: of the training part.
  void save_text(const Manifest& manifest, TextPart& training, TextPart& held_out);
  /// The state of save_text(): fills both parts and the sources. False if there is none, or not whole:
  /// then the parts are of no use.
  bool load_text(Manifest& manifest, TextPart& training, TextPart& held_out) const;

  /// Notes the shards that are closed and where to go on. manifest: their entries, counts and facts.
  void save_examples(bool held_out, const Manifest& manifest, const ExamplePosition& position);
  std::optional<std::pair<Manifest, ExamplePosition>> load_examples(bool held_out) const;

  /// Removes files that were being written when the build was killed.
  void tidy() const;
  /// Removes the journal and the text's files: the build is complete, or begins again.
  void remove() const;

 private:
  void start();
  std::filesystem::path file(const std::string& name) const;
  std::filesystem::path folder_;
  std::string identity_;
};

}  // namespace minibert
