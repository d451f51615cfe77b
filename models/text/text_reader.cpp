// text_reader.cpp: bytes -> decompressed bytes -> lines -> documents, one small class per stage.
// See text_reader.h.
#include "models/text/text_reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <regex>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/error.h"
#include "core/nearest_name.h"
#include "core/shell_word.h"
#include "models/text/checksum.h"
#include "models/text/sentence_splitter.h"
#include "models/text/seven_bit.h"
#include "models/text/structured_documents.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

constexpr size_t kChunk = size_t{1} << 16;
constexpr size_t kLongestLine = size_t{64} << 20;
constexpr size_t kReturnsWindow = size_t{1} << 20;  // text without a line feed, then returns count

// ---- Bytes of a file, with their checksum ------------------------------------------------------

class RawFile {
 public:
  explicit RawFile(const std::string& path) : path_(path) {
    if (path == "-") {
      file_ = STDIN_FILENO;
      return;
    }
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    MB_CHECK_AS(DataError, file_ >= 0,
                "{}: cannot be opened ({}). Check the path and its permissions.", path,
                std::strerror(errno));
  }
  ~RawFile() {
    if (file_ != STDIN_FILENO) ::close(file_);
  }
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;

  /// Fills `buffer` with what is there of the next chunk, at least a byte; empty at the end.
  void read(std::string& buffer) {
    buffer.resize(kChunk);
    ssize_t got = 0;
    do {
      got = ::read(file_, buffer.data(), kChunk);
    } while (got < 0 && errno == EINTR);
    MB_CHECK_AS(DataError, got >= 0, "{}: cannot be read ({}). Is it a folder?", path_,
                std::strerror(errno));
    buffer.resize(static_cast<size_t>(got));
    sum_.add(buffer.data(), buffer.size());
  }
  /// Whether read() would return at once.
  bool ready() const {
    pollfd waiting{file_, POLLIN, 0};
    return ::poll(&waiting, 1, 0) != 0;
  }
  const FileSum& sum() const { return sum_; }

 private:
  std::string path_;
  int file_ = -1;
  FileSum sum_;
};

// ---- Decompression -----------------------------------------------------------------------------

constexpr std::string_view kGzip = "\x1F\x8B", kZstd = "\x28\xB5\x2F\xFD";
constexpr std::string_view kSkippable = "\x2A\x4D\x18";  // behind a byte 0x50 to 0x5F

/// Whether this begins, or may yet begin, with a frame of zstd that holds no text: pzstd's files do.
bool begins_skippable(std::string_view start) {
  return !start.empty() && (static_cast<unsigned char>(start[0]) & 0xF0) == 0x50 &&
         (start.substr(1).starts_with(kSkippable) || kSkippable.starts_with(start.substr(1)));
}

class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Decodes some of `input`, appends at most a chunk to `text`, and removes what it used.
  virtual void decode(std::string_view& input, std::string& text) = 0;
  /// Whether it can produce more text without more input.
  virtual bool pending() const { return false; }
  /// Whether the stream may end here.
  virtual bool complete() const { return true; }
};

class PlainDecoder : public Decoder {
 public:
  void decode(std::string_view& input, std::string& text) override {
    text.append(std::exchange(input, {}));
  }
};

class GzipDecoder : public Decoder {
 public:
  explicit GzipDecoder(std::string path) : path_(std::move(path)) {
    MB_ASSERT(inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK, "text_reader: zlib cannot start");
  }
  ~GzipDecoder() override { inflateEnd(&stream_); }

  void decode(std::string_view& input, std::string& text) override {
    if (complete_) {  // files may be concatenated, as by `cat a.gz b.gz`, or padded, as on a tape
      input.remove_prefix(std::min(input.find_first_not_of('\0'), input.size()));
      if (input.empty()) return;
      MB_CHECK_AS(DataError, input.front() == kGzip.front(),
                  "{}: other bytes follow its gzip stream, expected the end of the file or another "
                  "stream. If the text is whole without them, drop them: gzip -dcq {} > clean.txt",
                  path_, path_ == "-" ? "FILE" : shell_word(path_));
      inflateReset(&stream_);
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = static_cast<uInt>(input.size());
    const size_t before = text.size();
    text.resize(before + kChunk);
    stream_.next_out = reinterpret_cast<Bytef*>(text.data() + before);
    stream_.avail_out = static_cast<uInt>(kChunk);
    const int status = inflate(&stream_, Z_NO_FLUSH);
    text.resize(before + kChunk - stream_.avail_out);
    input.remove_prefix(input.size() - stream_.avail_in);
    complete_ = status == Z_STREAM_END;
    pending_ = !complete_ && stream_.avail_out == 0;
    MB_CHECK_AS(
        DataError, complete_ || status == Z_OK || status == Z_BUF_ERROR,
        "{}: gzip stream is damaged ({}), expected valid data. Copy or download the file again.",
        path_, stream_.msg ? stream_.msg : "no detail");
  }
  bool pending() const override { return pending_; }
  bool complete() const override { return complete_; }

 private:
  std::string path_;
  z_stream stream_{};
  bool pending_ = false, complete_ = false;
};

class ZstdDecoder : public Decoder {
 public:
  explicit ZstdDecoder(std::string path) : path_(std::move(path)), stream_(ZSTD_createDStream()) {
    MB_ASSERT(stream_ != nullptr, "text_reader: zstd cannot start");
  }
  ~ZstdDecoder() override { ZSTD_freeDStream(stream_); }

  void decode(std::string_view& input, std::string& text) override {
    ZSTD_inBuffer in{input.data(), input.size(), 0};
    const size_t before = text.size();
    text.resize(before + kChunk);
    ZSTD_outBuffer out{text.data() + before, kChunk, 0};
    const size_t left = ZSTD_decompressStream(stream_, &out, &in);
    text.resize(before + out.pos);
    input.remove_prefix(in.pos);
    MB_CHECK_AS(
        DataError, !ZSTD_isError(left),
        "{}: zstd stream is damaged ({}), expected valid data. Copy or download the file again.",
        path_, ZSTD_getErrorName(left));
    complete_ = left == 0;
    pending_ = !complete_ && out.pos == out.size;
  }
  bool pending() const override { return pending_; }
  bool complete() const override { return complete_; }

 private:
  std::string path_;
  ZSTD_DStream* stream_;
  bool pending_ = false, complete_ = false;
};

/// A kind of file that is no text, by bytes near its beginning.
struct ForeignFile {
  size_t place;
  std::string_view mark;
  const char* what;
  const char* command;  // writes its text, given the file's name; nullptr: there is no common one
};
using namespace std::string_view_literals;
constexpr ForeignFile kForeignFiles[] = {
    {4, "1AY&SY"sv, "packed by bzip2", "bzcat {} > clean.txt"},
    {0, "\xFD\x37zXZ\0"sv, "packed by xz", "xzcat {} > clean.txt"},
    {0, "\x04\x22\x4D\x18"sv, "packed by lz4", "lz4cat {} > clean.txt"},
    {0, "PK\x03\x04"sv, "a zip archive (.zip, .docx, .xlsx)", "unzip -p {} > clean.txt"},
    {0, "7z\xBC\xAF\x27\x1C"sv, "a 7z archive", "7z x -so {} > clean.txt"},
    {0, "Rar!\x1A\x07"sv, "a RAR archive", "unrar p -inul {} > clean.txt"},
    {0, "\x1F\x9D"sv, "packed by compress", "zcat {} > clean.txt"},
    {0, "%PDF-"sv, "a PDF", "pdftotext {} clean.txt"},
    {0, "{\\rtf"sv, "a document in RTF", "pandoc -f rtf -t plain -o clean.txt {}"},
    {0, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv, "a document of old Office (.doc, .xls)",
     "soffice --headless --convert-to txt:Text {}"},
    {0, "PAR1\x15"sv, "a Parquet table", nullptr},
    {0, "ARROW1\0\0"sv, "an Arrow table", nullptr},
    {0, "\xFF\xFE\0\0"sv, "in UTF-32", "iconv -f UTF-32 -t UTF-8 {} > clean.txt"},
    {0, "\0\0\xFE\xFF"sv, "in UTF-32", "iconv -f UTF-32 -t UTF-8 {} > clean.txt"},
    {257, "ustar"sv, "a tar archive", "tar -xOf {} > clean.txt"},
};

/// `command` with the name of the file; standard input has none.
std::string command_on(const char* command, const std::string& path) {
  return fmt::format(fmt::runtime(command), path == "-" ? "FILE" : shell_word(path));
}

bool holds(std::string_view text, size_t place, std::string_view mark) {
  return text.size() >= place && text.substr(place).starts_with(mark);
}

/// Errors: DataError if the file that begins with these bytes is no text.
void refuse_foreign(std::string_view start, const std::string& path) {
  for (const ForeignFile& foreign : kForeignFiles) {
    if (!holds(start, foreign.place, foreign.mark)) continue;
    MB_CHECK_AS(DataError, foreign.command,
                "{}: is {}, expected text. Export the column with the texts as lines", path,
                foreign.what);
    fail<DataError>("{}: is {}, expected text, plain or packed by gzip or zstd. Convert it: {}",
                    path, foreign.what, command_on(foreign.command, path));
  }
}

// ---- Zero bytes --------------------------------------------------------------------------------

/// What is known of a piece of text with zero bytes in it.
struct Zeros {
  size_t bytes = 0, runs = 0;      // zero bytes, and how often they begin
  size_t controls = 0;             // other bytes that no text has
  std::array<size_t, 4> places{};  // zero bytes by their place modulo 4

  explicit Zeros(std::string_view text) {
    for (size_t i = 0; i < text.size(); ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      controls += c != 0 && (c < 0x20 || c == 0x7F) && !(c >= '\t' && c <= '\r');
      if (c != 0) continue;
      ++bytes;
      ++places[i % 4];
      runs += i == 0 || text[i - 1] != '\0';
    }
  }
  /// Whether these are a few that were written by mistake, and not every other byte of UTF-16.
  bool are_stray(std::string_view text) const {
    constexpr size_t kAFew = 8, kSeldom = 32, kRare = 16;
    std::string copy(text);
    const auto invalid = static_cast<size_t>(replace_invalid_utf8(copy));
    const bool dense = runs * 5 >= text.size() || (runs > kAFew && runs * kSeldom >= text.size());
    return !dense && (controls + invalid) * kRare < text.size();
  }
  /// The encoding whose ASCII characters have zeros at these places.
  const char* encoding() const {
    const bool four = 4 * std::min(places[1], places[2]) >= bytes;
    if (four) return places[0] > places[3] ? "UTF-32BE" : "UTF-32LE";
    return places[0] + places[2] > places[1] + places[3] ? "UTF-16BE" : "UTF-16LE";
  }
};

/// Whether more bytes could make one of the marks of `start`.
template <size_t N>
bool may_become(std::string_view start, const std::array<std::string_view, N>& marks) {
  return std::ranges::any_of(marks, [&](std::string_view mark) {
    return start.size() < mark.size() && mark.starts_with(start);
  });
}

std::unique_ptr<Decoder> make_decoder(const std::string& path, std::string_view start) {
  if (start.starts_with(kGzip)) return std::make_unique<GzipDecoder>(path);
  if (start.starts_with(kZstd) || (start.size() > kSkippable.size() && begins_skippable(start)))
    return std::make_unique<ZstdDecoder>(path);
  return std::make_unique<PlainDecoder>();
}

// ---- Encoding ----------------------------------------------------------------------------------

/// Bytes of UTF-8, or of UTF-16 where a byte order mark says so, to UTF-8 without the mark.
class EncodingDecoder {
 public:
  /// Appends what is whole so far. `end`: nothing follows.
  void decode(std::string_view bytes, bool end, std::string& text) {
    held_.append(bytes);
    if (encoding_ == Encoding::unknown) {
      if (!end && may_become(held_, std::array{kMark8, kLittle, kBig})) return;
      find_mark();
    }
    if (encoding_ == Encoding::utf8) {
      text += held_;
      held_.clear();
    } else {
      decode_utf16(end, text);
    }
  }
  bool utf16() const { return encoding_ == Encoding::little || encoding_ == Encoding::big; }

 private:
  enum class Encoding { unknown, utf8, little, big };
  static constexpr std::string_view kMark8 = "\xEF\xBB\xBF", kLittle = "\xFF\xFE",
                                    kBig = "\xFE\xFF";

  void find_mark() {
    encoding_ = held_.starts_with(kLittle) ? Encoding::little
                : held_.starts_with(kBig)  ? Encoding::big
                                           : Encoding::utf8;
    if (utf16()) held_.erase(0, kLittle.size());
    if (held_.starts_with(kMark8)) held_.erase(0, kMark8.size());
  }

  /// A half of a surrogate pair without the other becomes U+FFFD, and so does an odd byte at the end.
  void decode_utf16(bool end, std::string& text) {
    const auto unit = [&](size_t at) {
      const auto first = static_cast<uint8_t>(held_[at]),
                 second = static_cast<uint8_t>(held_[at + 1]);
      return static_cast<uint32_t>(encoding_ == Encoding::little ? first | second << 8
                                                                 : first << 8 | second);
    };
    const auto high = [](uint32_t x) { return x >= 0xD800 && x < 0xDC00; };
    const auto low = [](uint32_t x) { return x >= 0xDC00 && x < 0xE000; };
    size_t at = 0;
    while (at + 1 < held_.size()) {
      const uint32_t first = unit(at);
      if (high(first) && at + 3 >= held_.size() && !end) break;  // its other half may follow
      if (high(first) && at + 3 < held_.size() && low(unit(at + 2))) {
        append_utf8(0x10000 + ((first - 0xD800) << 10) + (unit(at + 2) - 0xDC00), text);
        at += 4;
        continue;
      }
      append_utf8(high(first) || low(first) ? 0xFFFD : first, text);
      at += 2;
    }
    if (end && at < held_.size()) {
      append_utf8(0xFFFD, text);
      at = held_.size();
    }
    held_.erase(0, at);
  }

  Encoding encoding_ = Encoding::unknown;
  std::string held_;  // bytes that may be part of a mark or of a character
};

// ---- UTF-8 -------------------------------------------------------------------------------------

bool blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\f\v") == std::string_view::npos;
}

std::string_view trimmed(std::string_view line) {
  const size_t first = line.find_first_not_of(" \t\r\f\v");
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(" \t\r\f\v") - first + 1);
}

}  // namespace

namespace {

struct Utf8Check {
  int64_t invalid = 0, invalid_c1 = 0, in_runs = 0, misplaced = 0;  // bytes
  int64_t non_ascii = 0;                                            // well-formed characters
};

/// Whether a byte is neither ASCII nor a quote, a dash, an ellipsis or a blank of Windows-1252,
/// beside which its letters stand, too.
bool is_letter(char byte) {
  const auto c = static_cast<unsigned char>(byte);
  constexpr std::string_view kMarks = "\x85\x91\x92\x93\x94\x95\x96\x97\xA0\xAB\xBB";
  return c >= 0x80 && kMarks.find(byte) == std::string_view::npos;
}

/// Whether text[at], which is beyond ASCII, would be a sign between letters, or a capital between
/// small ones, if the text were Windows-1252: so are Polish letters of CP1250 and French ones of a
/// Macintosh or of DOS.
bool is_misplaced(std::string_view text, size_t at) {
  if (at == 0 || at + 1 >= text.size()) return false;
  const auto small = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto letter = [&](char c) {
    return small(c) || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0xC0;
  };
  const char before = text[at - 1], after = text[at + 1];
  const auto c = static_cast<unsigned char>(text[at]);
  constexpr std::string_view
      kCapitals = "\x8A\x8C\x8E\x9F",
      kSmall = "\x83\x9A\x9C\x9E\xAA\xB5\xBA",
      kInWords = "\x85\x91\x92\x93\x94\x96\x97\xA0\xAD\xB4\xB7";  // blank, quotes, dashes, dots
  if (kSmall.find(text[at]) != std::string_view::npos) return false;
  if ((c >= 0xC0 && c <= 0xDE) || kCapitals.find(text[at]) != std::string_view::npos)
    return small(before);
  const bool sign = c < 0xC0 && kInWords.find(text[at]) == std::string_view::npos;
  return sign && letter(before) && letter(after);
}

Utf8Check clean_utf8(std::string& text) {
  Utf8Check check;
  const auto ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::all_of(text.begin(), text.end(), ascii)) return check;
  std::string clean;
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter character = decode_utf8(text, at);
    append_utf8(character.code_point, clean);
    check.non_ascii += character.valid && character.length > 1;
    for (size_t i = at; i < at + character.length && !character.valid; ++i) {
      ++check.invalid;
      check.invalid_c1 += static_cast<unsigned char>(text[i]) < 0xA0;
      check.in_runs +=
          (i > 0 && is_letter(text[i - 1])) || (i + 1 < text.size() && is_letter(text[i + 1]));
      check.misplaced += is_misplaced(text, i);
    }
    at += character.length;
  }
  if (check.invalid > 0) text = std::move(clean);
  return check;
}

}  // namespace

int64_t replace_invalid_utf8(std::string& text) {
  return clean_utf8(text).invalid;
}

namespace {

/// A program that reads standard input, on the text of this file, to clean.txt.
std::string filtered(const SourceStats& stats, const std::string& program) {
  const std::string path = stats.path == "-" ? "FILE" : shell_word(stats.path);
  if (stats.path.ends_with(".gz")) return fmt::format("zcat {} | {} > clean.txt", path, program);
  if (stats.path.ends_with(".zst"))
    return fmt::format("zstdcat {} | {} > clean.txt", path, program);
  return fmt::format("{} < {} > clean.txt", program, path);
}

}  // namespace

std::string conversion(const SourceStats& stats) {
  if (stats.seven_bit == "HZ")  // which iconv of glibc lacks
    return filtered(stats,
                    "python3 -c \"import sys; "
                    "sys.stdout.write(sys.stdin.buffer.read().decode('hz'))\"");
  const std::string from = !stats.seven_bit.empty()     ? stats.seven_bit
                           : !stats.looks_like_latin1() ? "ENCODING"
                           : stats.invalid_c1_bytes > 0 ? "CP1252"
                                                        : "LATIN1";
  return filtered(stats, fmt::format("iconv -f {} -t UTF-8", from));
}

std::string conversion_hint(const SourceStats& stats) {
  if (!stats.seven_bit.empty())
    return fmt::format(" The file is in {}. Convert it: {}", stats.seven_bit, conversion(stats));
  if (stats.looks_like_latin1())
    return " The file looks like Latin-1. Convert it (a Czech, Hungarian or Turkish file with "
           "CP1250 or CP1254 instead): " +
           conversion(stats);
  if (stats.looks_misread())
    return " The file is in another encoding. Convert it, with its name, such as CP1250, KOI8-R, "
           "BIG5, GB18030 or SHIFT_JIS, for ENCODING: " +
           conversion(stats);
  if (stats.invalid_bytes == 0) return "";
  return " Remove them: " +
         filtered(stats, stats.zero_bytes > 0 ? "tr -d '\\000'" : "iconv -c -f UTF-8 -t UTF-8");
}

std::string encoding_note(const SourceStats& stats) {
  if (!stats.seven_bit.empty())
    return "the text was read as ASCII, which loses its other letters." + conversion_hint(stats);
  if (stats.invalid_bytes == 0) return "";
  return fmt::format(
      "{} bytes are {} (first in line {}); they were replaced by U+FFFD, which BERT drops.{}",
      stats.invalid_bytes, stats.zero_bytes == stats.invalid_bytes ? "zero" : "not UTF-8",
      stats.first_invalid_line, conversion_hint(stats));
}

// ---- Lines -------------------------------------------------------------------------------------

struct LineReader::State {
  State(const std::string& path, Empty empty) : file(path) {
    stats.path = path;
    file.read(raw);
    MB_CHECK_AS(DataError, !raw.empty() || empty == Empty::allowed,
                "{}: file is empty, expected text. Check the path, or leave the file out.", path);
    std::string more;
    while (may_become(raw, std::array{kGzip, kZstd}) ||
           (raw.size() <= kSkippable.size() && begins_skippable(raw))) {
      file.read(more);
      if (more.empty()) break;
      raw += more;
    }
    refuse_foreign(raw, path);
    decoder = make_decoder(path, raw);
    input = raw;
  }

  void decode_some() {
    const size_t before = text.size();
    decoded.clear();
    decoder->decode(input, decoded);
    encoding.decode(decoded, /* end= */ false, text);
    check_text(before);
    if (stats.returns) break_at_returns(before);
    stats.text_bytes += static_cast<int64_t>(decoded.size());
    stats.file_bytes = file.sum().bytes - static_cast<int64_t>(input.size());  // so far
  }

  void check_text(size_t before) const {
    const std::string_view added = std::string_view(text).substr(before);
    const size_t zero = added.find('\0');
    if (zero == std::string_view::npos) return;
    if (stats.text_bytes == 0) {  // of a packed file: what is in it
      refuse_foreign(added, stats.path);
      MB_CHECK_AS(DataError, !added.starts_with(kGzip),
                  "{}: is packed twice, expected text packed once. Convert it: {}", stats.path,
                  command_on("zcat {} | zcat > clean.txt", stats.path));
    }
    const Zeros zeros(added);
    MB_CHECK_AS(DataError, zeros.are_stray(added),
                "{}: holds a zero byte at offset {} of its text, expected UTF-8 text (the file "
                "looks binary, or {} without a byte order mark). Give a text file, or convert it: "
                "iconv -f {} -t UTF-8 {} > clean.txt",
                stats.path, stats.text_bytes + static_cast<int64_t>(zero), zeros.encoding(),
                zeros.encoding(), stats.path == "-" ? "" : shell_word(stats.path));
  }

  /// Extends text[begin..] by at most a chunk; false at the end of the file.
  bool fill() {
    text.erase(0, begin);
    begin = 0;
    MB_CHECK_AS(DataError, text.size() <= kLongestLine,
                "{}: line {} is longer than {} MiB, expected text with line ends. Break the text "
                "into lines.",
                stats.path, stats.lines + 1, kLongestLine >> 20);
    if (input.empty() && !decoder->pending()) {
      file.read(raw);
      input = raw;
    }
    if (!input.empty() || decoder->pending()) {
      decode_some();
      return true;
    }
    MB_CHECK_AS(DataError, decoder->complete(),
                "{}: compressed stream ends early, expected an end mark (the file is cut off). "
                "Copy or download it again.",
                stats.path);
    stats.file_bytes = file.sum().bytes;
    stats.crc32 = file.sum().crc32;
    const size_t before = text.size();
    encoding.decode({}, /* end= */ true, text);
    check_text(before);
    if (stats.returns) break_at_returns(before);
    stats.utf16 = encoding.utf16();
    return false;
  }

  /// Whether lines end with carriage returns is decided once: by the first line feed, by the end of the
  /// file, or after kReturnsWindow. Returns where the first line ends.
  size_t decide_returns(size_t line_feed) {
    if (decided || (line_feed == std::string::npos && !ended && text.size() <= kReturnsWindow))
      return line_feed;
    decided = true;
    if (line_feed != std::string::npos || text.find('\r') == std::string::npos) return line_feed;
    stats.returns = true;
    break_at_returns(0);
    return text.find('\n');
  }

  /// Makes a line feed of each carriage return from text[from] on, with the line feed behind it.
  void break_at_returns(size_t from) {
    size_t out = from;
    for (size_t i = from; i < text.size(); ++i) {
      const bool second = text[i] == '\n' && after_return;
      after_return = text[i] == '\r';
      if (!second) text[out++] = after_return ? '\n' : text[i];
    }
    text.resize(out);
  }

  RawFile file;
  std::unique_ptr<Decoder> decoder;
  EncodingDecoder encoding;
  std::string raw, decoded, text;
  std::string_view input;  // the part of raw that is not decoded yet
  size_t begin = 0;        // of the next line in text
  bool ended = false;
  bool decided = false, after_return = false;
  SourceStats stats;
  SevenBitMarks seven_bit;
};

namespace {

/// Zero bytes become U+FFFD, which BERT's cleaning drops as it does them; a text with them would end
/// early in other programs.
void replace_zeros(std::string& line, SourceStats& stats) {
  if (line.find('\0') == std::string::npos) return;
  std::string clean;
  for (const char c : line) {
    if (c != '\0') {
      clean += c;
      continue;
    }
    append_utf8(0xFFFD, clean);
    ++stats.zero_bytes;
    if (stats.invalid_bytes++ == 0) stats.first_invalid_line = stats.lines;
  }
  line = std::move(clean);
}

}  // namespace

LineReader::LineReader(const std::string& path, Empty empty)
    : state_(std::make_unique<State>(path, empty)) {}
LineReader::~LineReader() = default;
LineReader::LineReader(LineReader&&) noexcept = default;
const SourceStats& LineReader::stats() const {
  return state_->stats;
}

bool LineReader::next(std::string& line) {
  State& s = *state_;
  size_t end = s.text.find('\n', s.begin);
  while (end == std::string::npos && !s.ended) {
    const size_t searched = s.text.size() - s.begin;
    s.ended = !s.fill();
    end = s.decide_returns(s.text.find('\n', searched));
  }
  if (end == std::string::npos && s.begin >= s.text.size()) return false;
  const size_t stop = end == std::string::npos ? s.text.size() : end;
  line.assign(s.text, s.begin, stop - s.begin);
  s.begin = end == std::string::npos ? stop : end + 1;
  if (line.ends_with('\r')) line.pop_back();
  ++s.stats.lines;
  const Utf8Check check = clean_utf8(line);
  if (check.invalid > 0 && s.stats.invalid_bytes == 0) s.stats.first_invalid_line = s.stats.lines;
  s.stats.invalid_bytes += check.invalid;
  s.stats.invalid_c1_bytes += check.invalid_c1;
  s.stats.invalid_in_runs += check.in_runs;
  s.stats.invalid_misplaced += check.misplaced;
  s.stats.valid_non_ascii += check.non_ascii;
  replace_zeros(line, s.stats);
  if (s.stats.valid_non_ascii > 0 || s.stats.invalid_bytes > 0)
    s.stats.seven_bit.clear();
  else if (s.seven_bit.look(line))
    s.stats.seven_bit = s.seven_bit.encoding();
  return true;
}

bool LineReader::ready() const {
  const State& s = *state_;
  return s.ended || !s.input.empty() || s.decoder->pending() ||
         s.text.find('\n', s.begin) != std::string::npos || s.file.ready();
}

// ---- Documents ---------------------------------------------------------------------------------

namespace {

/// Whether every match must start the line: '^' comes first and no '|' is outside parentheses.
bool is_anchored(std::string_view expression) {
  int depth = 0;
  bool in_class = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\') {
      ++i;
    } else if (c == '[') {
      if (in_class) return false;  // [[:alpha:]] and the like: not analysed
      in_class = true;
    } else if (in_class) {
      in_class = c != ']';
    } else {
      if (c == '|' && depth == 0) return false;
      depth += (c == '(') - (c == ')');
    }
  }
  return expression.starts_with('^');
}

/// The lines that start a document, by --document-break.
class Heading {
 public:
  explicit Heading(const std::string& expression) {
    if (expression.empty()) return;
    MB_CHECK(expression.size() <= kLongestHeading,
             "--document-break: is {} bytes long, expected at most {}. Shorten the expression.",
             expression.size(), kLongestHeading);
    if (is_anchored(expression)) where_ = std::regex_constants::match_continuous;
    try {
      // By default libstdc++ backtracks: exponential time for '(a+)+$', one call per character.
      regex_.emplace(expression, std::regex::ECMAScript | std::regex::nosubs |
                                     std::regex_constants::__polynomial);
    } catch (const std::regex_error& error) {
      fail<UsageError>(
          "--document-break: '{}' is not a regular expression ({}), expected ECMAScript syntax "
          "without back-references, as in '^(CHAPTER|Chapter) [IVXLC0-9]+'. Quote it for the "
          "shell.",
          expression, error.what());
    }
  }
  bool given() const { return regex_.has_value(); }
  bool matches(const std::string& line) const {
    return given() && line.size() <= kLongestHeading && std::regex_search(line, *regex_, where_);
  }

 private:
  std::optional<std::regex> regex_;
  std::regex_constants::match_flag_type where_ = std::regex_constants::match_default;
};

/// Collects lines into documents and passes each to `sink` at its end.
class DocumentCollector {
 public:
  DocumentCollector(const DocumentOptions& options, const std::function<void(Document&&)>& sink,
                    const SourceStats& source)
      : options_(options), sink_(sink), source_(source) {}

  void text_line(std::string_view line) {
    switch (options_.format) {
      case TextFormat::lines:
        document_.emplace_back(trimmed(line));
        break;
      case TextFormat::paragraphs:
        if (!paragraph_.empty()) paragraph_ += ' ';
        paragraph_ += trimmed(line);
        check_paragraph("MiB", paragraph_.size() >> 20, kLongestLine >> 20);
        break;
      case TextFormat::wiki:
      case TextFormat::jsonl:
        break;  // structured_documents.cpp
    }
  }
  void blank_line() {
    switch (options_.format) {
      case TextFormat::lines:
        if (options_.document_break.empty()) end_document();
        break;
      case TextFormat::paragraphs:
        end_paragraph();
        break;
      case TextFormat::wiki:
      case TextFormat::jsonl:
        break;
    }
  }
  void end_document() {
    end_paragraph();
    if (document_.empty()) return;
    ++documents_;
    sink_(std::move(document_));
    document_ = {};
  }
  /// Drops the collected text: it was front matter.
  void drop() {
    paragraph_.clear();
    document_.clear();
  }
  int64_t documents() const { return documents_; }

 private:
  void end_paragraph() {
    if (paragraph_.empty()) return;
    const std::vector<std::string_view> sentences = split_sentences(paragraph_);
    check_paragraph("sentences", sentences.size(), kMostSentences);
    for (const std::string_view sentence : sentences) document_.emplace_back(sentence);
    paragraph_.clear();
  }
  void check_paragraph(const char* what, size_t found, size_t most) const {
    MB_CHECK_AS(DataError, found <= most,
                "{}: the paragraph up to line {} has {} {}, expected at most {}. Put blank lines "
                "between paragraphs, or give --format lines for a sentence a line.",
                source_.path, source_.lines, found, what, most);
  }

  const DocumentOptions& options_;
  const std::function<void(Document&&)>& sink_;
  const SourceStats& source_;
  std::string paragraph_;
  Document document_;
  int64_t documents_ = 0;
};

}  // namespace

std::span<const TextFormatName> text_formats() {
  static constexpr TextFormatName kFormats[] = {
      {TextFormat::lines, "lines", "one sentence per line, a blank line between documents"},
      {TextFormat::paragraphs, "paragraphs",
       "wrapped prose, a blank line between paragraphs; sentences are found by rules"},
      {TextFormat::wiki, "wiki", "WikiExtractor's output, <doc> blocks or --json, a document each"},
      {TextFormat::jsonl, "jsonl", "a JSON object a line, a document each; --field names its text"},
  };
  return kFormats;
}

const char* name_of(TextFormat format) {
  for (const TextFormatName& row : text_formats()) {
    if (row.format == format) return row.name;
  }
  MB_ASSERT(false, "text_reader: format {} has no name", static_cast<int>(format));
  return "";
}

TextFormat parse_text_format(const std::string& name) {
  std::vector<std::string> known;
  for (const TextFormatName& row : text_formats()) {
    if (name == row.name) return row.format;
    known.push_back(row.name);
  }
  fail<UsageError>("--format: '{}' is unknown, expected one of {}.{} {}.", name,
                   fmt::join(known, ", "), did_you_mean(name, known), describe_text_formats());
}

std::string describe_text_formats() {
  std::string text;
  for (const TextFormatName& row : text_formats())
    text += fmt::format("{}{}: {}", text.empty() ? "" : ". ", row.name, row.summary);
  return text;
}

void check_document_options(const DocumentOptions& options) {
  const bool structured = options.format == TextFormat::wiki || options.format == TextFormat::jsonl;
  MB_CHECK(
      !structured || (options.document_break.empty() && !options.keep_front_matter),
      "--document-break: has no meaning with --format {}, whose documents are marked. Leave it "
      "out.",
      name_of(options.format));
  MB_CHECK(!options.field.empty(), "--field: is empty, expected a name such as text.");
  MB_CHECK(
      options.format == TextFormat::jsonl || options.field == DocumentOptions{}.field,
      "--field: names a field of JSON objects, expected --format jsonl beside it, not {}. Give "
      "--format jsonl.",
      name_of(options.format));
}

namespace {

SourceStats read_structured(LineReader& reader, const DocumentOptions& options,
                            const std::function<void(Document&&)>& sink,
                            LineReader::Empty without_text) {
  const DocumentCounts counts = options.format == TextFormat::wiki
                                    ? read_wiki_documents(reader, sink)
                                    : read_json_documents(reader, options.field, sink);
  SourceStats stats = reader.stats();
  stats.documents = counts.documents;
  stats.empty_documents = counts.empty_documents;
  MB_CHECK_AS(DataError, stats.documents > 0 || without_text == LineReader::Empty::allowed,
              "{}: holds no text ({} documents, all empty). Leave the file out.", stats.path,
              stats.empty_documents);
  return stats;
}

}  // namespace

SourceStats read_documents(const std::string& path, const DocumentOptions& options,
                           const std::function<void(Document&&)>& sink,
                           LineReader::Empty without_text) {
  check_document_options(options);
  const Heading heading(options.document_break);
  LineReader reader(path, without_text);
  if (options.format == TextFormat::wiki || options.format == TextFormat::jsonl)
    return read_structured(reader, options, sink, without_text);
  DocumentCollector collector(options, sink, reader.stats());
  std::string line;
  bool in_front = heading.given();
  int64_t text_lines = 0, front_lines = 0;
  while (reader.next(line)) {
    if (blank(line)) {
      collector.blank_line();
      continue;
    }
    ++text_lines;
    if (!heading.matches(line)) {
      collector.text_line(line);
      continue;
    }
    if (in_front && !options.keep_front_matter) {
      front_lines = text_lines - 1;
      collector.drop();
    }
    in_front = false;
    collector.end_document();
  }
  collector.end_document();
  SourceStats stats = reader.stats();
  stats.documents = collector.documents();
  stats.skipped_lines = front_lines;
  MB_CHECK_AS(DataError, stats.documents > 0 || without_text == LineReader::Empty::allowed,
              "{}: holds no text ({} lines, all blank or headings). Leave the file out.", path,
              stats.lines);
  return stats;
}

}  // namespace minibert
