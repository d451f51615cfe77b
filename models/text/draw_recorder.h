// draw_recorder.h: writes documents and random draws of a build to a file, so that another program can
// replay them (tools/goldens/examples_reference.py). Called by example_stage.cpp. Easy to break:
// the lines stand in the order of the draws. Test: ctest -R examples.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <vector>

#include "models/text/document_set.h"
#include "models/text/masking.h"

namespace minibert {

/// One JSON object per line: {"document", "sentences"}, then {"document", "duplicate", "draws"} for
/// each pass over a document and {"example", "draws"} for each static mask.
class DrawRecorder {
 public:
  /// Records nothing if `path` is empty. Errors: DataError if it can't be written.
  explicit DrawRecorder(const std::filesystem::path& path);
  bool on() const { return out_.is_open(); }

  void documents(const DocumentSet& documents);
  void pass(int64_t document, int duplicate, const std::vector<Draw>& draws);
  void mask(int64_t example, const std::vector<Draw>& draws);

 private:
  std::ofstream out_;
};

}  // namespace minibert
