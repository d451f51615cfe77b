// structured_documents.h: documents that say themselves where they begin: the <doc> blocks and JSON
// lines of WikiExtractor, and JSON lines in general. Called by text_reader.cpp for --format wiki
// and jsonl. Each line of a document's text is a paragraph; sentence_splitter.h finds its
// sentences. Easy to break: a line that does not fit the format is an error with its number, never
// text. Source: WikiExtractor 3.0 (attardi/wikiextractor), README and extract.py. Test: ctest -R
// text_reader.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "models/text/text_reader.h"

namespace minibert {

struct DocumentCounts {
  int64_t documents = 0;        // passed to the sink
  int64_t empty_documents = 0;  // without text, left out
};

/// A document a <doc ...> ... </doc> block, or a JSON object with a "text". The title that
/// WikiExtractor repeats as the first line of the text is left out.
/// Errors  DataError: text outside of a block; as read_json_documents.
DocumentCounts read_wiki_documents(LineReader& lines, const std::function<void(Document&&)>& sink);

/// Errors: DataError, with the command that converts it, if a file begins with a JSON list.
void refuse_json_list(std::string_view first_line, const std::string& path);

/// A document a line: the value of `field` in its object, a string or an array of strings. A field
/// that no object has by that name may be a path: "article.body".
/// Errors  DataError: lines that are no JSON objects or lack the field, the first ten by number.
DocumentCounts read_json_documents(LineReader& lines, const std::string& field,
                                   const std::function<void(Document&&)>& sink);

}  // namespace minibert
