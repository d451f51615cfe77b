// manifest_json.h: a manifest from JSON, for files other than manifest.json. Called by
// build_journal.cpp.
// Easy to break: it throws what the JSON library throws; read_manifest() says it in words.
// Test: ctest -R build_journal.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "models/text/manifest.h"

namespace minibert {

/// The inverse of to_json(Manifest). Errors: nlohmann::json::exception, std::logic_error, UsageError.
Manifest manifest_from_json(const nlohmann::json& value);

}  // namespace minibert
