// draw_recorder.cpp: see draw_recorder.h.
#include "models/text/draw_recorder.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace minibert {
namespace {

nlohmann::json to_json(const std::vector<Draw>& draws) {
  nlohmann::json values = nlohmann::json::array();
  for (const Draw& draw : draws) {
    if (draw.is_integer) {
      values.push_back(static_cast<int64_t>(draw.value));
    } else {
      values.push_back(draw.value);
    }
  }
  return values;
}

}  // namespace

DrawRecorder::DrawRecorder(const std::filesystem::path& path) {
  if (path.empty()) return;
  out_.open(path);
  MB_CHECK_AS(DataError, out_.good(), "{}: cannot be written. Check the path of --record-draws.",
              path.string());
}

void DrawRecorder::documents(const DocumentSet& documents) {
  if (!on()) return;
  for (int64_t d = 0; d < documents.documents(); ++d) {
    nlohmann::json sentences = nlohmann::json::array();
    const SentenceRun run = documents.read(d);
    for (int64_t s = 0; s < run.size(); ++s) {
      const auto ids = run[s];
      sentences.push_back(std::vector<int32_t>(ids.begin(), ids.end()));
    }
    out_ << nlohmann::json{{"document", d}, {"sentences", sentences}} << '\n';
  }
}

void DrawRecorder::pass(int64_t document, int duplicate, const std::vector<Draw>& draws) {
  if (!on()) return;
  out_ << nlohmann::json{{"document", document},
                         {"duplicate", duplicate},
                         {"draws", to_json(draws)}}
       << '\n';
}

void DrawRecorder::mask(int64_t example, const std::vector<Draw>& draws) {
  if (on()) out_ << nlohmann::json{{"example", example}, {"draws", to_json(draws)}} << '\n';
}

}  // namespace minibert
