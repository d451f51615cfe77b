// text_reader.h: files of raw text (plain, gzip, zstd, or "-" for standard input; UTF-8, or UTF-16 with
// a byte order mark) to clean UTF-8 lines, and lines to documents of sentences. The first stage of
// text -> documents -> WordPiece ids -> examples. Called by models/text/shard_build.cpp and every verb
// that reads text; memory is bounded by the longest document. Easy to break: compression and encoding
// are detected by the first bytes, never by the name, and the checksum is that of the file on disk,
// before decompression; a line from a pipe is passed on when it is whole, without waiting for more.
// Test: ctest -R text_reader.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace minibert {

/// What was read from one file; final once the reader has reached its end.
struct SourceStats {
  std::string path;
  int64_t file_bytes = 0;  // as on disk, before decompression
  uint32_t crc32 = 0;      // zlib's crc32 of those bytes
  int64_t text_bytes = 0;  // after decompression
  bool utf16 = false;      // began with UTF-16's byte order mark: was converted
  int64_t lines = 0;
  int64_t invalid_bytes = 0;       // bytes that are not UTF-8, replaced by U+FFFD
  int64_t first_invalid_line = 0;  // 1-based; 0 if there is none
  int64_t skipped_lines = 0;       // text before the first match of document_break
  int64_t documents = 0;           // those that are not empty
  int64_t empty_documents = 0;     // of formats that mark documents: those without text
  int64_t valid_non_ascii = 0;     // well-formed characters beyond ASCII
  int64_t invalid_c1_bytes = 0;    // invalid bytes 0x80 to 0x9F: letters and quotes of Windows-1252
  int64_t zero_bytes = 0;          // of the invalid ones
  int64_t invalid_in_runs = 0;     // of the invalid ones: those beside another byte beyond ASCII
  int64_t invalid_misplaced = 0;   // those that Windows-1252 reads as a sign or a capital in a word
  bool returns = false;            // carriage returns alone end its lines
  std::string seven_bit;  // ISO-2022-JP or the like (seven_bit.h), read as ASCII; "" if none

  /// Whether what is not UTF-8 stands in runs, as words of other alphabets do; a letter with an accent
  /// stands between ASCII's. Of Big5 a quarter stands alone, since the second byte may be ASCII.
  bool in_runs() const {
    constexpr int64_t kAFew = 16;
    const int64_t invalid = invalid_bytes - zero_bytes;
    return invalid > kAFew && 5 * (invalid - invalid_in_runs) < 2 * invalid;
  }
  /// Whether what is not UTF-8 is text in another encoding. Many pairs of bytes of GB18030, EUC and
  /// Shift-JIS are characters of UTF-8, too.
  bool looks_misread() const {
    const int64_t invalid = invalid_bytes - zero_bytes;
    return invalid > 0 && valid_non_ascii < (in_runs() ? invalid : invalid / 10 + 1);
  }
  /// Whether that one is Latin-1: a few letters with accents, while in other alphabets nearly all
  /// letters are beyond ASCII, and what is a letter in Polish or on a Macintosh is often a sign here.
  bool looks_like_latin1() const {
    const int64_t invalid = invalid_bytes - zero_bytes;
    return looks_misread() && !in_runs() && 2 * invalid < text_bytes &&
           10 * invalid_misplaced <= invalid;
  }
};

/// The command that converts a file to UTF-8: one that looks_misread(), where the user has to put a name
/// in unless it looks_like_latin1(), or of seven_bit letters.
std::string conversion(const SourceStats& stats);
/// What to do about bytes that are not UTF-8, or letters that ASCII's bytes hide: " The file looks like
/// Latin-1. Convert it: iconv ..."; "" if there are none.
std::string conversion_hint(const SourceStats& stats);
/// "3 bytes are not UTF-8 (first in line 1); they were replaced by ...", with that hint; "" if all is text.
std::string encoding_note(const SourceStats& stats);

/// Lines of one text file, without their line ends and without a byte order mark, always valid
/// UTF-8; stray zero bytes count as malformed. A line ends with a line feed, or with a carriage return
/// and one; in a file without line feeds (or in whose first MiB there is none) with a carriage return,
/// as on old Macintoshes.
/// Errors  DataError (exit code 3): file missing, unreadable, empty unless that is allowed, binary (or
///         of UTF-16 without its mark), packed by another program than gzip and zstd, a compressed
///         stream that is damaged or ends early, a line longer than 64 MiB.
class LineReader {
 public:
  enum class Empty { refused, allowed };
  explicit LineReader(const std::string& path, Empty empty = Empty::refused);
  ~LineReader();
  LineReader(LineReader&&) noexcept;

  /// False at the end of the file. `line` keeps its capacity between calls.
  bool next(std::string& line);
  /// Whether next() would not have to wait for someone to write: false on a pipe that is silent now.
  bool ready() const;
  const SourceStats& stats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Replaces malformed sequences by U+FFFD, as Python's decode(errors="replace") does. Returns the
/// number of their bytes.
int64_t replace_invalid_utf8(std::string& text);

enum class TextFormat {
  /// One sentence per line, a blank line between documents (as Google's create_pretraining_data).
  lines,
  /// Prose wrapped in lines, a blank line between paragraphs; sentence_splitter.h finds sentences.
  paragraphs,
  /// Output of WikiExtractor: a document a <doc> block, or a JSON object a line.
  wiki,
  /// A JSON object a line, a document each.
  jsonl,
};

/// A format as flags, manifests and messages name it.
struct TextFormatName {
  TextFormat format;
  const char* name;
  const char* summary;  // for --help and for the error about an unknown name
};
/// The one table of formats. A new format is a row here and its cases in DocumentCollector.
std::span<const TextFormatName> text_formats();
const char* name_of(TextFormat format);
/// Errors: UsageError for a name that is not in the table.
TextFormat parse_text_format(const std::string& name);
/// "lines: one sentence per line, ...; paragraphs: ...", for --help.
std::string describe_text_formats();

/// Bytes. Longer lines are never a document break, and a longer expression is an error.
inline constexpr size_t kLongestHeading = 1000;

struct DocumentOptions {
  TextFormat format = TextFormat::lines;
  /// ECMAScript regular expression without back-references, searched for in each line of up to
  /// kLongestHeading bytes (`^` ties it to the start). A matching line starts a new document and is
  /// not text itself. Text before the first match of a file is front matter and is skipped unless
  /// keep_front_matter. A file without a match is one document. If empty, `lines` are cut at blank
  /// lines and a file of `paragraphs` is one document.
  std::string document_break = {};
  bool keep_front_matter = false;
  /// The text of a document of jsonl: a key, or a path such as "article.body".
  std::string field = "text";
};

/// One document: its sentences in order, none empty.
using Document = std::vector<std::string>;

/// Whether a document is held out of training: every K-th over all files, counted from 1 (0: none).
/// `tokenizer train` and `data build` share this rule, so neither sees what the other holds out.
constexpr bool is_held_out(int64_t document_number, int64_t hold_out_every) {
  return hold_out_every > 0 && document_number % hold_out_every == 0;
}

/// Errors: UsageError for options that have no meaning together.
void check_document_options(const DocumentOptions& options);

/// Reads a file and calls `sink` for each non-empty document, in order. A document never crosses
/// the end of a file.
/// Errors  as LineReader; DataError if the file holds no text at all, unless that is allowed;
///         UsageError if document_break is not a regular expression.
SourceStats read_documents(const std::string& path, const DocumentOptions& options,
                           const std::function<void(Document&&)>& sink,
                           LineReader::Empty without_text = LineReader::Empty::refused);

/// Whether one of so many files may hold no text: where it is the only one, something is wrong.
constexpr LineReader::Empty without_text_among(size_t files) {
  return files > 1 ? LineReader::Empty::allowed : LineReader::Empty::refused;
}

}  // namespace minibert
